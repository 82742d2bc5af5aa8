package imagebuilder_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/imagebuilder"
	"goldsmith/internal/armapi/imagebuilder/imagebuildertest"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/event"
)

// blocked makes guests wait in the command "echo blocked" until lift is called.
func blocked(d *imagebuildertest.Door) (reached <-chan struct{}, lift func()) {
	at, up := make(chan struct{}, 16), make(chan struct{})
	d.SetScript(buildtest.Script{Command: func(ctx context.Context, _ *buildtest.Guest, _, text string) (int, bool) {
		if strings.Contains(text, "echo blocked") {
			at <- struct{}{}
			select {
			case <-up:
			case <-ctx.Done():
			}
		}
		return 0, false
	}})
	return at, func() { close(up) }
}

var waiting = object{"customize": []any{object{"type": "Shell", "name": "wait", "inline": []string{"echo before", "echo blocked"}}}}

func extension(d *imagebuildertest.Door, rest string) string {
	sep := "?"
	if strings.Contains(rest, "?") {
		sep = "&"
	}
	return "/subscriptions/" + d.Engine.Subscription() + "/providers/" + imagebuilder.Extension + "/runs" + rest + sep + "api-version=2026-01-01"
}

func TestRunStates(t *testing.T) {
	d := imagebuildertest.New(t)
	d.Serve(1)
	const version = "2022-02-14"
	reached, _ := blocked(d)
	for _, name := range []string{"a", "b"} {
		made(d, name, version, waiting)
		d.Want(http.StatusAccepted, "POST", action(d, name, "run", version), nil)
		if name == "a" {
			<-reached
		}
	}
	last := func(name string) (state, sub, message, end string) {
		d.Helper()
		a := d.Want(http.StatusOK, "GET", d.Template(name, version), nil)
		const in = "properties.lastRunStatus."
		return a.Field(in + "runState"), a.Field(in + "runSubState"), a.Field(in + "message"), a.Field(in + "endTime")
	}
	if state, sub, message, end := last("a"); state != "Running" || sub != "Customizing" || message != "" || end != "0001-01-01T00:00:00Z" {
		t.Errorf("while it is built: %s %s %q %s", state, sub, message, end)
	}
	if state, sub, message, _ := last("b"); state != "Running" || sub != "Queued" || !strings.Contains(message, "1 of 1 are in use") {
		t.Errorf("while it waits: %s %s %q", state, sub, message)
	}
	var runs struct {
		Value []struct {
			Name       string
			Properties struct {
				TemplateID, RunState string
				Queue                *struct{ Slots, Working, Before int }
			}
		}
		NextLink string
	}
	d.Decode(d.Want(http.StatusOK, "GET", extension(d, ""), nil), &runs)
	if len(runs.Value) != 2 || runs.Value[0].Properties.RunState != "Queued" || runs.Value[0].Properties.Queue == nil || runs.Value[0].Properties.Queue.Working != 1 {
		t.Errorf("the history: %+v", runs)
	}
	queued, working := runs.Value[0].Name, runs.Value[1].Name
	d.Decode(d.Want(http.StatusOK, "GET", extension(d, "?$top=1&state=Queued&state=Running"), nil), &runs)
	if len(runs.Value) != 1 || !strings.Contains(runs.NextLink, "state=Queued&state=Running") {
		t.Errorf("a page of the history: %+v", runs)
	}
	d.Decode(d.Want(http.StatusOK, "GET", runs.NextLink, nil), &runs)
	if len(runs.Value) != 1 || runs.Value[0].Name != working {
		t.Errorf("the next page: %+v", runs)
	}
	// Whoever may not read the template does not see its runs.
	d.Decode(d.As("66666666-6666-6666-6666-666666666666", "GET", extension(d, ""), nil), &runs)
	if len(runs.Value) != 0 {
		t.Errorf("a stranger sees %+v", runs)
	}
	if a := d.As("66666666-6666-6666-6666-666666666666", "GET", extension(d, "/"+working), nil); a.Status != http.StatusNotFound {
		t.Errorf("a stranger gets %d %s", a.Status, a.Text)
	}
	if a := d.As("66666666-6666-6666-6666-666666666666", "GET", d.Template("a", version), nil); a.Status != http.StatusForbidden {
		t.Errorf("a stranger gets %d %s", a.Status, a.Text)
	}
	d.Want(http.StatusAccepted, "POST", extension(d, "/"+queued+"/cancel"), nil)
	if state, _, message, _ := last("b"); state != "Canceled" || message != "The build was canceled" {
		t.Errorf("a cancelled run that waited: %s %q", state, message)
	}
	a := d.Want(http.StatusNoContent, "POST", action(d, "a", "cancel", version), nil)
	if a.Header.Get("Azure-AsyncOperation") != "" || a.Text != "" {
		t.Errorf("the answer to cancel: %v %q", a.Header, a.Text)
	}
	if state, sub, message, _ := last("a"); state != "Canceled" && (state != "Canceling" || sub != "" || message != "Canceling image build") {
		t.Errorf("while it is cancelled: %s %s %q", state, sub, message)
	}
	d.Until("the run is cancelled", func() bool {
		state, _, message, _ := last("a")
		return state == "Canceled" && message == "The build was canceled"
	})
}

// sse reads server-sent events until the stream ends or enough came.
func sse(t *testing.T, d *imagebuildertest.Door, path string, enough int, headers ...string) []event.Event {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, "GET", d.Server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+imagebuildertest.Admin)
	r.Header.Set("Accept", "text/event-stream")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := d.Server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %v", res.StatusCode, res.Header)
	}
	var all []event.Event
	id := ""
	lines := bufio.NewScanner(res.Body)
	for lines.Scan() {
		if text, ok := strings.CutPrefix(lines.Text(), "id: "); ok {
			id = text
		}
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e event.Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			t.Fatal(err)
		}
		if strconv.FormatInt(e.Offset, 10) != id {
			t.Errorf("event %d has the id %s", e.Offset, id)
		}
		if all = append(all, e); len(all) == enough {
			return all
		}
	}
	return all
}

func TestLiveLog(t *testing.T) {
	d := imagebuildertest.New(t)
	d.Serve(1)
	reached, lift := blocked(d)
	made(d, "a", "2022-07-01", waiting)
	d.Want(http.StatusAccepted, "POST", action(d, "a", "run", "2022-07-01"), nil)
	<-reached
	var runs struct{ Value []struct{ Name string } }
	d.Decode(d.Want(http.StatusOK, "GET", extension(d, "?state=Running&template="+d.ID("Microsoft.VirtualMachineImages/imageTemplates/A")), nil), &runs)
	if len(runs.Value) != 1 {
		t.Fatalf("%+v", runs)
	}
	path := extension(d, "/"+runs.Value[0].Name+"/events")
	first := sse(t, d, path, 3)
	if len(first) != 3 || first[0].Offset != 0 {
		t.Fatalf("the first events: %+v", first)
	}
	lift()
	rest := sse(t, d, path, 0, "Last-Event-ID", "2")
	if len(rest) == 0 || rest[0].Offset != 3 || rest[len(rest)-1].Kind != event.RunFinished || rest[len(rest)-1].State != "Succeeded" {
		t.Errorf("the rest: %+v", rest)
	}
	// After the end the same is there, and as a list.
	again := sse(t, d, strings.Replace(path, "?", "?offset=3&", 1), 0)
	if len(again) != len(rest) {
		t.Errorf("%d events again, before %d", len(again), len(rest))
	}
	var list struct{ Value []event.Event }
	d.Decode(d.Want(http.StatusOK, "GET", path, nil), &list)
	if len(list.Value) != len(rest)+3 {
		t.Errorf("%d events listed, want %d", len(list.Value), len(rest)+3)
	}
	if a := d.Do("GET", strings.Replace(path, "?", "?offset=x&", 1), nil); a.Status != http.StatusBadRequest {
		t.Errorf("a bad offset: %d", a.Status)
	}
}

// The detail of a run has how it is connected, while it goes on and afterwards, and
// draws it.
func TestRunDetailDrawsTheNetwork(t *testing.T) {
	d := imagebuildertest.New(t)
	d.Serve(1)
	reached, lift := blocked(d)
	made(d, "a", "2022-07-01", waiting)
	op := d.Want(http.StatusAccepted, "POST", action(d, "a", "run", "2022-07-01"), nil)
	<-reached
	type network struct {
		Kind  string
		Nodes []struct{ Name, Address string }
		Rules []struct {
			Card, Direction, Name string
			Allow                 bool
			Count                 int
		}
		Connections []struct{ Address string }
	}
	var list struct {
		Value []struct {
			Name       string
			Properties struct{ Network *network }
		}
	}
	d.Decode(d.Want(http.StatusOK, "GET", extension(d, ""), nil), &list)
	if len(list.Value) != 1 || list.Value[0].Properties.Network != nil {
		t.Fatalf("the list: %+v", list)
	}
	path := "/" + list.Value[0].Name
	detail := func() *network {
		t.Helper()
		var run struct{ Properties struct{ Network *network } }
		d.Decode(d.Want(http.StatusOK, "GET", extension(d, path), nil), &run)
		if n := run.Properties.Network; n == nil || n.Kind != "public" || len(n.Nodes) != 3 || n.Nodes[2].Address != "10.0.0.4" || n.Connections == nil {
			t.Fatalf("the network: %+v", n)
		}
		return run.Properties.Network
	}
	detail()
	lift()
	if a := d.Follow(op); a.Field("status") != armapi.Succeeded {
		t.Fatalf("the run: %s", a.Text)
	}
	if n := detail(); len(n.Rules) == 0 || n.Rules[0].Name != "builder" || n.Rules[0].Direction != "inbound" || !n.Rules[0].Allow || n.Rules[0].Count == 0 {
		t.Errorf("the rules that decided: %+v", n.Rules)
	}
	for accept, want := range map[string][2]string{
		"image/svg+xml": {"image/svg+xml", "<svg "}, "text/plain": {"text/plain; charset=utf-8", "a network of the build's own\n"}, "application/json": {"application/json; charset=utf-8", `"kind": "public"`},
	} {
		a := d.Do("GET", extension(d, path+"/network"), nil, "Accept", accept)
		if a.Status != http.StatusOK || a.Header.Get("Content-Type") != want[0] || !strings.Contains(a.Text, want[1]) {
			t.Errorf("%s: %d %v\n%s", accept, a.Status, a.Header, a.Text)
		}
	}
	if a := d.As("66666666-6666-6666-6666-666666666666", "GET", extension(d, path+"/network"), nil); a.Status != http.StatusNotFound {
		t.Errorf("a stranger gets %d %s", a.Status, a.Text)
	}
}

// A group is not deleted under a build, and takes its templates with their
// staging groups.
func TestDeleteGroup(t *testing.T) {
	d := imagebuildertest.New(t)
	d.Serve(1)
	reached, lift := blocked(d)
	made(d, "a", "2022-07-01", waiting)
	run := d.Want(http.StatusAccepted, "POST", action(d, "a", "run", "2022-07-01"), nil)
	<-reached
	group := strings.Split(d.ID(""), "/providers")[0]
	staging := d.Want(http.StatusOK, "GET", d.Template("a", "2022-07-01"), nil).Field("properties.exactStagingResourceGroup")
	for _, g := range []string{group, staging} {
		if err := d.Engine.DeleteGroup(t.Context(), g); err == nil || !strings.Contains(err.Error(), "cancel it first") {
			t.Errorf("deleting %s under a build: %v", g, err)
		}
	}
	lift()
	if op := d.Follow(run); op.Field("status") != armapi.Succeeded {
		t.Fatalf("the run: %s", op.Text)
	}
	if err := d.Engine.DeleteGroup(t.Context(), group); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{strings.Split(d.Template("a", ""), "?")[0], staging} {
		if _, err := d.Engine.Resources().Get(t.Context(), id); err == nil {
			t.Errorf("%s is still there", id)
		}
	}
}
