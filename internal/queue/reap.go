package queue

import (
	"context"
	"errors"
	"slices"

	"goldsmith/internal/arm"
	"goldsmith/internal/run"
)

// Reap finds the unended runs whose owner on this host is gone, takes them from
// it (so that nothing it might still write counts) and calls gone for each: a
// command marks it Interrupted and cleans up by its undo records, a service
// delivers it again. The run's lock is held during the call, so two reapers never
// clean up after the same run, and one that dies is followed by the next.
//
// want narrows the search; nil is every unended run. A queued run that was
// delivered has no owner yet, and neither has one that waits to be worked again:
// while a service runs those are not to be taken.
func (q *Queue) Reap(ctx context.Context, want func(run.Record) bool, gone func(context.Context, run.Record) error) ([]run.Record, error) {
	unended, err := q.runs.List(ctx, run.Filter{States: []run.State{run.Queued, run.Running, run.Canceling}})
	if err != nil {
		return nil, err
	}
	var reaped []run.Record
	var errs []error
	for _, r := range slices.Backward(unended) { // the oldest first
		if want != nil && !want(r) {
			continue
		}
		taken, ok, err := q.reap(ctx, r.ID, want, gone)
		if ok {
			reaped = append(reaped, taken)
		}
		errs = append(errs, err)
	}
	return reaped, errors.Join(errs...)
}

func (q *Queue) reap(ctx context.Context, id string, want func(run.Record) bool, gone func(context.Context, run.Record) error) (_ run.Record, ok bool, err error) {
	lock, err := q.locks.Hold(id)
	if arm.IsCode(err, arm.CodeConflict) {
		return run.Record{}, false, nil // its owner lives
	}
	if err != nil {
		return run.Record{}, false, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	r, err := q.runs.Get(ctx, id)
	if err != nil || r.State.Ended() {
		return run.Record{}, false, ignore(err, arm.CodeNotFound)
	}
	if want != nil && !want(r) {
		return run.Record{}, false, nil // it changed hands meanwhile
	}
	r, err = q.runs.Expire(ctx, id, r.Epoch)
	if err != nil {
		return run.Record{}, false, ignore(err, arm.CodePreconditionFailed)
	}
	// The dead owner's own queue would otherwise stay for ever.
	if err := q.forget(ctx, "run-"+id); err != nil {
		return run.Record{}, false, err
	}
	return r, true, gone(ctx, r)
}

func ignore(err error, code arm.Code) error {
	if arm.IsCode(err, code) {
		return nil
	}
	return err
}
