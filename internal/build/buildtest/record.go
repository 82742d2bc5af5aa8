package buildtest

import (
	"context"
	"slices"
	"strings"
	"sync"

	"goldsmith/internal/build"
	"goldsmith/internal/event"
	"goldsmith/internal/run"
)

// Recording is a sink that keeps what it gets.
type Recording struct {
	mu     sync.Mutex
	events []event.Event
	// On, when set, is called with each event after it is kept.
	On func(event.Event)
}

// Emit implements event.Sink.
func (r *Recording) Emit(e event.Event) {
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
	if r.On != nil {
		r.On(e)
	}
}

// Events are those so far.
func (r *Recording) Events() []event.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

// Text is every text of every event, one per line.
func (r *Recording) Text() string {
	var b strings.Builder
	for _, e := range r.Events() {
		b.WriteString(string(e.Kind) + " " + string(e.Phase) + " " + e.Text + " " + e.Target)
		if e.Err != nil {
			b.WriteString(" " + string(e.Err.Code) + " " + e.Err.Message + " " + e.Err.Hint)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// Has reports whether an event of kind has text in its text.
func (r *Recording) Has(kind event.Kind, text string) bool {
	return slices.ContainsFunc(r.Events(), func(e event.Event) bool { return e.Kind == kind && strings.Contains(e.Text, text) })
}

// Phases are the phases that were started, in order.
func (r *Recording) Phases() []event.Phase {
	var all []event.Phase
	for _, e := range r.Events() {
		if e.Kind == event.PhaseStarted {
			all = append(all, e.Phase)
		}
	}
	return all
}

// Build builds and records.
func (l *Lab) Build(ctx context.Context, req build.Request) (run.Record, *Recording, error) {
	l.Helper()
	events := &Recording{}
	rec, err := l.Engine.Build(ctx, req, events)
	return rec, events, err
}
