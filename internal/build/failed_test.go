package build_test

import (
	"testing"
	"time"

	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/run"
)

// A template whose errorHandling says abort keeps the guest in which a step failed,
// and one that says cleanup does not.
func TestErrorHandlingOfATemplate(t *testing.T) {
	l := buildtest.New(t, everyStep)
	l.PutGroup()
	l.Serve(1)
	for what, kept := range map[string]bool{"abort": true, "cleanup": false} {
		rec, _, err := l.Engine.CreateTemplate(t.Context(), l.Submission(what, buildtest.Template{
			Version:   "2024-02-01",
			Customize: []buildtest.Object{buildtest.Shell("broken", "exit 3")},
			More:      buildtest.Object{"errorHandling": buildtest.Object{"onCustomizerError": what}},
		}))
		if err != nil {
			t.Fatal(err)
		}
		l.Provisioned(rec.ID)
		started, err := l.Engine.StartRun(t.Context(), rec.ID)
		if err != nil {
			t.Fatal(err)
		}
		if ended := l.Ended(started.ID); ended.State != run.Failed || ended.FailedStep != "broken" {
			t.Errorf("%s: the run is %+v", what, ended)
		}
		state, err := l.Engine.FailedState(t.Context(), started.ID)
		if (err == nil) != kept {
			t.Errorf("%s: %+v, %v", what, state, err)
		}
		if kept && time.Until(state.Until) < 23*time.Hour {
			t.Errorf("it is kept until %s only", state.Until)
		}
	}
}
