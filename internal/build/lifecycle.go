package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

// unended are the states of runs that are not over.
var unended = []run.State{run.Queued, run.Running, run.Canceling}

// activeOf is the run of a template that is not ended, nil when there is none.
func (e *Engine) activeOf(ctx context.Context, template string) (*run.Record, error) {
	active, err := e.runs.List(ctx, run.Filter{Template: template, States: unended, Limit: 1})
	if err != nil || len(active) == 0 {
		return nil, err
	}
	return &active[0], nil
}

// StartRun starts a run of a template: it is queued, and Serve works it. The
// error is CodeNotAllowed while the template is not ready or has another run,
// and CodeNotSupported when it asks for what this engine cannot do.
func (e *Engine) StartRun(ctx context.Context, id string) (run.Record, error) {
	return e.startRun(ctx, id, "", nil)
}

// StartRunWith is StartRun with parameters and secrets. Secrets are kept in the
// memory of this process until the run has ended, and nowhere else.
func (e *Engine) StartRunWith(ctx context.Context, id string, values []GivenValue) (run.Record, error) {
	return e.startRun(ctx, id, "", values)
}

// startRun is StartRunWith with what caused it.
func (e *Engine) startRun(ctx context.Context, id, cause string, given []GivenValue) (run.Record, error) {
	values, secrets, err := checkValues(given)
	if err != nil {
		return run.Record{}, err
	}
	rec, s, unlock, err := e.lockTemplate(ctx, id)
	if err != nil {
		return run.Record{}, err
	}
	defer unlock()
	if s.state() != StateSucceeded {
		return run.Record{}, notAllowed("run", s, nil).At(rec.ID)
	}
	active, err := e.activeOf(ctx, rec.ID)
	if err != nil {
		return run.Record{}, err
	}
	if active != nil {
		return run.Record{}, notAllowed("run", s, active).At(rec.ID)
	}
	res, err := s.parse()
	if err != nil {
		return run.Record{}, err
	}
	if err := CheckExecutable(res); err != nil {
		return run.Record{}, fmt.Errorf("the template cannot be built here: %w", err)
	}
	if t := res.Template; s.Service && s.Version >= "2020" && (t.Identity == nil || len(t.Identity.UserAssigned) == 0) {
		return run.Record{}, arm.Errorf(arm.CodeValidationFailed, "Managed identity is required for building this template using current API version").At(rec.ID)
	}
	parsed, err := arm.ParseID(rec.ID)
	if err != nil {
		return run.Record{}, err
	}
	queued, err := newRun(uuid.NewString(), parsed, s, job{Body: s.Body, Service: true, Literal: s.Service, Cause: cause, Values: values})
	if err != nil {
		return run.Record{}, err
	}
	// From here on the run is there or not: the end of a client's request does not
	// leave it without its bell.
	ctx = context.WithoutCancel(ctx)
	if len(secrets) > 0 {
		e.secretsOf.Store(queued.ID, secrets)
	}
	if queued, err = e.runs.Create(ctx, queued); err != nil {
		e.endOf(queued)
		return queued, err
	}
	text := "queued"
	if cause != "" {
		text += " by " + cause
	}
	if err := e.note(queued.ID, event.Event{Kind: event.Info, Text: text}); err != nil {
		return queued, err
	}
	return queued, e.queue.Deliver(ctx, queued)
}

// lockTemplate reads a template that nobody else in this process changes until
// unlock is called.
func (e *Engine) lockTemplate(ctx context.Context, id string) (rec resource.Record, s templateState, unlock func(), err error) {
	parsed, err := arm.ParseID(id)
	if err != nil {
		return rec, s, nil, err
	}
	unlock = e.templates.lock(parsed)
	if rec, err = e.resources.Get(ctx, id); err == nil {
		s, err = decodeTemplate(rec)
	}
	if err != nil {
		unlock()
		return rec, s, nil, err
	}
	return rec, s, unlock, nil
}

// note appends an event to the log of a run that nobody works.
func (e *Engine) note(runID string, ev event.Event) error {
	if err := os.MkdirAll(filepath.Dir(e.LogPath(runID)), 0o700); err != nil {
		return fmt.Errorf("make the run's directory: %w", err)
	}
	log, err := event.OpenLog(e.LogPath(runID), runID, nil)
	if err != nil {
		return err
	}
	log.Emit(ev)
	return log.Close()
}

// CancelRun asks the run of a template to end. The error is CodeNotAllowed when
// none is going on. Cancelling twice is cancelling once.
func (e *Engine) CancelRun(ctx context.Context, id string) (run.Record, error) {
	rec, s, unlock, err := e.lockTemplate(ctx, id)
	if err != nil {
		return run.Record{}, err
	}
	defer unlock()
	active, err := e.activeOf(ctx, rec.ID)
	if err != nil {
		return run.Record{}, err
	}
	if active == nil {
		last := ""
		if r, err := e.LastRun(ctx, rec.ID); err == nil {
			last = string(r.State)
		}
		return run.Record{}, idle("cancel", s, last).At(rec.ID)
	}
	return e.CancelRunID(ctx, active.ID)
}

// CancelRunID asks one run to end. The error is CodeNotAllowed when it has
// ended. Cancelling twice is cancelling once.
func (e *Engine) CancelRunID(ctx context.Context, runID string) (run.Record, error) {
	before, err := e.runs.Get(ctx, runID)
	if err != nil {
		return before, err
	}
	after, err := e.runs.RequestCancel(ctx, runID)
	if err == nil && after.State == run.Canceled && before.State == run.Queued {
		// Nobody works it, so nobody else says how it ended.
		err = e.note(after.ID, event.Event{Kind: event.RunFinished, State: string(run.Canceled), Text: messageCanceled})
		e.bell.ring(after.ID)
	}
	return after, err
}

// BeginDelete accepts the deletion of a template: it is Deleting from now on, and
// Serve deletes it. The error is CodeNotAllowed while a run of it goes on.
func (e *Engine) BeginDelete(ctx context.Context, id string) (resource.Record, error) {
	rec, err := e.markDeleting(ctx, id)
	if err == nil {
		e.pending.add(rec.ID)
	}
	return rec, err
}

// markDeleting makes a template Deleting, unless it is being made or built.
func (e *Engine) markDeleting(ctx context.Context, id string) (resource.Record, error) {
	parsed, err := arm.ParseID(id)
	if err != nil {
		return resource.Record{}, err
	}
	defer e.templates.lock(parsed)()
	active, err := e.activeOf(ctx, parsed.String())
	if err != nil {
		return resource.Record{}, err
	}
	return e.changeTemplate(ctx, id, func(r *resource.Record, s *templateState) error {
		if active != nil || s.state() == StateCreating {
			return notAllowed("delete", *s, active).At(r.ID)
		}
		if s.state() != StateDeleting {
			s.State, s.Operation = StateDeleting, newOperation("")
		}
		return nil
	})
}

// DeleteTemplate deletes an image template with its staging group and what is
// in its storage account. A staging group that was there before the template
// stays. The error is CodeNotAllowed while a run of it goes on.
func (e *Engine) DeleteTemplate(ctx context.Context, id string) error {
	rec, err := e.markDeleting(ctx, id)
	if err != nil {
		return err
	}
	return e.finishDelete(ctx, rec.ID)
}

// finishDelete deletes what belongs to a template that is Deleting, and then it.
func (e *Engine) finishDelete(ctx context.Context, id string) error {
	rec, err := e.resources.Get(ctx, id)
	if err != nil {
		return ignoreNotFound(err)
	}
	s, err := decodeTemplate(rec)
	if err != nil || s.state() != StateDeleting {
		return err
	}
	if err := e.dropStaging(ctx, s.Staging); err != nil {
		return err
	}
	_, err = e.resources.Delete(ctx, rec.ID, resource.Condition{})
	e.bell.ring(resource.Key(id))
	return ignoreNotFound(err)
}

func ignoreNotFound(err error) error {
	if arm.IsCode(err, arm.CodeNotFound) {
		return nil
	}
	return err
}

// Position says how a queued run stands: how many runs are worked now, how many
// can be at once (0 when nothing works runs), and how many wait before it.
func (e *Engine) Position(ctx context.Context, rec run.Record) (working, slots, before int, err error) {
	active, err := e.runs.List(ctx, run.Filter{States: unended})
	if err != nil {
		return 0, 0, 0, err
	}
	slices.Reverse(active) // oldest first
	ahead := true
	for _, r := range active {
		ahead = ahead && r.ID != rec.ID
		switch {
		case r.State != run.Queued && r.Owner != "":
			working++
		case ahead && r.State == run.Queued:
			before++
		}
	}
	return working, int(e.slots.Load()), before, nil
}

// messageCanceled is lastRunStatus.message of a cancelled run.
const messageCanceled = "The build was canceled"

// reapRhythm is how often Serve looks for runs whose process died.
const reapRhythm = 10 * time.Second
