package event

import (
	"slices"
	"sync"
	"time"
)

// Stage takes the events of a run that has no log yet. It thins, cleans and
// numbers them as a Log does, passes them on, and keeps them for Log.Adopt.
type Stage struct {
	run      string
	redactor *Redactor
	next     Sink

	mu      sync.Mutex
	pending coalescer
	events  []Event
}

// NewStage makes a Stage that passes events on to next. The redactor may be nil.
func NewStage(run string, redactor *Redactor, next Sink) *Stage {
	return &Stage{run: run, redactor: redactor, next: next}
}

// Emit implements Sink.
func (s *Stage) Emit(e Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.Time.IsZero() {
		e.Time = time.Now()
	}
	e.Time, e.Run = e.Time.UTC(), s.run
	clean(s.redactor, &e)
	for _, e := range s.pending.admit(e) {
		e.Offset = int64(len(s.events))
		s.events = append(s.events, e)
		s.next.Emit(e)
	}
}

// Events are those that were passed on, in order.
func (s *Stage) Events() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

// Adopt writes the events of a Stage at the beginning of an empty log, at the
// offsets that they were passed on with.
func (l *Log) Adopt(s *Stage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed {
		l.write(s.Events()...)
	}
}
