package imagebuilder

import (
	"context"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/network/topology"
	"goldsmith/internal/run"
)

// runBody is a run of the history as the extension serves it.
type runBody struct {
	ID         string        `json:"id"`
	Name       string        `json:"name"`
	Type       string        `json:"type"`
	Properties runProperties `json:"properties"`
}

type runProperties struct {
	Template   string       `json:"templateId"`
	State      run.State    `json:"runState"` // Queued and Interrupted beside those of lastRunStatus
	SubState   run.SubState `json:"runSubState,omitempty"`
	Phase      string       `json:"phase,omitempty"`
	Message    string       `json:"message,omitempty"`
	FailedStep string       `json:"failedStep,omitempty"`
	Outputs    []run.Output `json:"outputs,omitempty"`
	CreatedAt  time.Time    `json:"createdAt"`
	StartedAt  time.Time    `json:"startTime,omitzero"`
	EndedAt    time.Time    `json:"endTime,omitzero"`
	Queue      *queueBody   `json:"queue,omitempty"` // of a run that waits
	// Network is how the run is or was connected; lists are without it.
	Network *topology.View `json:"network,omitempty"`
}

// queueBody says what a queued run waits for.
type queueBody struct {
	Slots   int `json:"slots"`   // builds at once
	Working int `json:"working"` // of them in use
	Before  int `json:"before"`  // runs that wait in front of this one
}

func (p provider) showRun(ctx context.Context, r *armapi.Request, rec run.Record) (runBody, error) {
	b := runBody{
		ID: armapi.ProviderID(r.Subscription, Extension) + "/runs/" + rec.ID, Name: rec.ID, Type: Extension + "/runs",
		Properties: runProperties{
			Template: rec.Template, State: rec.State, SubState: rec.SubState, Phase: rec.Phase, Message: rec.Message,
			FailedStep: rec.FailedStep, Outputs: rec.Outputs, CreatedAt: rec.CreatedAt, StartedAt: rec.StartedAt, EndedAt: rec.EndedAt,
		},
	}
	if rec.State == run.Queued {
		working, slots, before, err := p.engine.Position(ctx, rec)
		if err != nil {
			return b, err
		}
		b.Properties.Queue = &queueBody{Slots: slots, Working: working, Before: before}
	}
	return b, nil
}

// findRun is a run that the caller may see: one of a template that the caller
// may do action on.
func (p provider) findRun(ctx context.Context, r *armapi.Request, id, action string) (run.Record, error) {
	rec, err := p.engine.Runs().Get(ctx, strings.ToLower(id))
	if err != nil {
		return rec, err
	}
	ok, err := r.Allowed(ctx, typeTemplate+"/"+action, rec.Template)
	if err == nil && !ok {
		err = run.ErrNotFound(id)
	}
	return rec, err
}

func (p provider) getRun(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, err := p.findRun(ctx, r, r.Name(), "read")
	if err != nil {
		return armapi.Response{}, err
	}
	body, err := p.showRun(ctx, r, rec)
	if err != nil {
		return armapi.Response{}, err
	}
	v, found, err := p.engine.Network(rec.ID)
	if found {
		body.Properties.Network = &v
	}
	return armapi.Poll(body), err
}

// drawNetwork is the network of a run's detail: as JSON or, for who accepts nothing
// else, as a picture or as text.
func (p provider) drawNetwork(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, err := p.findRun(ctx, r, r.Name(), "read")
	if err != nil {
		return armapi.Response{}, err
	}
	v, found, err := p.engine.Network(rec.ID)
	if err != nil {
		return armapi.Response{}, err
	}
	if !found {
		return armapi.Response{}, arm.Errorf(arm.CodeNotFound, "run %s never got as far as its network", rec.ID)
	}
	switch accept := r.Header.Get("Accept"); {
	case strings.HasPrefix(accept, "image/svg+xml"):
		return drawing("image/svg+xml", v.SVG()), nil
	case strings.HasPrefix(accept, "text/plain"):
		return drawing("text/plain; charset=utf-8", v.Text()), nil
	}
	return armapi.OK(v), nil
}

func drawing(contentType, text string) armapi.Response {
	return armapi.Response{Stream: func(w http.ResponseWriter) error {
		_, err := io.WriteString(w, text)
		return err
	}}.With("Content-Type", contentType)
}

// listRuns is the history, newest first. The query parameters template (a
// resource id), state (a run state) and $top narrow it; $skipToken goes on.
func (p provider) listRuns(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	size, token, err := r.Page()
	if err != nil {
		return armapi.Response{}, err
	}
	f := run.Filter{Template: r.Query.Get("template"), Before: token, Limit: size + 1}
	for _, s := range r.Query["state"] {
		f.States = append(f.States, run.State(s))
	}
	if _, err := p.engine.Runs().Get(ctx, token); token != "" && err != nil {
		return armapi.Response{}, arm.Errorf(arm.CodeValidationFailed, "the page token %.40q was not made by this service; start the list anew", token)
	}
	seen := seer(ctx, r, typeTemplate+"/read")
	values := []runBody{}
	for { // what the caller may not see leaves room for more
		batch, err := p.engine.Runs().List(ctx, f)
		if err != nil {
			return armapi.Response{}, err
		}
		for _, rec := range batch {
			if ok, err := seen(rec.Template); err != nil {
				return armapi.Response{}, err
			} else if !ok {
				continue
			}
			if len(values) == size {
				return armapi.ListOf(r, values, values[size-1].Name), nil
			}
			body, err := p.showRun(ctx, r, rec)
			if err != nil {
				return armapi.Response{}, err
			}
			values = append(values, body)
		}
		if len(batch) < f.Limit {
			return armapi.ListOf(r, values, ""), nil
		}
		f.Before = batch[len(batch)-1].ID
	}
}

// seer says whether the caller of a list may do action on a resource. It asks once
// for each.
func seer(ctx context.Context, r *armapi.Request, action string) func(id string) (bool, error) {
	known := map[string]bool{}
	return func(id string) (bool, error) {
		ok, found := known[id]
		if found {
			return ok, nil
		}
		ok, err := r.Sees(ctx, action, id)
		if err == nil {
			known[id] = ok
		}
		return ok, err
	}
}

func (p provider) cancelRun(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, err := p.findRun(ctx, r, r.Name(), "cancel/action")
	if err != nil {
		return armapi.Response{}, err
	}
	if rec, err = p.engine.CancelRunID(ctx, rec.ID); err != nil {
		return armapi.Response{}, err
	}
	body, err := p.showRun(ctx, r, rec)
	return armapi.Response{Status: http.StatusAccepted, Body: body}, err
}

// firstOffset is where a reader of events begins: behind Last-Event-ID, or at
// the query parameter offset.
func firstOffset(r *armapi.Request) (int64, error) {
	last, text := r.Header.Get("Last-Event-ID"), r.Query.Get("offset")
	if last != "" {
		text = last
	}
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return 0, arm.Errorf(arm.CodeValidationFailed, "the offset must be a whole number from 0, not %.40q", text).At("offset")
	}
	if last != "" {
		n++
	}
	return n, nil
}
