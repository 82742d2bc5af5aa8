package deployments

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armtemplate"
)

// How often a provider is asked how far it is.
const (
	firstPoll = 20 * time.Millisecond
	lastPoll  = time.Second
)

// step makes one resource: the caller's own PUT, and the wait for its end. Its
// error is the provider's.
func (w *worker) step(ctx context.Context, r *armtemplate.Resource) error {
	if !r.Condition || r.Existing {
		return ctx.Err()
	}
	return w.do(ctx, "Create", targetOf(r), func() (armapi.Answer, error) {
		body, err := r.Body(w.runtime(ctx))
		if err != nil {
			return armapi.Answer{Status: http.StatusBadRequest}, err
		}
		return w.p.Call(ctx, armapi.Call{Caller: w.k.Caller, Host: w.k.Host, Method: http.MethodPut, Path: r.ID, Version: r.APIVersion, Body: body.Append(nil), Header: nestingHeader(w.k.Nesting + 1)})
	})
}

// do is an operation: what begin asks for, unless it was asked for already, and
// the wait for its end.
func (w *worker) do(ctx context.Context, what string, on target, begin func() (armapi.Answer, error)) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	op, t, found, err := w.p.operation(ctx, w.id, w.k.Run, on.ID)
	if err != nil || (found && op.ProvisioningState == succeeded) {
		return err
	}
	if !found {
		t.Start = w.p.Now()
	}
	op.ProvisioningOperation, op.TargetResource, op.TrackingID = what, on, w.k.Run
	save := func(ctx context.Context, state string) error {
		op.ProvisioningState, op.Timestamp, op.Duration = state, timestamp(w.p.Now()), duration(w.p.Now().Sub(t.Start))
		return w.p.saveOperation(ctx, w.id, w.k.Run, op, t)
	}
	if err := save(ctx, running); err != nil {
		return err
	}
	status := http.StatusOK
	if t.Poll == "" {
		var a armapi.Answer
		a, err = begin()
		if status = a.Status; err == nil {
			if t.Poll, err = pollOf(a); err == nil && t.Poll != "" {
				err = save(ctx, running) // a next process waits, and does not ask again
			}
		}
	}
	if err == nil && t.Poll != "" {
		status, err = w.wait(ctx, t.Poll)
	}
	if ctx.Err() != nil && err != nil {
		if errors.Is(context.Cause(ctx), errCanceled) {
			last := context.WithoutCancel(ctx)
			return errors.Join(errCanceled, w.cancelNested(last, on), save(last, canceled))
		}
		return ctx.Err()
	}
	if err != nil {
		f := armapi.FaultOf(err)
		op.StatusMessage, op.StatusCode = map[string]any{"error": f}, statusCode(max(status, http.StatusBadRequest))
		t.Poll = ""
		if err := save(ctx, failed); err != nil {
			return err
		}
		return f.Err()
	}
	op.StatusCode = statusCode(status)
	return save(ctx, succeeded)
}

// statusCode is a status as operations name it: "BadRequest".
func statusCode(status int) string { return strings.ReplaceAll(http.StatusText(status), " ", "") }

// cancelNested passes a cancellation on to a nested deployment.
func (w *worker) cancelNested(ctx context.Context, on target) error {
	if !strings.EqualFold(on.ResourceType, Type) {
		return nil
	}
	_, err := w.p.Call(ctx, armapi.Call{Caller: w.k.Caller, Host: w.k.Host, Method: http.MethodPost, Path: on.ID + "/cancel", Version: versions[0]})
	if arm.IsCode(err, codeNotActive) || arm.IsCode(err, codeMissing) {
		return nil // it has ended, or not begun
	}
	return err
}

// pollOf is where an accepted request says how far it is, "" when it is done.
func pollOf(a armapi.Answer) (string, error) {
	link := a.Header.Get("Azure-AsyncOperation")
	if link == "" && a.Status == http.StatusAccepted {
		link = a.Header.Get("Location")
	}
	if link == "" {
		return "", nil
	}
	u, err := url.Parse(link)
	if err != nil {
		return "", arm.Errorf(arm.CodeInternal, "the link of an operation does not parse: %w", err)
	}
	return u.RequestURI(), nil
}

// wait polls until the operation behind a link has ended. Its error is the
// operation's.
func (w *worker) wait(ctx context.Context, link string) (status int, err error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for delay := firstPoll; ; delay = min(2*delay, lastPoll) {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-timer.C:
		}
		a, err := w.p.Call(ctx, armapi.Call{Caller: w.k.Caller, Host: w.k.Host, Method: http.MethodGet, Path: link})
		if err != nil {
			return a.Status, err
		}
		var state struct {
			Status string        `json:"status"`
			Error  *armapi.Fault `json:"error"`
		}
		if len(a.Body) > 0 {
			if err := json.Unmarshal(a.Body, &state); err != nil {
				return 0, arm.Errorf(arm.CodeInternal, "the state of an operation does not parse: %w", err)
			}
		}
		switch {
		case state.Error != nil:
			return http.StatusConflict, state.Error.Err()
		case state.Status == failed || state.Status == canceled:
			return http.StatusConflict, arm.Errorf("ResourceDeploymentFailure", "the resource operation completed with the terminal provisioning state '%s'", state.Status)
		case a.Status != http.StatusAccepted && (state.Status == succeeded || state.Status == ""):
			return http.StatusOK, nil
		}
		timer.Reset(delay)
	}
}
