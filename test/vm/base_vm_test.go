//go:build vm

package vm

import (
	"testing"

	"goldsmith/internal/event"
)

// TestWarmState makes what all other tests start from: the base image, and its
// booted state saved. It comes first so that its time is not another test's.
func TestWarmState(t *testing.T) {
	h := shared(t)
	p := h.build(t, h.template(t, templateSpec{Name: "vm-warm", Customize: []step{shell("wait", "sleep 600")}}))
	e := p.await(t, ofKind(event.StepStarted))
	t.Logf("first step %v after the start of the command", e.Time.Sub(p.began).Round(millisecond))
	p.interruptAndWait(t)
}
