package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
	"goldsmith/internal/run"
)

// Build submits a request and works its run in this process, to its end. Every
// event of both goes to sink. The end of ctx cancels the run, which is undone
// before Build returns. The error says why there is no image, or that some
// output failed; the record how the run ended.
func (e *Engine) Build(ctx context.Context, req Request, sink event.Sink) (run.Record, error) {
	id := uuid.NewString()
	submitted := event.NewStage(id, nil, sink)
	rec, err := e.Submit(ctx, id, req, submitted)
	if err != nil {
		return run.Record{}, err
	}
	held, err := e.locks.Hold(id)
	if err != nil {
		return rec, err
	}
	defer func() { _ = held.Release() }() // the process's end releases it as well
	if rec, err = e.runs.Create(ctx, rec); err != nil {
		// Nobody would ever look for the directory of a run that does not exist.
		return rec, errors.Join(err, os.RemoveAll(filepath.Dir(e.LogPath(id))))
	}
	log, err := event.OpenLog(e.LogPath(id), id, nil)
	if err != nil {
		return rec, err
	}
	log.Adopt(submitted)
	if err := log.Close(); err != nil {
		return rec, err
	}

	// What the run reports is read back from its log, as every other reader does.
	from := int64(len(submitted.Events()))
	fctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		for ev, err := range event.Follow(fctx, e.LogPath(id), from) {
			if err != nil {
				return
			}
			sink.Emit(ev)
		}
	}()
	rec, err = e.queue.RunOne(ctx, held)
	if err != nil || rec.StartedAt.IsZero() {
		stop() // no end of the run will be logged
	}
	<-followed
	stop()
	if cerr := e.collectDue(context.WithoutCancel(ctx)); cerr != nil {
		sink.Emit(event.Event{Kind: event.Warning, Text: "collecting garbage: " + cerr.Error()})
	}
	return rec, errors.Join(err, ended(rec))
}

// ended is the error of a run that did not succeed.
func ended(rec run.Record) error {
	switch rec.State {
	case run.Succeeded:
		return nil
	case run.Canceled, run.Canceling:
		return arm.Errorf(arm.CodeCanceled, "run %s was cancelled", rec.ID)
	case run.PartiallySucceeded:
		return arm.Errorf(arm.CodeDistributeFailed, "%s", rec.Message)
	}
	return arm.Errorf(arm.CodeStepFailed, "run %s %s: %s", rec.ID, rec.State, rec.Message)
}

// LogPath is the file of a run's events.
func (e *Engine) LogPath(runID string) string {
	return filepath.Join(e.dir, "runs", runID, "events.jsonl")
}

// ConsolePath is the file of the serial console of a run's machine.
func (e *Engine) ConsolePath(runID string) string {
	return filepath.Join(e.dir, "runs", runID, "console.log")
}

// workDir is the scratch directory of a run, relative to the data directory.
func workDir(runID string) string { return filepath.Join("runs", runID, "work") }
