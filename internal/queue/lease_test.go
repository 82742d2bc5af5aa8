package queue

import (
	"context"
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/run"
	"goldsmith/internal/store/memory"
)

// flaky is a run store whose renewals can be made to fail.
type flaky struct {
	run.Store
	broken atomic.Bool
}

func (f *flaky) Renew(ctx context.Context, id string, epoch int64, lease time.Duration) error {
	if f.broken.Load() {
		return errors.New("disk gone")
	}
	return f.Store.Renew(ctx, id, epoch, lease)
}

// owned starts a worker on an acquired run and returns what its context ended
// with, once it has.
func owned(t *testing.T, runs run.Store, work Work) (finished chan error) {
	t.Helper()
	if _, err := runs.Create(t.Context(), run.Record{ID: runID(1)}); err != nil {
		t.Fatal(err)
	}
	r, err := runs.Acquire(t.Context(), runID(1), "me", "boot", 30*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	q := &Queue{runs: runs, work: work, opts: Options{Lease: 30 * time.Second, Renew: 10 * time.Second, Look: 500 * time.Millisecond}}
	finished = make(chan error, 1)
	ctx := t.Context()
	go func() { finished <- (&worker{queue: q, stop: ctx}).own(ctx, &Lease{runs: runs, first: r}) }()
	return finished
}

func untilEnd(ended *error, at *time.Time) Work {
	return func(ctx context.Context, _ *Lease) error {
		<-ctx.Done()
		*ended, *at = context.Cause(ctx), time.Now()
		return *ended
	}
}

func TestLeaseIsKeptForHours(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := memory.New().Runs()
		release := make(chan struct{})
		finished := owned(t, runs, func(context.Context, *Lease) error { <-release; return nil })
		for range 16 * 60 {
			<-time.After(time.Minute)
			if _, err := runs.Acquire(t.Context(), runID(1), "thief", "boot", time.Second); !arm.IsCode(err, arm.CodeConflict) {
				t.Fatalf("the lease was open: %v", err)
			}
		}
		close(release)
		if err := <-finished; err != nil {
			t.Fatal(err)
		}
		if r, err := runs.Get(t.Context(), runID(1)); err != nil || r.State != run.Succeeded || r.Epoch != 1 {
			t.Fatalf("%+v, %v", r, err)
		}
	})
}

func TestLeaseOfAnUnreachableDatabase(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := &flaky{Store: memory.New().Runs()}
		start := time.Now()
		var cause error
		var at time.Time
		finished := owned(t, runs, untilEnd(&cause, &at))
		<-time.After(25 * time.Second) // renewed at 10 s and 20 s
		runs.broken.Store(true)
		if err := <-finished; err != nil {
			t.Fatal(err)
		}
		if !errors.Is(cause, ErrLeaseLost) {
			t.Errorf("cause %v", cause)
		}
		// Given up no later than a thief could have it, and not at the first fault.
		if lived := at.Sub(start); lived < 40*time.Second || lived > 51*time.Second {
			t.Errorf("the work went on for %v", lived)
		}
	})
}

func TestCancelIsSeenSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := memory.New().Runs()
		var cause error
		var at time.Time
		finished := owned(t, runs, untilEnd(&cause, &at))
		<-time.After(time.Hour + 100*time.Millisecond)
		asked := time.Now()
		if _, err := runs.RequestCancel(t.Context(), runID(1)); err != nil {
			t.Fatal(err)
		}
		if err := <-finished; err != nil {
			t.Fatal(err)
		}
		if wait := at.Sub(asked); wait > 500*time.Millisecond || !arm.IsCode(cause, arm.CodeCanceled) {
			t.Errorf("seen after %v: %v", wait, cause)
		}
		if r, err := runs.Get(t.Context(), runID(1)); err != nil || r.State != run.Canceled {
			t.Errorf("%+v, %v", r, err)
		}
	})
}

func TestUndoKeepsTheLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs := memory.New().Runs()
		finished := owned(t, runs, func(ctx context.Context, l *Lease) error {
			if _, err := runs.RequestCancel(ctx, l.ID()); err != nil {
				return err
			}
			<-ctx.Done()
			<-time.After(5 * time.Minute) // a long undo
			_, err := l.Update(context.WithoutCancel(ctx), func(r *run.Record) error { r.Undo = nil; return nil })
			if _, stolen := runs.Acquire(context.WithoutCancel(ctx), l.ID(), "thief", "boot", time.Second); stolen == nil {
				t.Error("the lease ran out during the undo")
			}
			return err
		})
		if err := <-finished; err != nil {
			t.Fatal(err)
		}
	})
}

func TestLocks(t *testing.T) {
	l := Locks{t.TempDir()}
	first, err := l.Hold(runID(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Hold(runID(1)); !arm.IsCode(err, arm.CodeConflict) {
		t.Errorf("a second holder: %v", err)
	}
	other, err := l.Hold(runID(2))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := first.Release(); err != nil {
			t.Error(err)
		}
	}
	// A removed directory does not leave two holders of one name.
	again, err := l.Hold(runID(1))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(l.dir(runID(1))); err != nil {
		t.Fatal(err)
	}
	anew, err := l.Hold(runID(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"", "..", "../../etc", "x"} {
		if _, err := l.Hold(id); !arm.IsCode(err, arm.CodeInternal) {
			t.Errorf("id %q: %v", id, err)
		}
	}
	for _, lock := range []*RunLock{other, again, anew} {
		if err := lock.Release(); err != nil {
			t.Error(err)
		}
	}
}
