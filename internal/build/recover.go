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
func (e *Engine) Recover(ctx context.Context) ([]run.Record, error) {
	ended, err := e.queue.Reap(ctx, nil, e.interrupt)
	if len(ended) > 0 {
		err = errors.Join(err, e.catalog.Sweep())
	}
	return ended, err
}

// interrupt ends a run that was taken from its dead owner.
func (e *Engine) interrupt(ctx context.Context, rec run.Record) error {
	left, uerr := e.undoAll(ctx, rec)
	const message = "the process that worked this run ended; what it had acquired is given back"
	_, err := e.runs.Update(ctx, rec.ID, rec.Epoch, func(r *run.Record) error {
		r.State, r.SubState, r.Message, r.Undo, r.EndedAt = run.Interrupted, "", message, left, time.Now()
		return nil
	})
	if err != nil {
		return errors.Join(uerr, err)
	}
	log, err := event.OpenLog(e.LogPath(rec.ID), rec.ID, nil)
	if err != nil {
		return errors.Join(uerr, err)
	}
	log.Emit(event.Event{Kind: event.RunFinished, State: string(run.Interrupted), Text: message,
		Err: &event.Failure{Code: arm.CodeInternal, Message: message, Hint: "start the build again: what it needs first is saved already"}})
	return errors.Join(uerr, log.Close())
}
