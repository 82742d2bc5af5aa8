package build

import (
	"context"
	"errors"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
	"goldsmith/internal/run"
)

// Recover cleans up after runs whose process is gone: each becomes Interrupted
// and everything it had acquired is given back. It returns the runs it ended.
// Runs of the service are left to its next start, unless they are to be
// cancelled.
func (e *Engine) Recover(ctx context.Context) ([]run.Record, error) {
	ended, err := e.queue.Reap(ctx, func(r run.Record) bool { return r.State == run.Canceling || !ofService(r) }, e.end)
	if len(ended) > 0 {
		err = errors.Join(err, e.catalog.Sweep())
	}
	return ended, err
}

// ofService reports whether the service works a run.
func ofService(r run.Record) bool {
	j, err := decodeJob(r)
	return err == nil && j.Service
}

// end ends a run that was taken from its dead owner.
func (e *Engine) end(ctx context.Context, rec run.Record) error {
	state, message := run.Interrupted, "the process that worked this run ended; what it had acquired is given back"
	if rec.State == run.Canceling {
		state, message = run.Canceled, messageCanceled
	}
	left, uerr := e.undoAll(ctx, rec)
	_, err := e.runs.Update(ctx, rec.ID, rec.Epoch, func(r *run.Record) error {
		r.State, r.SubState, r.Message, r.Undo, r.EndedAt = state, "", message, left, time.Now()
		return nil
	})
	if err != nil {
		return errors.Join(uerr, err)
	}
	return errors.Join(uerr, e.note(rec.ID, event.Event{
		Kind: event.RunFinished, State: string(state), Text: message,
		Err: &event.Failure{Code: arm.CodeInternal, Message: message, Hint: "start the build again: what it needs first is saved already"},
	}))
}

// takeUp makes a run of the service, taken from its dead owner, wait to be
// worked again from its start. Other runs, and those that were to be cancelled,
// are ended.
func (e *Engine) takeUp(ctx context.Context, rec run.Record) error {
	if rec.State == run.Canceling || !ofService(rec) {
		return e.end(ctx, rec)
	}
	left, uerr := e.undoAll(ctx, rec)
	_, err := e.runs.Update(ctx, rec.ID, rec.Epoch, func(r *run.Record) error {
		r.SubState, r.Phase, r.Undo = run.SubQueued, "", left
		return nil
	})
	if err != nil {
		return errors.Join(uerr, err)
	}
	if rec.State != run.Queued {
		uerr = errors.Join(uerr, e.note(rec.ID, event.Event{
			Kind: event.Info, Text: "the process that worked this build ended: it is begun again",
		}))
	}
	return errors.Join(uerr, e.queue.Deliver(ctx, rec))
}
