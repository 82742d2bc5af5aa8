//go:build vm

package vm

import (
	"sync"
	"testing"

	"goldsmith/internal/event"
)

// TestWarmState makes what most tests start from: the base image, and its booted
// state saved.
func TestWarmState(t *testing.T) {
	warm(t, shared(t))
}

// warmOnce makes the state for whichever test comes first.
var warmOnce sync.Once

// warm sees to it that the data directory of h has a booted base to restore.
func warm(t *testing.T, h host) {
	t.Helper()
	warmOnce.Do(func() {
		p := h.build(t, h.template(t, templateSpec{Name: "vm-warm", Customize: []step{shell("wait", "sleep 600")}}))
		e := p.await(t, ofKind(event.StepStarted))
		t.Logf("first step %v after the start of the command", e.Time.Sub(p.began).Round(millisecond))
		p.interruptAndWait(t)
	})
}
