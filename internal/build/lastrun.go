package build

import (
	"context"
	"fmt"
	"time"

	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

// LastRunStatus is properties.lastRunStatus of a template: its newest run, nil
// before the first. Beyond the words of the real service, the message of a run
// that waits says for what, and that of one that failed has the cause.
func (e *Engine) LastRunStatus(ctx context.Context, template resource.Record) (*imagetemplate.LastRun, error) {
	runs, err := e.runs.List(ctx, run.Filter{Template: template.ID, Limit: 1})
	if err != nil || len(runs) == 0 || runs[0].CreatedAt.Before(template.CreatedAt) {
		return nil, err // what ran before was of another template of the name
	}
	r := runs[0]
	s := &imagetemplate.LastRun{StartTime: wireTime(r.CreatedAt), EndTime: wireTime(r.EndedAt), RunState: string(r.State), Message: r.Message}
	switch r.State {
	case run.Queued:
		s.RunState, s.RunSubState = string(run.Running), string(run.SubQueued)
		if s.Message, err = e.waitsFor(ctx, r); err != nil {
			return nil, err
		}
	case run.Running:
		s.RunSubState, s.Message = string(r.SubState), ""
	case run.Canceling:
		s.Message = "Canceling image build"
	case run.Canceled:
		s.Message = messageCanceled
	case run.Failed, run.Interrupted, run.PartiallySucceeded:
		if r.State == run.Interrupted {
			s.RunState = string(run.Failed)
		}
		state, err := decodeTemplate(template)
		if err != nil {
			return nil, err
		}
		s.Message = fmt.Sprintf("%s. Image Build log location: %s%s/%s/%s. OperationId: %s. Use this operationId to search packer logs.",
			r.Message, blobEndpoint(state.Staging.Account), logContainer, r.ID, logBlob, r.ID)
	case run.Succeeded:
	}
	return s, nil
}

// wireTime is a time as lastRunStatus has it; the zero time is one that has not
// come.
func wireTime(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// waitsFor is what a queued run waits for, "" when it is about to start.
func (e *Engine) waitsFor(ctx context.Context, r run.Record) (string, error) {
	working, slots, before, err := e.Position(ctx, r)
	switch {
	case err != nil:
		return "", err
	case slots == 0, working < slots && before == 0:
		return "", nil
	}
	return fmt.Sprintf("Waiting for a build slot: %d of %d are in use, %d more builds wait before this one", working, slots, before), nil
}
