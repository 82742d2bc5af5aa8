package cli

import (
	"context"
	"iter"
	"sync"

	"goldsmith/internal/event"
)

// stream hands events from those who emit them to one reader, however slow.
type stream struct {
	mu     sync.Mutex
	queue  []event.Event
	closed bool
	more   chan struct{} // has room for one wake-up
}

func newStream() *stream { return &stream{more: make(chan struct{}, 1)} }

// Emit implements event.Sink; it never waits for the reader.
func (s *stream) Emit(e event.Event) {
	s.mu.Lock()
	if !s.closed {
		s.queue = append(s.queue, e)
	}
	s.mu.Unlock()
	s.wake()
}

// close ends the stream after the events it holds.
func (s *stream) close() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.wake()
}

func (s *stream) wake() {
	select {
	case s.more <- struct{}{}:
	default:
	}
}

// pump delivers to out until the stream is closed and empty, or ctx ends, and
// closes out then.
func (s *stream) pump(ctx context.Context, out chan<- event.Event) {
	defer close(out)
	for {
		s.mu.Lock()
		batch, closed := s.queue, s.closed
		s.queue = nil
		s.mu.Unlock()
		for _, e := range batch {
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
		if closed && len(batch) == 0 {
			return
		}
		if len(batch) == 0 {
			select {
			case <-s.more:
			case <-ctx.Done():
				return
			}
		}
	}
}

// showAll runs view over a sequence of events.
func showAll(ctx context.Context, view Progress, events iter.Seq2[event.Event, error]) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := make(chan event.Event)
	failed := make(chan error, 1)
	go func() {
		defer close(out)
		for e, err := range events {
			if err != nil {
				failed <- err
				return
			}
			select {
			case out <- e:
			case <-ctx.Done():
				return
			}
		}
	}()
	if err := view.Show(ctx, out); err != nil {
		return err
	}
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}
