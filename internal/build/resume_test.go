package build_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/build"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/event"
	"goldsmith/internal/run"
)

// serverData is where a test tells its service in a process of its own what to
// work on.
const serverData = "BUILD_TEST_SERVER"

// resumeTemplate has steps of which all get a memory layer, and a gallery version
// that must not be published twice.
func resumeTemplate(l *buildtest.Lab) buildtest.Template {
	return buildtest.Template{Customize: steps("one", "two"), Distribute: []buildtest.Object{l.ToImage("resume"), l.ToGallery("resume", "", buildtest.Object{"runOutputName": "resume-version"})}}
}

// TestServer is a service with one run in a process of its own, when a test starts
// it as such. Its standard output has the run's events.
func TestServer(t *testing.T) {
	data := os.Getenv(serverData)
	if data == "" {
		return // not started as a service: there is nothing to test
	}
	l := buildtest.Open(t, data, everyStep)
	l.PutGroup()
	l.PutGallery("resume")
	l.Serve(1)
	rec, _, err := l.Engine.CreateTemplate(t.Context(), l.Submission("resume", resumeTemplate(l)))
	if err != nil {
		t.Fatal(err)
	}
	l.Provisioned(rec.ID)
	started, err := l.Engine.StartRun(t.Context(), rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	out := json.NewEncoder(os.Stdout)
	for e, err := range event.Follow(t.Context(), l.Engine.LogPath(started.ID), 0) {
		if err != nil || out.Encode(e) != nil {
			return
		}
	}
}

// A run of the service whose process is killed in any phase goes on from the last
// layer that it had sealed, in the next service, and publishes once.
func TestServiceKilled(t *testing.T) {
	for _, b := range boundaries {
		if b.kind == event.RunFinished {
			continue
		}
		t.Run(b.String(), func(t *testing.T) {
			t.Parallel()
			data := filepath.Join(t.TempDir(), "data")
			w := startAs(t, "TestServer", serverData+"="+data)
			sealed := 0 // steps that had ended
			w.until(func(e event.Event, _ bool) bool {
				if e.Kind == event.StepFinished {
					sealed++
				}
				return b.is(e) || e.Kind == event.RunFinished
			})
			w.kill(t)
			l := buildtest.Open(t, data, everyStep)
			all, err := l.Engine.Runs().List(t.Context(), run.Filter{})
			if err != nil || len(all) != 1 {
				t.Fatalf("%d runs, %v", len(all), err)
			}
			if !all[0].State.Ended() { // it may have been faster than the kill
				l.Serve(1)
			}
			ended := l.Ended(all[0].ID)
			if ended.State != run.Succeeded {
				t.Fatalf("the run is %s: %s", ended.State, ended.Message)
			}
			ran := map[string]int{}
			for e, err := range event.Read(l.Engine.LogPath(ended.ID), 0) {
				if err != nil {
					t.Fatal(err)
				}
				if e.Kind == event.StepStarted {
					ran[e.StepName]++
				}
			}
			for i, name := range []string{"one", "two"} {
				if i < sealed && ran[name] != 1 {
					t.Errorf("step %s was sealed and ran %d times", name, ran[name])
				}
			}
			l.Recovered() // what the killed process was making
			l.CheckClean(ended)
			if versions := l.Versions("resume"); len(versions) != 1 {
				t.Errorf("%d versions are published: %v", len(versions), versions)
			}
			if len(ended.Outputs) != 2 || slices.ContainsFunc(ended.Outputs, func(o run.Output) bool { return o.Error != "" }) {
				t.Errorf("outputs %+v", ended.Outputs)
			}
		})
	}
}

// Layers that are dated in the future, by a clock that was set back since, are not
// used.
func TestClockSetBack(t *testing.T) {
	l := buildtest.New(t, everyStep)
	mustBuild(t, l, cached(l, "one", steps("a", "b")))
	l.Redate(time.Now().Add(48 * time.Hour))
	_, got, events := mustBuild(t, l, cached(l, "one", steps("a", "b")))
	if got != "|a b" || !events.Has(event.Decision, "ahead of this host's clock") {
		t.Errorf("%s\n%s", got, events.Text())
	}
	l.Redate(time.Now().Add(-48 * time.Hour))
	_, got, events = mustBuild(t, l, cached(l, "one", steps("a", "c")))
	if got != "|a c" || !events.Has(event.Decision, "longer ago than") {
		t.Errorf("%s\n%s", got, events.Text())
	}
}

// A base that was updated under the same name begins a new chain.
func TestBaseUpdated(t *testing.T) {
	l := buildtest.New(t, everyStep)
	base := func(text string) {
		mustBuild(t, l, cached(l, "base", []buildtest.Object{buildtest.Shell("make", "echo "+text)}))
	}
	base("first")
	on := func() string {
		req := l.Request("top", buildtest.Template{
			Source:    buildtest.Object{"type": "ManagedImage", "imageId": l.ID("Microsoft.Compute/images/base")},
			Customize: steps("a", "b"),
		})
		req.Cache.MaxAge = time.Hour
		_, got, _ := mustBuild(t, l, req)
		return got
	}
	for i, want := range []string{"|a b", "a b|"} {
		if got := on(); got != want {
			t.Errorf("build %d: %s", i, got)
		}
	}
	base("second")
	if got := on(); got != "|a b" {
		t.Errorf("on the updated base: %s", got)
	}
}

// Two processes that seal the same keys at the same time both finish, and later
// builds go on from what the first of them sealed.
func TestTwoSealTheSameKeys(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	labs := []*buildtest.Lab{buildtest.Open(t, data, everyStep), buildtest.Open(t, data, everyStep)}
	mustBuild(t, labs[0], cached(labs[0], "warm", nil))
	done := make(chan error, len(labs))
	for i, l := range labs {
		req := cached(l, fmt.Sprint("one", i), steps("a", "b"))
		req.Cache.MaxAge = 0 // neither looks at the other's
		go func() {
			_, err := l.Engine.Build(t.Context(), req, event.Discard)
			done <- err
		}()
	}
	for range labs {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	keys := map[string]int{}
	for _, key := range labs[0].Keys() {
		if keys[key]++; keys[key] > 1 {
			t.Errorf("two layers have key %s", key)
		}
	}
	rec, got, events := mustBuild(t, labs[1], cached(labs[1], "two", steps("a", "b", "c")))
	if got != "a b|c" {
		t.Errorf("%s\n%s", got, events.Text())
	}
	want := []string{"boot", "script_1.sh: echo ran a", "script_2.sh: echo ran b", "script_3.sh: echo ran c", "generalise"}
	if diff := cmp.Diff(want, contents(t, labs[1], rec)); diff != "" {
		t.Errorf("the image (-want +got):\n%s", diff)
	}
}

// A run of the service gets its secrets from the process that was asked for it, and
// fails with the reason in another.
func TestServiceSecrets(t *testing.T) {
	const secret = "hunter2-of-the-service"
	data := filepath.Join(t.TempDir(), "data")
	l := buildtest.Open(t, data)
	l.PutGroup()
	stop := l.Serve(1)
	rec, _, err := l.Engine.CreateTemplate(t.Context(), l.Submission("secret", buildtest.Template{
		Customize: []buildtest.Object{buildtest.Shell("use", `test "$TOKEN" = `+secret[:7]+`"`+secret[7:]+`"`, `echo "$NAME"`)},
	}))
	if err != nil {
		t.Fatal(err)
	}
	l.Provisioned(rec.ID)
	values := []build.GivenValue{{Name: "TOKEN", Content: []byte(secret), Secret: true}, {Name: "NAME", Content: []byte("somebody")}}
	started, err := l.Engine.StartRunWith(t.Context(), rec.ID, values)
	if err != nil {
		t.Fatal(err)
	}
	if ended := l.Ended(started.ID); ended.State != run.Succeeded {
		t.Errorf("%s: %s", ended.State, ended.Message)
	}
	stop()
	l.CheckNowhere(secret)
	if started, err = l.Engine.StartRunWith(t.Context(), rec.ID, values); err != nil {
		t.Fatal(err)
	}
	other := buildtest.Open(t, data)
	other.Serve(1)
	if ended := other.Ended(started.ID); ended.State != run.Failed || !strings.Contains(ended.Message, "the secret TOKEN is gone") {
		t.Errorf("in another process: %s: %s", ended.State, ended.Message)
	}
}
