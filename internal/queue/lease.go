package queue

import (
	"context"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/run"
)

// ErrLeaseLost is the cause of a work's context after somebody else took the
// run. Nothing of the run may be touched any more.
var ErrLeaseLost error = &arm.Error{Code: arm.CodePreconditionFailed, Message: "the lease of the run is lost: another process took it over"}

// ErrStopping is the cause of a work's context when the service stops. The run
// is to go on from its last layer after the next start.
var ErrStopping error = &arm.Error{Code: arm.CodeCanceled, Message: "the service is stopping"}

// errCancelRequested is the cause after RequestCancel.
var errCancelRequested error = &arm.Error{Code: arm.CodeCanceled, Message: "the run was cancelled"}

// Lease is the ownership of a run: its epoch, renewed in the background for as
// long as the work goes on.
type Lease struct {
	runs  run.Store
	first run.Record
}

// Record is the run as it was when it was acquired.
func (l *Lease) Record() run.Record { return l.first }

// ID is the run's id.
func (l *Lease) ID() string { return l.first.ID }

// Epoch is the epoch under which this owner writes.
func (l *Lease) Epoch() int64 { return l.first.Epoch }

// Update changes the run's record under the lease; see run.Store.
func (l *Lease) Update(ctx context.Context, change func(*run.Record) error) (run.Record, error) {
	return l.runs.Update(ctx, l.first.ID, l.first.Epoch, change)
}

// keep renews the lease and looks for a request to cancel, until ctx ends. It
// ends the work with lose.
func (l *Lease) keep(ctx context.Context, o Options, lose context.CancelCauseFunc) {
	renew, look := time.NewTicker(o.Renew), time.NewTicker(o.Look)
	defer renew.Stop()
	defer look.Stop()
	// By the local clock, which may only be stricter than the database's.
	expires := time.Now().Add(o.Lease)
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			err = l.look(ctx)
		case <-renew.C:
			asked := time.Now()
			if err = l.runs.Renew(ctx, l.first.ID, l.first.Epoch, o.Lease); err == nil {
				expires = asked.Add(o.Lease)
			}
		}
		switch {
		case err == errCancelRequested: //nolint:errorlint // it is this very value
			lose(err)
			// The lease is needed until the work has undone what it did.
			look.Stop()
		case arm.IsCode(err, arm.CodePreconditionFailed), arm.IsCode(err, arm.CodeNotFound):
			lose(ErrLeaseLost)
			return
		case !time.Now().Before(expires):
			// The database cannot be reached: somebody else may own the run by now.
			lose(ErrLeaseLost)
			return
		}
	}
}

func (l *Lease) look(ctx context.Context) error {
	r, err := l.runs.Get(ctx, l.first.ID)
	switch {
	case err != nil:
		return err
	case r.Epoch != l.first.Epoch:
		return ErrLeaseLost
	case r.State == run.Canceling:
		return errCancelRequested
	}
	return nil
}
