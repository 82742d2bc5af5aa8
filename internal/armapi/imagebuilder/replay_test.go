//go:build conformance

package imagebuilder_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi/imagebuilder"
	"goldsmith/internal/armapi/imagebuilder/imagebuildertest"
	"goldsmith/internal/artifact"
	"goldsmith/internal/build"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/catalog"
	"goldsmith/internal/conformance"
	"goldsmith/internal/event"
	"goldsmith/internal/network/imds"
)

// unasked issues no tokens.
type unasked struct{}

func (unasked) IdentityToken(context.Context, string, string) (imds.Token, error) {
	return imds.Token{}, arm.Errorf(arm.CodeNotAllowed, "nobody asks for a token in a recording")
}

// recording is a conversation of a real client with the real service.
type recording struct {
	Exchanges []exchange `json:"exchanges"`
}

type exchange struct {
	Method  string          `json:"method"`
	Path    string          `json:"path"`
	Query   string          `json:"query"`
	Request json.RawMessage `json:"requestBody"`
	Status  int             `json:"status"`
	Header  map[string]any  `json:"responseHeaders"`
	Body    json.RawMessage `json:"responseBody"`
}

func (x exchange) has(text string) bool { return strings.Contains(string(x.Body), text) }
func (x exchange) poll() bool           { return strings.Contains(x.Path, "/operations/") }

func (x exchange) decoded(t *testing.T) any {
	t.Helper()
	if len(x.Body) == 0 {
		return nil
	}
	var v any
	if err := json.Unmarshal(x.Body, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// settleTime is how long a read may take to become what was recorded.
const settleTime = time.Minute

// scripts is where the recorded templates have their scripts.
const scripts = "https://raw.githubusercontent.com/"

// TestRecordings replays every recording in order. Requests to other providers
// are the scene of these; their providers have tests of their own.
func TestRecordings(t *testing.T) {
	files := conformance.Glob(t, "recordings", "*.json")
	if len(files) < 25 {
		t.Fatalf("%d recordings", len(files))
	}
	excused := map[string]bool{}
	all := 0
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			var rec recording
			if err := json.Unmarshal(conformance.Read(t, file), &rec); err != nil {
				t.Fatal(err)
			}
			s := newScene(t, filepath.Base(file))
			s.prepare(rec)
			played := 0
			for i, x := range rec.Exchanges {
				if strings.Contains(x.Path, "/"+imagebuilder.Namespace+"/") {
					s.ready(x)
					s.play(i, x, excused)
					played++
				}
			}
			all++
			if played == 0 {
				t.Error("no exchange was played")
			}
		})
	}
	for _, d := range differences {
		if all == len(files) && !excused[d.file+d.path] {
			t.Errorf("the difference %s in %s is gone: take it out of the table", d.path, d.file)
		}
	}
}

// scene is a server in the state that a recording needs.
type scene struct {
	*imagebuildertest.Door
	t      *testing.T
	file   string
	bound  bindings
	gate   gate
	serve  func() // ends the service, nil while none works
	lastOp string
}

func newScene(t *testing.T, file string) *scene {
	t.Helper()
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("# " + r.URL.Path + "\n")) }))
	t.Cleanup(web.Close)
	mirror, err := artifact.ParseMirror(scripts + "=" + web.URL + "/")
	if err != nil {
		t.Fatal(err)
	}
	d := imagebuildertest.New(t, func(c *build.Config) { c.Fetch.Mirrors = append(c.Fetch.Mirrors, mirror) })
	// Machines may have identities, as in a service; no recorded one asks for a token.
	d.Engine.Equip("", nil, unasked{})
	s := &scene{Door: d, t: t, file: file, bound: bindings{"sub": d.Engine.Subscription()}}
	d.SetScript(buildtest.Script{Helper: s.gate.helper, Command: obedient})
	if strings.HasPrefix(file, "cli-test_image_build_trigger") {
		s.bound["trigger1"] = "trigger" // the recording has the name both ways
	}
	d.PutNamedGroup("rg", "westus")
	disk := filepath.Join(d.Scratch, "base.raw")
	if err := buildtest.WriteBaseDisk(disk); err != nil {
		t.Fatal(err)
	}
	add := func(publisher, offer, sku, version string, os catalog.OS) {
		u := catalog.URN{Publisher: publisher, Offer: offer, SKU: sku, Version: version}
		if _, err := d.Engine.Catalog().Add(t.Context(), u, disk, catalog.AddOptions{OS: os, Generation: 2}, event.Discard); err != nil {
			t.Fatal(err)
		}
	}
	add("Canonical", "UbuntuServer", "18.04-LTS", "18.04.201808140", catalog.Linux)
	add("Canonical", "UbuntuServer", "18.04-LTS", newest(t, file), catalog.Linux)
	add("Canonical", "UbuntuServer", "18_04-LTS-GEN2", "18.04.202401161", catalog.Linux)
	add("MicrosoftWindowsServer", "WindowsServer", "2019-Datacenter", "2019.0.20190214", catalog.Windows)
	return s
}

// newest is the version that was the latest when a recording was made.
func newest(t *testing.T, file string) string {
	switch {
	case strings.Contains(file, "Stop-AzImageBuilderTemplate-2020"):
		return "18.04.202004290"
	case strings.Contains(file, "Start-AzImageBuilderTemplate-2022"):
		return "18.04.202208100"
	case strings.Contains(file, "-2025"), strings.Contains(file, "New-AzImageBuilderTemplate"):
		return "18.04.202401161"
	}
	return "18.04.202306070"
}

// on lets the service work, off stops it.
func (s *scene) on() {
	if s.serve == nil {
		s.serve = s.Serve(4)
	}
}

func (s *scene) off() {
	if s.serve != nil {
		s.serve()
		s.serve = nil
	}
}

// ready brings the service to the state that an exchange was recorded in.
func (s *scene) ready(x exchange) {
	s.t.Helper()
	switch {
	case x.Method == "POST" && strings.HasSuffix(x.Path, "/cancel"):
		s.gate.close()
		s.on()
		s.started(s.bound.expand(strings.TrimSuffix(x.Path, "/cancel")))
	case strings.Contains(x.Path, "/triggers/") && x.Method == "PUT":
		s.on()
		s.Provisioned(s.bound.expand(templateOf(x.Path)))
	case x.Method == "PUT", x.Method == "DELETE":
		s.off()
	case x.Method == "POST":
		s.gate.open()
		s.off()
	case x.Method != "GET":
		s.on()
	case x.has(`"InProgress"`), x.has(`"Creating"`), x.has(`"Queued"`):
	case x.has(`"Building"`), x.has(`"Canceling"`):
		s.gate.close()
		s.on()
	default:
		s.gate.open()
		s.on()
	}
}

// started starts a build of a template unless one was, and waits until it goes
// on.
func (s *scene) started(id string) {
	s.t.Helper()
	s.Provisioned(id)
	if _, err := s.Engine.LastRun(s.t.Context(), id); err != nil {
		s.Want(http.StatusAccepted, "POST", id+"/run?api-version=2022-07-01", nil)
	}
	s.running(id)
}

// running waits until the build of a template goes on.
func (s *scene) running(id string) {
	s.t.Helper()
	s.Until("the build goes on", func() bool {
		r, err := s.Engine.LastRun(s.t.Context(), id)
		if err != nil {
			s.t.Fatal(err)
		}
		return r.State == "Running" && r.SubState == "Building"
	})
}

// play sends a request and compares the answer. A read is repeated until it is
// as recorded, or for settleTime.
func (s *scene) play(i int, x exchange, excused map[string]bool) {
	s.t.Helper()
	path := s.bound.expand(x.Path)
	if x.poll() && strings.Contains(path, "{") { // its request was not recorded
		path = s.lastOp
	}
	late := time.NewTimer(settleTime)
	defer late.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		a := s.send(x, path)
		bound := s.bound.clone()
		c := comparison{t: s.t, bound: bound}
		c.answer(x, a)
		var unexplained []string
		for _, d := range c.found {
			if e := excuse(s.file+"#"+strconv.Itoa(i), d.path); e != nil {
				excused[e.file+e.path] = true
			} else {
				unexplained = append(unexplained, d.path+": "+d.text)
			}
		}
		if len(unexplained) == 0 {
			s.bound = bound
			return
		}
		if x.Method != "GET" {
			s.t.Errorf("exchange %d, %s %s:\n  %s", i, x.Method, x.Path, strings.Join(unexplained, "\n  "))
			s.bound = bound
			return
		}
		select {
		case <-tick.C:
		case <-late.C:
			s.t.Errorf("exchange %d, %s %s:\n  %s\n%s", i, x.Method, x.Path, strings.Join(unexplained, "\n  "), a.Text)
			return
		}
	}
}

func (s *scene) send(x exchange, path string) imagebuildertest.Answer {
	s.t.Helper()
	query := x.Query
	if at := strings.Index(query, "&t="); at >= 0 {
		query = query[:at] + "&t=638&c=MII&s=x&h=y" // as clients send back what they got
	}
	if !strings.Contains(path, "?") {
		path += "?" + query
	}
	var body any
	if len(x.Request) > 0 && string(x.Request) != "null" {
		// What the recorded scripts are is not known: their digests are left out.
		body = sentDigest.ReplaceAllString(s.bound.expand(string(x.Request)), `"sha256Checksum":""`)
	}
	if strings.Contains(string(x.Body), "LinkedAuthorizationFailed") {
		// The subscription of the identity is not in the recorded request.
		s.bound["sub2"] = otherSubscription
		text := string(x.Request)
		at := strings.Index(text, "userAssignedIdentities")
		body = s.bound.expand(text[:at] + strings.Replace(text[at:], "{sub}", "{sub2}", 1))
	}
	a := s.Do(x.Method, path, body)
	if op := a.Header.Get("Azure-AsyncOperation"); op != "" {
		s.lastOp = op
	}
	return a
}

var sentDigest = regexp.MustCompile(`"sha256Checksum": ?"[0-9a-f]{64}"`)

const otherSubscription = "99999999-9999-9999-9999-999999999999"

// prepare makes what a recording finds there already.
func (s *scene) prepare(rec recording) {
	s.t.Helper()
	first := map[string]int{} // by template path
	for i, x := range rec.Exchanges {
		if id := templateOf(x.Path); id != "" {
			if _, ok := first[id]; !ok {
				first[id] = i
			}
		}
		for _, id := range templatesIn(x.decoded(s.t)) {
			if _, ok := first[id]; !ok {
				first[id] = i
			}
		}
	}
	for _, id := range sortedKeys(first) {
		x := rec.Exchanges[first[id]]
		if x.Method == "PUT" && strings.EqualFold(x.Path, id) || strings.Contains(s.file, "Remove-AzImageBuilderTrigger") {
			if x.Method == "PUT" {
				if len(x.Request) > 0 && x.Request[0] == '"' { // the recording has no more than a note
					rec.Exchanges[first[id]].Request = s.sent(id, rec)
				}
				s.identities(rec.Exchanges[first[id]].Request)
				s.targets(rec.Exchanges[first[id]].Request)
				s.networks(rec.Exchanges[first[id]].Request)
			}
			continue
		}
		s.make(id, rec)
	}
}

// sent is a body that makes a template as a recording shows it.
func (s *scene) sent(id string, rec recording) json.RawMessage {
	s.t.Helper()
	shown, _ := s.shown(id, rec)
	raw, err := json.Marshal(shown)
	if err != nil {
		s.t.Fatal(err)
	}
	return raw
}

// make makes a template as a recording shows it later.
func (s *scene) make(id string, rec recording) {
	s.t.Helper()
	raw := s.sent(id, rec)
	_, version := s.shown(id, rec)
	s.identities(raw)
	s.targets(raw)
	s.networks(raw)
	x := exchange{Method: "PUT", Path: id, Query: "api-version=" + version, Request: raw}
	a := s.send(x, s.bound.expand(id))
	if a.Status != http.StatusCreated {
		s.t.Fatalf("making %s: %d %s", id, a.Status, a.Text)
	}
	if len(rec.Exchanges) > 0 && rec.Exchanges[0].poll() {
		return // the recording watches it being made
	}
	s.on()
	if op := s.Follow(a); op.Field("status") != "Succeeded" {
		s.t.Fatalf("making %s: %s", id, op.Text)
	}
	s.history(id, rec)
}

// history gives a template the run that a recording finds there.
func (s *scene) history(id string, rec recording) {
	s.t.Helper()
	run := func() imagebuildertest.Answer {
		s.on()
		return s.Want(http.StatusAccepted, "POST", s.bound.expand(id)+"/run?api-version=2022-07-01", nil)
	}
	for _, x := range rec.Exchanges {
		switch {
		case strings.HasPrefix(x.Path, id+"/runOutputs"):
			s.Follow(run())
			return
		case strings.HasPrefix(x.Path, id+"/triggers") && x.Method == "GET":
			for _, name := range triggersIn(x.decoded(s.t)) {
				a := s.Want(http.StatusCreated, "PUT", s.bound.expand(id)+"/triggers/"+s.bound.expand(name)+"?api-version=2022-07-01", sourceImage)
				s.Follow(a)
			}
			return
		case strings.HasPrefix(x.Path, id) && x.Method == "POST" && strings.HasSuffix(x.Path, "/run"), x.Method == "PUT":
			return
		}
		last, ok := lastRunIn(x.decoded(s.t), id)
		if !ok {
			continue
		}
		switch last {
		case "Succeeded":
			s.Follow(run())
		case "Running":
			s.gate.close()
			run()
			s.running(s.bound.expand(id))
		case "Canceled":
			s.gate.close()
			a := run()
			s.running(s.bound.expand(id))
			s.Want(http.StatusNoContent, "POST", s.bound.expand(id)+"/cancel?api-version=2022-07-01", nil)
			s.Follow(a)
		}
		return
	}
}

// identities makes the managed identities that a body names.
func (s *scene) identities(raw json.RawMessage) {
	s.t.Helper()
	const mark = "/userassignedidentities/"
	text := strings.ToLower(string(raw))
	for {
		at := strings.Index(text, mark)
		if at < 0 {
			return
		}
		text = text[at+len(mark):]
		name, _, _ := strings.Cut(text, `"`)
		s.putIdentity(s.bound.expand(name))
	}
}
