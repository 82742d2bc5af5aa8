package queue

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/riverqueue/river"

	"goldsmith/internal/arm"
	"goldsmith/internal/run"
)

// finishTimeout bounds the last write of a run.
const finishTimeout = 15 * time.Second

// worker takes jobs. stop ends the works that it has begun, with its cause.
type worker struct {
	river.WorkerDefaults[jobArgs]
	queue *Queue
	stop  context.Context
	held  *RunLock // the one run that this worker is for, nil for any
	began func()   // called when a work begins
}

// Timeout is none: a build has its own.
func (w *worker) Timeout(*river.Job[jobArgs]) time.Duration { return -1 }

// Work takes the run of a job, if it is still the one that the job was made for,
// and works it to its end. How that went is in the run's record.
func (w *worker) Work(ctx context.Context, job *river.Job[jobArgs]) (err error) {
	q := w.queue
	r, err := q.runs.Get(ctx, job.Args.Run)
	switch {
	case arm.IsCode(err, arm.CodeNotFound):
		return nil
	case err != nil:
		return err
	case r.Epoch != job.Args.Epoch || r.State.Ended():
		return nil // an old bell
	}
	if w.held == nil {
		lock, err := q.locks.Hold(r.ID)
		if arm.IsCode(err, arm.CodeConflict) {
			return river.JobSnooze(time.Second) // its last owner is being cleaned up after
		}
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, lock.Release()) }()
	}
	r, err = q.runs.Acquire(ctx, r.ID, q.opts.Owner, q.bootID, q.opts.Lease)
	if err != nil {
		if arm.IsCode(err, arm.CodeConflict) || arm.IsCode(err, arm.CodeNotAllowed) {
			return nil
		}
		return err
	}
	if w.began != nil {
		w.began()
	}
	return w.own(ctx, &Lease{runs: q.runs, first: r})
}

// own works an acquired run.
func (w *worker) own(ctx context.Context, lease *Lease) error {
	workCtx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(w.stop, func() { cancel(context.Cause(w.stop)) })()

	// The lease outlives the work's context, because undoing needs it.
	keepCtx, stopKeeping := context.WithCancel(context.WithoutCancel(ctx))
	var keeping sync.WaitGroup
	keeping.Go(func() { lease.keep(keepCtx, w.queue.opts, cancel) })
	err := safely(workCtx, w.queue.work, lease)
	stopKeeping()
	keeping.Wait()

	finishCtx, done := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer done()
	return finish(finishCtx, lease, err, context.Cause(workCtx))
}

// safely makes a panic of work its error, so that the run gets an end.
func safely(ctx context.Context, work Work, lease *Lease) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = arm.Errorf(arm.CodeInternal, "the worker crashed, which is a fault of this program: %v\n%s", p, debug.Stack())
		}
	}()
	return work(ctx, lease)
}

// finish gives a run its end after work returned err under a context with cause.
func finish(ctx context.Context, lease *Lease, err, cause error) error {
	switch {
	case errors.Is(cause, ErrLeaseLost):
		return nil // it is somebody else's now
	case errors.Is(cause, ErrStopping):
		return giveBack(ctx, lease)
	}
	_, updateErr := lease.Update(ctx, func(r *run.Record) error {
		if r.State.Ended() {
			return nil
		}
		r.State = endState(err, cause, r.State)
		if err != nil && r.Message == "" {
			r.Message = err.Error()
		}
		return nil
	})
	if updateErr != nil {
		return fmt.Errorf("finish run: %w", updateErr)
	}
	return nil
}

// endState is the state of a run whose work did not say.
func endState(err, cause error, before run.State) run.State {
	switch {
	case err == nil:
		return run.Succeeded
	case cause != nil, before == run.Canceling, arm.IsCode(err, arm.CodeCanceled):
		return run.Canceled
	}
	return run.Failed
}

// giveBack leaves an unended run without an owner, for the next start.
func giveBack(ctx context.Context, lease *Lease) error {
	r, err := lease.runs.Get(ctx, lease.ID())
	if err != nil || r.State.Ended() {
		return err
	}
	_, err = lease.runs.Expire(ctx, lease.ID(), lease.Epoch())
	return err
}
