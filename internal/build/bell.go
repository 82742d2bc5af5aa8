package build

import (
	"context"
	"sync"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

// lookAgain is how often those who wait look even if nobody rang: another
// process may have made the change.
const lookAgain = 2 * time.Second

// bell wakes those who wait for a template or a run to change.
type bell struct {
	mu      sync.Mutex
	waiting map[string]map[chan struct{}]bool // by key
}

// listen returns a channel that gets a token when key is rung, and what ends it.
func (b *bell) listen(key string) (heard <-chan struct{}, stop func()) {
	c := make(chan struct{}, 1)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.waiting == nil {
		b.waiting = map[string]map[chan struct{}]bool{}
	}
	if b.waiting[key] == nil {
		b.waiting[key] = map[chan struct{}]bool{}
	}
	b.waiting[key][c] = true
	return c, func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if delete(b.waiting[key], c); len(b.waiting[key]) == 0 {
			delete(b.waiting, key)
		}
	}
}

func (b *bell) ring(key string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for c := range b.waiting[key] {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// until looks until done, at once and whenever key is rung.
func (b *bell) until(ctx context.Context, key string, done func() (bool, error)) error {
	heard, stop := b.listen(key)
	defer stop()
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-heard:
		case <-tick.C:
		}
	}
}

// Settled waits until the change that operation names is over, and returns why
// it failed. A change that another one has followed is over; CodeNotFound when
// the template is gone.
func (e *Engine) Settled(ctx context.Context, id, operation string) error {
	return e.bell.until(ctx, resource.Key(id), func() (bool, error) {
		rec, err := e.resources.Get(ctx, id)
		if err != nil {
			return false, err
		}
		s, err := decodeTemplate(rec)
		if err != nil {
			return false, err
		}
		switch {
		case s.Operation.ID != operation:
			return true, nil
		case s.state() == StateFailed && s.Problem != nil:
			return false, arm.Errorf(s.Code, "%s", s.Problem.Message)
		}
		return s.state() == StateSucceeded, nil
	})
}

// Gone waits until a template that is Deleting is deleted.
func (e *Engine) Gone(ctx context.Context, id string) error {
	return e.bell.until(ctx, resource.Key(id), func() (bool, error) {
		rec, err := e.resources.Get(ctx, id)
		if err != nil {
			return true, ignoreNotFound(err)
		}
		// Another template of the name may be there already.
		return provisioningState(rec) != StateDeleting, nil
	})
}

// Ended waits for the end of a run and returns its record.
func (e *Engine) Ended(ctx context.Context, runID string) (run.Record, error) {
	var rec run.Record
	err := e.bell.until(ctx, runID, func() (_ bool, err error) {
		rec, err = e.runs.Get(ctx, runID)
		return rec.State.Ended(), err
	})
	return rec, err
}
