package qmp

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
)

// maxQueued is how many events a subscription holds for a reader that is late.
// A guest can cause events; more than this ends the connection, for an event
// dropped in silence would be worse.
const maxQueued = 4096

// Subscription is a queue of events, from the moment of Subscribe on.
type Subscription struct {
	client *Client
	names  []string // empty for all
	ready  chan struct{}

	mu    sync.Mutex
	queue []Event
	ended bool
}

// Subscribe starts a queue of the events of the given names, all for none.
// Subscribe before the command whose event is wanted. Close it when done.
func (c *Client) Subscribe(names ...string) *Subscription {
	s := &Subscription{client: c, names: names, ready: make(chan struct{}, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		s.ended = true
		return s
	}
	c.subs[s] = struct{}{}
	return s
}

// Next waits for the next event. The error is ctx's cause, or, once the queue is
// empty, why the connection ended.
func (s *Subscription) Next(ctx context.Context) (Event, error) {
	for {
		s.mu.Lock()
		if len(s.queue) > 0 {
			e := s.queue[0]
			s.queue = s.queue[1:]
			s.mu.Unlock()
			return e, nil
		}
		ended := s.ended
		s.mu.Unlock()
		if ended {
			if err := s.client.Err(); err != nil {
				return Event{}, err
			}
			return Event{}, ErrClosed
		}
		select {
		case <-s.ready:
		case <-ctx.Done():
			return Event{}, context.Cause(ctx)
		}
	}
}

// Await waits for the first event whose data, decoded as a T, satisfies match,
// and returns that data. Events before it are dropped.
func Await[T any](ctx context.Context, s *Subscription, match func(T) bool) (T, error) {
	for {
		e, err := s.Next(ctx)
		if err != nil {
			var zero T
			return zero, err
		}
		var data T
		if len(e.Data) > 0 && json.Unmarshal(e.Data, &data) != nil {
			continue
		}
		if match(data) {
			return data, nil
		}
	}
}

// Close ends the subscription. A Next that waits fails.
func (s *Subscription) Close() {
	s.client.mu.Lock()
	delete(s.client.subs, s)
	s.client.mu.Unlock()
	s.end()
}

// add queues e if it is wanted; it reports false when the queue is full.
func (s *Subscription) add(e Event) bool {
	if len(s.names) > 0 && !slices.Contains(s.names, e.Name) {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.queue) >= maxQueued {
		return false
	}
	s.queue = append(s.queue, e)
	s.wake()
	return true
}

// end lets readers see that no event will follow.
func (s *Subscription) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	s.wake()
}

// wake leaves a token for one reader. A subscription has one reader at a time.
func (s *Subscription) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}
