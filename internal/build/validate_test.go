package build_test

import (
	"errors"
	"strings"
	"testing"

	"goldsmith/internal/build"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/event"
	"goldsmith/internal/machine/machinetest"
	"goldsmith/internal/run"
)

// Validations run in a machine that is booted from the finished image. One that
// fails keeps the image from its targets, or at least fails the run.
func TestValidations(t *testing.T) {
	for name, tt := range map[string]struct {
		commands []string
		carryOn  bool // continueDistributeOnFailure
		state    run.State
		step     string // that failed
		there    bool   // whether the image is published
	}{
		"good":             {commands: []string{"echo it works"}, state: run.Succeeded, there: true},
		"bad":              {commands: []string{"exit 3"}, state: run.Failed, step: "check"},
		"bad, but carried": {commands: []string{"exit 3"}, carryOn: true, state: run.Failed, step: "check", there: true},
	} {
		t.Run(name, func(t *testing.T) {
			l := buildtest.New(t)
			template := buildtest.Template{More: buildtest.Object{"validate": buildtest.Object{
				"continueDistributeOnFailure": tt.carryOn,
				"inVMValidations": []buildtest.Object{
					{"type": "File", "sourceUri": l.File("expected", "1.2\n"), "destination": "/tmp/expected"},
					buildtest.ShellURI("fetched", l.File("fetched.sh", "echo fetched before the build\n"), ""),
					buildtest.Shell("check", tt.commands...),
				},
			}}}
			req := l.Request("one", template)
			req.Cache.MaxAge = build.DefaultMaxAge
			rec, events, err := l.Build(t.Context(), req)
			if (err == nil) != (tt.state == run.Succeeded) || rec.State != tt.state || rec.FailedStep != tt.step {
				t.Fatalf("%s, step %q: %v\n%s", rec.State, rec.FailedStep, err, events.Text())
			}
			l.CheckClean(rec)
			if !events.Has(event.Output, "fetched before the build") || !events.Has(event.Info, "the image booted") {
				t.Error(events.Text())
			}
			if text := l.StoredLog(rec, "validation.log"); !strings.Contains(text, "fetched before the build") || strings.Contains(text, "Starting provisioner") ||
				(tt.state == run.Failed) != strings.Contains(text, `"check"`) {
				t.Errorf("validation.log:\n%s", text)
			}
			if _, err := l.Engine.FindImage(t.Context(), l.ID("Microsoft.Compute/images/one")); (err == nil) != tt.there {
				t.Errorf("the published image: %v", err)
			}
			// The image is finished, whatever the validation said: it is not made again,
			// and validated again.
			again, events, _ := l.Build(t.Context(), req)
			if again.State != tt.state || events.Has(event.StepStarted, "") || !events.Has(event.Output, "fetched before the build") {
				t.Errorf("once more: %s\n%s", again.State, events.Text())
			}
			l.CheckClean(again)
		})
	}
}

// An image that does not boot fails the run, and nothing is left.
func TestValidationThatNeverBoots(t *testing.T) {
	l := buildtest.New(t)
	template := buildtest.Template{More: buildtest.Object{"validate": buildtest.Object{
		"inVMValidations": []buildtest.Object{buildtest.Shell("check", "true")},
	}}}
	if rec, events, err := l.Build(t.Context(), l.Request("one", template)); err != nil {
		t.Fatalf("%s: %v\n%s", rec.State, err, events.Text())
	}
	l.Fake.FailOn(machinetest.Start, errors.New("no more machines"))
	rec, events, err := l.Build(t.Context(), l.Request("one", template))
	if err == nil || !strings.Contains(err.Error(), "boot the image for its validation: ") || rec.State != run.Failed {
		t.Fatalf("%s: %v\n%s", rec.State, err, events.Text())
	}
	l.CheckClean(rec)
}
