package authorization

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/audit"
	"goldsmith/internal/rbac"
)

// maxPending is how many different decisions wait to be written at most. A
// decision beyond them is held up until there is room.
const maxPending = 50_000

// journal gathers decisions and writes them in batches, equal ones as one
// record with a count, so that keeping them costs a busy service little. Its
// goroutine runs until close.
type journal struct {
	store audit.Store
	every time.Duration
	keep  int64

	mu      sync.Mutex
	pending map[decision]*audit.Record
	order   []*audit.Record
	closed  bool

	writing sync.Mutex // one writer at a time keeps the order
	wake    chan struct{}
	stop    chan struct{}
	stopped chan struct{}
}

// decision is what makes two records equal.
type decision struct {
	principal, action, scope, assignment, run, why string
	data, allowed                                  bool
}

func (j *journal) start(store audit.Store, every time.Duration, keep int64) {
	j.store, j.every, j.keep = store, every, keep
	j.pending = map[decision]*audit.Record{}
	j.wake, j.stop, j.stopped = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
	go j.write()
}

// write flushes what add announces, a while later.
func (j *journal) write() {
	defer close(j.stopped)
	for {
		select {
		case <-j.wake:
		case <-j.stop:
			return
		}
		timer := time.NewTimer(j.every)
		select {
		case <-timer.C:
		case <-j.stop:
			timer.Stop()
			return
		}
		// What cannot be written stays pending, and the next flush tries again.
		if err := j.flush(context.Background()); err != nil {
			j.announce()
		}
	}
}

func (j *journal) announce() {
	select {
	case j.wake <- struct{}{}:
	default: // it is announced already
	}
}

// add keeps a decision. The error is of a journal that is full or closed.
func (j *journal) add(ctx context.Context, r Request, d rbac.Decision) error {
	key := decision{
		principal: r.Principal, action: r.Action, scope: r.Scope, assignment: d.Assignment, run: r.Run, why: r.Why,
		data: r.Data, allowed: d.Allowed,
	}
	now := time.Now()
	full, err := j.insert(key, d.Role, now)
	if err == nil && full {
		if err = j.flush(ctx); err == nil {
			_, err = j.insert(key, d.Role, now)
		}
	}
	if err != nil {
		return fmt.Errorf("keep the decision in the audit: %w", err)
	}
	return nil
}

// insert adds a decision to those that wait; full says that there was no room.
func (j *journal) insert(key decision, role string, now time.Time) (full bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		return false, arm.Errorf(arm.CodeInternal, "%w", errClosed)
	}
	if rec := j.pending[key]; rec != nil && now.Sub(rec.Time) < time.Second {
		rec.Count++
		rec.Last = now
		return false, nil
	}
	if len(j.order) >= maxPending {
		return true, nil
	}
	rec := &audit.Record{
		Time: now, Last: now, Count: 1, Principal: key.principal, Action: key.action, Scope: key.scope, Data: key.data,
		Allowed: key.allowed, Assignment: key.assignment, Role: role, Run: key.run, Why: key.why,
	}
	j.pending[key] = rec
	j.order = append(j.order, rec)
	if len(j.order) == 1 {
		j.announce()
	}
	return false, nil
}

// flush writes everything that waits.
func (j *journal) flush(ctx context.Context) error {
	j.writing.Lock()
	defer j.writing.Unlock()
	j.mu.Lock()
	order := j.order
	j.order, j.pending = nil, map[decision]*audit.Record{}
	j.mu.Unlock()
	if len(order) == 0 {
		return nil
	}
	records := make([]audit.Record, len(order))
	for i, r := range order {
		records[i] = *r
	}
	err := j.store.Append(ctx, records, j.keep)
	if err != nil {
		j.mu.Lock()
		j.order = slices.Concat(order, j.order)
		j.mu.Unlock()
	}
	return err
}

// flushTimeout bounds the last flush.
const flushTimeout = 10 * time.Second

// close stops the writer and writes what waits.
func (j *journal) close() error {
	j.mu.Lock()
	was := j.closed
	j.closed = true
	j.mu.Unlock()
	if was {
		return nil
	}
	close(j.stop)
	<-j.stopped
	ctx, cancel := context.WithTimeoutCause(context.Background(), flushTimeout, errors.New("writing the audit takes too long"))
	defer cancel()
	return j.flush(ctx)
}
