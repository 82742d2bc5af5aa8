package build_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/event"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

func TestService(t *testing.T) {
	l := buildtest.New(t)
	l.PutGroup()
	sub := l.Submission("first", buildtest.Template{})
	rec, created, err := l.Engine.CreateTemplate(t.Context(), sub)
	if err != nil || !created {
		t.Fatalf("created %v, %v", created, err)
	}
	checkProperties(t, rec, "Creating", "")
	if _, again, err := l.Engine.CreateTemplate(t.Context(), sub); err != nil || again {
		t.Errorf("the same submission again: created %v, %v", again, err)
	}
	if _, err := l.Engine.StartRun(t.Context(), rec.ID); !arm.IsCode(err, arm.CodeNotAllowed) || !strings.Contains(err.Error(), "imageTemplates/run is not allowed in provisioning state: creating") {
		t.Errorf("a run of a template that is being made: %v", err)
	}
	if _, err := l.Engine.BeginDelete(t.Context(), rec.ID); !arm.IsCode(err, arm.CodeNotAllowed) {
		t.Errorf("deleting a template that is being made: %v", err)
	}
	l.Serve(2)
	rec, served := l.Provisioned(rec.ID)
	if served.State != build.StateSucceeded || served.Problem != nil || served.Operation.EndedAt.Before(served.Operation.StartedAt) {
		t.Fatalf("provisioned: %+v", served)
	}
	checkProperties(t, rec, "Succeeded", "1.0.")
	if _, err := l.Engine.CancelRun(t.Context(), rec.ID); !arm.IsCode(err, arm.CodeNotAllowed) {
		t.Errorf("a cancel without a run: %v", err)
	}
	started, err := l.Engine.StartRun(t.Context(), rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Engine.StartRun(t.Context(), rec.ID); !arm.IsCode(err, arm.CodeNotAllowed) {
		t.Errorf("a second run: %v", err)
	}
	if _, err := l.Engine.BeginDelete(t.Context(), rec.ID); !arm.IsCode(err, arm.CodeNotAllowed) || !strings.Contains(err.Error(), "provisioned or run state: running") {
		t.Errorf("deleting under a run: %v", err)
	}
	ended := l.Ended(started.ID)
	if ended.State != run.Succeeded {
		t.Fatalf("the run: %+v", ended)
	}
	if _, err := l.Engine.FindImage(t.Context(), l.ID("Microsoft.Compute/images/first")); err != nil {
		t.Error(err)
	}
	l.CheckClean(ended)
	group, _, err := l.Engine.StagingGroup(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Engine.BeginDelete(t.Context(), rec.ID); err != nil {
		t.Fatal(err)
	}
	l.Until("the template is gone", func() bool {
		_, err := l.Engine.Resources().Get(t.Context(), rec.ID)
		return arm.IsCode(err, arm.CodeNotFound)
	})
	if _, err := l.Engine.Resources().Get(t.Context(), group); !arm.IsCode(err, arm.CodeNotFound) {
		t.Errorf("the staging group is still there: %v", err)
	}
}

func checkProperties(t *testing.T, rec resource.Record, state, exact string) {
	t.Helper()
	var p struct {
		ProvisioningState         string
		ExactStagingResourceGroup string
		Source                    struct{ ExactVersion string }
	}
	if err := json.Unmarshal(rec.Properties, &p); err != nil {
		t.Fatal(err)
	}
	staged := strings.Contains(p.ExactStagingResourceGroup, "/resourceGroups/IT_images_")
	if p.ProvisioningState != state || staged != (state != "Creating") || !strings.HasPrefix(p.Source.ExactVersion, exact) {
		t.Errorf("properties of a template that is %s: %s", state, rec.Properties)
	}
}

func TestProvisioningFailures(t *testing.T) {
	l := buildtest.New(t)
	l.PutGroup()
	l.Serve(1)
	missing := func(typ, name string) string { return l.ID("Microsoft.Compute/" + typ + "/" + name) }
	for name, c := range map[string]struct {
		template buildtest.Template
		code     string
	}{
		"platform": {buildtest.Template{Source: buildtest.Object{"type": "PlatformImage", "publisher": "Nobody", "offer": "x", "sku": "y", "version": "latest"}}, "BadPIRSource"},
		"managed":  {buildtest.Template{Source: buildtest.Object{"type": "ManagedImage", "imageId": missing("images", "none")}}, "BadManagedImageSource"},
		"shared": {buildtest.Template{Source: buildtest.Object{"type": "SharedImageVersion",
			"imageVersionId": missing("galleries", "g/images/i/versions/1.0.0")}}, "BadSharedImageVersionSource"},
		"script":  {buildtest.Template{Customize: []buildtest.Object{buildtest.ShellURI("s", "http://127.0.0.1:1/none.sh", "")}}, "NoCustomizerScript"},
		"gallery": {buildtest.Template{Distribute: []buildtest.Object{l.ToGallery("none", "", nil)}}, "BadSharedImageDistribute"},
	} {
		t.Run(name, func(t *testing.T) {
			rec, _, err := l.Engine.CreateTemplate(t.Context(), l.Submission(name, c.template))
			if err != nil {
				t.Fatal(err)
			}
			rec, served := l.Provisioned(rec.ID)
			if served.State != build.StateFailed || served.Problem == nil || served.Problem.Code != c.code || served.Code == "" {
				t.Fatalf("%+v, %+v", served, served.Problem)
			}
			if _, err := l.Engine.StartRun(t.Context(), rec.ID); !arm.IsCode(err, arm.CodeNotAllowed) {
				t.Errorf("a run of a template that failed: %v", err)
			}
			if _, _, err := l.Engine.CreateTemplate(t.Context(), l.Submission(name, c.template)); !arm.IsCode(err, arm.CodeConflict) {
				t.Errorf("the same submission again: %v", err)
			}
			if err := l.Engine.DeleteTemplate(t.Context(), rec.ID); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestReplaceTemplate(t *testing.T) {
	l := buildtest.New(t)
	l.PutGroup()
	l.Serve(1)
	rec, _, err := l.Engine.CreateTemplate(t.Context(), l.Submission("one", buildtest.Template{}))
	if err != nil {
		t.Fatal(err)
	}
	l.Provisioned(rec.ID)
	other := l.Submission("one", buildtest.Template{Customize: []buildtest.Object{buildtest.Shell("other", "echo other")}})
	if _, _, err := l.Engine.CreateTemplate(t.Context(), other); !arm.IsCode(err, arm.CodeConflict) || !strings.Contains(err.Error(), "Update/Upgrade of image templates is currently not supported.") {
		t.Errorf("another submission: %v", err)
	}
	other.Replace = true
	before, _, err := l.Engine.StagingGroup(t.Context(), rec)
	if err != nil {
		t.Fatal(err)
	}
	rec, created, err := l.Engine.CreateTemplate(t.Context(), other)
	if err != nil || created {
		t.Fatalf("created %v, %v", created, err)
	}
	checkProperties(t, rec, "Updating", "1.0.")
	rec, served := l.Provisioned(rec.ID)
	if after, _, err := l.Engine.StagingGroup(t.Context(), rec); err != nil || after != before || served.State != build.StateSucceeded {
		t.Errorf("replaced: %+v; staging group %s, before %s; %v", served, after, before, err)
	}
	if !strings.Contains(string(rec.Properties), "echo other") {
		t.Errorf("properties: %s", rec.Properties)
	}
}

func TestCreateNeedsTheGroup(t *testing.T) {
	l := buildtest.New(t)
	if _, _, err := l.Engine.CreateTemplate(t.Context(), l.Submission("one", buildtest.Template{})); !arm.IsCode(err, arm.CodeGroupNotFound) {
		t.Errorf("without a group: %v", err)
	}
}

// blockade holds guests in a script until it is lifted.
type blockade struct {
	reached chan struct{}
	lift    chan struct{}
}

func newBlockade(l *buildtest.Lab) *blockade {
	b := &blockade{reached: make(chan struct{}, 16), lift: make(chan struct{})}
	l.SetScript(buildtest.Script{Command: func(ctx context.Context, _ *buildtest.Guest, _, text string) (int, bool) {
		if !strings.Contains(text, "echo blocked") {
			return 0, false
		}
		b.reached <- struct{}{}
		select {
		case <-b.lift:
		case <-ctx.Done():
		}
		return 0, false
	}})
	return b
}

// A service that stops leaves its runs to the next one; more runs than slots
// wait and say so; a queued run is cancelled at once.
func TestServiceStopsAndGoesOn(t *testing.T) {
	l := buildtest.New(t)
	l.PutGroup()
	b := newBlockade(l)
	stop := l.Serve(1)
	blocked := buildtest.Template{Customize: []buildtest.Object{buildtest.Shell("wait", "echo blocked")}}
	var runs []run.Record
	for _, name := range []string{"a", "b", "c"} {
		rec, _, err := l.Engine.CreateTemplate(t.Context(), l.Submission(name, blocked))
		if err != nil {
			t.Fatal(err)
		}
		l.Provisioned(rec.ID)
		started, err := l.Engine.StartRun(t.Context(), rec.ID)
		if err != nil {
			t.Fatal(err)
		}
		runs = append(runs, started)
		if len(runs) == 1 {
			<-b.reached
		}
	}
	working, slots, before, err := l.Engine.Position(t.Context(), runs[2])
	if diff := cmp.Diff([]int{1, 1, 1}, []int{working, slots, before}); diff != "" || err != nil {
		t.Errorf("position of the third run (-want +got):\n%s%v", diff, err)
	}
	canceled, err := l.Engine.CancelRun(t.Context(), runs[2].Template)
	if err != nil || canceled.State != run.Canceled {
		t.Errorf("a queued run after its cancel: %+v, %v", canceled, err)
	}
	if last := lastEvent(t, l, runs[2].ID); last.Kind != event.RunFinished || last.State != "Canceled" {
		t.Errorf("its log ends with %+v", last)
	}
	stop()
	if rec, err := l.Engine.Runs().Get(t.Context(), runs[0].ID); err != nil || rec.State != run.Running || rec.Owner != "" || len(rec.Undo) > 0 {
		t.Errorf("the run after the stop: %+v, %v", rec, err)
	}
	if n := l.Fake.Running(); n != 0 {
		t.Errorf("%d machines still run", n)
	}
	if ended, err := l.Engine.Recover(t.Context()); err != nil || len(ended) != 0 {
		t.Errorf("a command ended runs of the service: %v, %v", ended, err)
	}
	close(b.lift)
	stop = l.Serve(1)
	var ended []run.Record
	for _, r := range runs[:2] {
		rec := l.Ended(r.ID)
		if rec.State != run.Succeeded {
			t.Errorf("run %s: %+v", r.ID, rec)
		}
		ended = append(ended, rec)
	}
	stop() // what a run at work is making is no leftover
	for _, rec := range ended {
		l.CheckClean(rec)
	}
}

func lastEvent(t *testing.T, l *buildtest.Lab, runID string) event.Event {
	t.Helper()
	var last event.Event
	for e, err := range event.Read(l.Engine.LogPath(runID), 0) {
		if err != nil {
			t.Fatal(err)
		}
		last = e
	}
	return last
}

// A run that works is cancelled, and one that was to be cancelled when the
// service stopped is Canceled after the next start.
func TestServiceCancels(t *testing.T) {
	l := buildtest.New(t)
	l.PutGroup()
	b := newBlockade(l)
	l.Serve(1)
	rec, _, err := l.Engine.CreateTemplate(t.Context(), l.Submission("a", buildtest.Template{Customize: []buildtest.Object{buildtest.Shell("wait", "echo blocked")}}))
	if err != nil {
		t.Fatal(err)
	}
	l.Provisioned(rec.ID)
	started, err := l.Engine.StartRun(t.Context(), rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	<-b.reached
	for range 2 {
		if r, err := l.Engine.CancelRun(t.Context(), rec.ID); err != nil || r.State != run.Canceling {
			t.Errorf("%+v, %v", r, err)
		}
	}
	ended := l.Ended(started.ID)
	if ended.State != run.Canceled || ended.Message != "The build was canceled" {
		t.Errorf("%+v", ended)
	}
	l.CheckClean(ended)
}

// A staging group that the template names is made when it is missing, taken
// when it is empty, and kept when it was there before.
func TestGivenStagingGroup(t *testing.T) {
	l := buildtest.New(t)
	l.PutGroup()
	l.Serve(1)
	group := func(name string) string { return arm.GroupID(l.Engine.Subscription(), name) }
	put := func(name, location string) {
		_, _, err := l.Engine.Resources().Put(t.Context(), resource.Record{
			ID: group(name), Type: "Microsoft.Resources/resourceGroups", Name: name, Location: location, Properties: []byte(`{"provisioningState":"Succeeded"}`),
		}, resource.Condition{})
		if err != nil {
			t.Fatal(err)
		}
	}
	put("kept", buildtest.Location)
	put("far", "northeurope")
	for _, c := range []struct {
		name, group, code string
		stays             bool
	}{
		{"x-made", "made", "", false},
		{"x-kept", "kept", "", true},
		{"x-far", "far", "BadStagingResourceGroup", true},
		{"x-full", buildtest.Group, "BadStagingResourceGroup", true},
	} {
		rec, _, err := l.Engine.CreateTemplate(t.Context(), l.Submission(c.name, buildtest.Template{Staging: group(c.group)[1:]}))
		if err != nil {
			t.Fatal(err)
		}
		rec, served := l.Provisioned(rec.ID)
		if code := problemCode(served); code != c.code {
			t.Errorf("%s: %q %+v", c.name, code, served.Problem)
		}
		if c.code == "" {
			if exact, inside, err := l.Engine.StagingGroup(t.Context(), rec); err != nil || exact != group(c.group) || len(inside) != 1 {
				t.Errorf("%s: %s holds %v, %v", c.name, exact, inside, err)
			}
			second, _, err := l.Engine.CreateTemplate(t.Context(), l.Submission(c.name+"2", buildtest.Template{Staging: group(c.group)}))
			if err != nil {
				t.Fatal(err)
			}
			if _, served := l.Provisioned(second.ID); problemCode(served) != "BadStagingResourceGroup" {
				t.Errorf("%s, used twice: %+v", c.name, served)
			}
		}
		if err := l.Engine.DeleteTemplate(t.Context(), rec.ID); err != nil {
			t.Error(err)
		}
		g, err := l.Engine.Resources().Get(t.Context(), group(c.group))
		if (err == nil) != c.stays || g.Tags["imageTemplateName"] != "" {
			t.Errorf("%s: group %s after the template: %+v, %v", c.name, c.group, g, err)
		}
	}
}

func problemCode(s build.Served) string {
	if s.Problem == nil {
		return ""
	}
	return s.Problem.Code
}

// A template that was accepted is provisioned, and one whose deletion was
// accepted is deleted, by the next process when the first one ends in between.
func TestServiceFindsUnfinished(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	first := buildtest.Open(t, data)
	first.PutGroup()
	rec, _, err := first.Engine.CreateTemplate(t.Context(), first.Submission("made", buildtest.Template{}))
	if err != nil {
		t.Fatal(err)
	}
	second := buildtest.Open(t, data)
	stop := second.Serve(1)
	if _, served := second.Provisioned(rec.ID); served.State != build.StateSucceeded {
		t.Errorf("%+v", served)
	}
	stop()
	if _, err := first.Engine.BeginDelete(t.Context(), rec.ID); err != nil {
		t.Fatal(err)
	}
	third := buildtest.Open(t, data)
	third.Serve(1)
	third.Until("the template is gone", func() bool {
		_, err := third.Engine.Resources().Get(t.Context(), rec.ID)
		return arm.IsCode(err, arm.CodeNotFound)
	})
}
