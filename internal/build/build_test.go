package build_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/event"
	"goldsmith/internal/run"
)

func TestBuild(t *testing.T) {
	l := buildtest.New(t)
	rec, events, err := l.Build(t.Context(), l.Request("first", buildtest.Template{}))
	if err != nil {
		t.Fatalf("%v\n%s", err, events.Text())
	}
	if rec.State != run.Succeeded {
		t.Errorf("the run is %s: %s", rec.State, rec.Message)
	}
	want := []event.Phase{
		event.PhaseSubmit, event.PhasePrepare, event.PhaseStart, event.PhaseCustomize, event.PhaseGeneralize, event.PhaseCapture, event.PhaseDistribute, event.PhaseCleanup,
	}
	if diff := cmp.Diff(want, events.Phases()); diff != "" {
		t.Errorf("phases (-want +got):\n%s", diff)
	}
	l.CheckClean(rec)
	t.Log(events.Text())
}
