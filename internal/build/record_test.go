package build_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"strings"
	"sync"
	"testing"

	"goldsmith/internal/arm"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/run"
)

func TestCaptureOfARun(t *testing.T) {
	l := buildtest.New(t)
	var traffic bytes.Buffer
	var work sync.WaitGroup
	var captured error
	started := sync.OnceFunc(func() {
		runs, err := l.Engine.Runs().List(t.Context(), run.Filter{States: []run.State{run.Running}})
		if err != nil || len(runs) != 1 {
			t.Errorf("%d runs, %v", len(runs), err)
			return
		}
		work.Go(func() { captured = l.Engine.Capture(t.Context(), runs[0].ID, &traffic) })
	})
	l.SetScript(buildtest.Script{Command: func(_ context.Context, _ *buildtest.Guest, _, text string) (int, bool) {
		if strings.Contains(text, "echo hello") {
			started()
		}
		return 0, false
	}})
	rec, _, err := l.Build(t.Context(), l.Request("t", buildtest.Template{Customize: []buildtest.Object{
		buildtest.Shell("one", "echo hello"), buildtest.Shell("two", "echo more"), buildtest.Shell("three", "echo more"),
	}}))
	if err != nil {
		t.Fatal(err)
	}
	work.Wait()
	if captured != nil {
		t.Fatal(captured)
	}
	// A section, and at least one packet behind it.
	if b := traffic.Bytes(); len(b) < 100 || binary.LittleEndian.Uint32(b) != 0x0A0D0D0A {
		t.Errorf("captured %d bytes", len(b))
	}
	if err := l.Engine.Capture(t.Context(), rec.ID, &traffic); !arm.IsCode(err, arm.CodeNotAllowed) {
		t.Errorf("capture of a run that has ended: %v", err)
	}
	l.CheckClean(rec)
}
