package event

import (
	"cmp"
	"slices"
	"time"
)

// progressInterval is the least time between two Progress events of one thing.
const progressInterval = 100 * time.Millisecond

// coalescer thins out Progress events. What it holds back is released before the
// next event that ends something, so the last state always shows.
type coalescer struct {
	moving map[string]*movement
}

type movement struct {
	shown  time.Time
	held   Event
	isHeld bool
}

// admit returns the events to write now for e, in order.
func (c *coalescer) admit(e Event) []Event {
	switch e.Kind {
	case Progress:
		if c.moving == nil {
			c.moving = map[string]*movement{}
		}
		key := string(e.Phase) + "\x00" + e.Text
		m := c.moving[key]
		done := e.Total > 0 && e.Done >= e.Total
		if m != nil && !done && e.Time.Sub(m.shown) < progressInterval {
			m.held, m.isHeld = e, true
			return nil
		}
		if done {
			delete(c.moving, key)
		} else {
			c.moving[key] = &movement{shown: e.Time}
		}
		return []Event{e}
	case PhaseFinished, StepFinished, RunFinished:
		return append(c.release(), e)
	}
	return []Event{e}
}

// release returns what is held back and forgets everything.
func (c *coalescer) release() []Event {
	var held []Event
	for _, m := range c.moving {
		if m.isHeld {
			held = append(held, m.held)
		}
	}
	slices.SortFunc(held, func(a, b Event) int { return cmp.Or(a.Time.Compare(b.Time), cmp.Compare(a.Text, b.Text)) })
	c.moving = nil
	return held
}
