package deployments

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armtemplate"
	"goldsmith/internal/jsontree"
	"goldsmith/internal/resource"
)

// maxTogether is how many resources of one deployment are made at once.
const maxTogether = 8

// errCanceled is the cause of a deployment's context that was cancelled by a client.
var errCanceled = errors.New("the deployment was cancelled")

// work deploys. It runs again after a restart of the service: what its operations
// say has succeeded is not done again, and what was accepted is waited for.
func (p *provider) work(ctx context.Context, op armapi.Operation) error {
	defer p.forget(op.ID)
	inner, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	p.mu.Lock()
	p.cancels[op.ID] = stop
	p.mu.Unlock()

	rec, err := p.Store.Get(ctx, op.Resource)
	if arm.IsCode(err, arm.CodeNotFound) {
		return arm.Errorf(arm.CodeCanceled, "the deployment was deleted")
	}
	if err != nil {
		return err
	}
	k, err := keptOf(rec)
	if err != nil {
		return err
	}
	if k.Run != op.ID {
		return arm.Errorf(arm.CodeCanceled, "the deployment was replaced by another one")
	}
	if k.Canceled {
		stop(errCanceled)
	}
	w := &worker{p: p, k: k, id: rec.ID}
	err = w.deploy(inner)
	if ctx.Err() != nil && err != nil {
		return err // the service stops, and the next process goes on
	}
	if errors.Is(context.Cause(inner), errCanceled) && err != nil {
		err = arm.Errorf(arm.CodeCanceled, "the deployment was cancelled; what it had made stays")
	}
	if unsaved := w.finish(ctx, err); unsaved != nil {
		return errors.Join(err, unsaved)
	}
	return err
}

// worker is one deployment that is being worked.
type worker struct {
	p          *provider
	k          kept
	id         string
	deployment *armtemplate.Deployment
	outputs    json.RawMessage
}

// deploy makes the resources, then deletes what the mode Complete asks for, then
// evaluates the outputs.
func (w *worker) deploy(ctx context.Context) error {
	if err := w.load(ctx); err != nil {
		return err
	}
	if err := w.p.update(ctx, w.id, w.k.Run, func(s *served) { s.ProvisioningState = running }); err != nil {
		return err
	}
	failures, err := w.resources(ctx)
	if err != nil {
		return err
	}
	if len(failures) == 0 && w.k.Mode == "Complete" {
		if failures, err = w.complete(ctx); err != nil {
			return err
		}
	}
	if len(failures) > 0 {
		e := arm.Errorf(codeFailed, "at least one resource deployment operation failed. Please list deployment operations for details. Please see https://aka.ms/arm-deployment-operations for usage details.").At(w.id)
		e.Details = failures
		return armapi.Status(http.StatusConflict, e)
	}
	out, err := w.deployment.Outputs(w.runtime(ctx))
	if err != nil {
		e := arm.Errorf(codeOutputs, "the resources are deployed, and the outputs cannot be evaluated: %w", err).At(w.id)
		var cause *arm.Error
		if errors.As(err, &cause) {
			e.Details = []*arm.Error{cause}
		}
		return e
	}
	w.outputs = out.Append(nil)
	return nil
}

// load evaluates the template again, with the parameters of the first time.
func (w *worker) load(ctx context.Context) error {
	given := w.p.remembered(w.k.Run)
	if given == nil && w.k.Secret {
		return arm.Errorf(codeFailed, "the service was restarted while the deployment ran, and it does not keep the values of secure parameters: deploy again").At(w.id)
	}
	if given == nil {
		var err error
		if given, err = parse(w.k.Parameters); err != nil {
			return err
		}
	}
	t, err := armtemplate.Parse(w.k.Template)
	if err != nil {
		return err
	}
	id, err := arm.ParseID(w.id)
	if err != nil {
		return err
	}
	env := armtemplate.Environment{
		Subscription: w.p.Subscription, SubscriptionName: w.p.Name, Tenant: w.p.Tenant, Name: id.Name, Location: w.k.Location, Mode: w.k.Mode,
		Endpoint: "https://" + w.k.Host + "/", StorageSuffix: w.p.StorageSuffix, Time: w.k.Time, NewGUID: uuid.NewString,
	}
	if env.Group, err = w.p.group(ctx, id.Group); err != nil {
		return err
	}
	w.deployment, err = t.Bind(env, given)
	return err
}

func parse(text []byte) (*jsontree.Node, error) {
	n, err := jsontree.Parse(text, jsontree.Limits{Bytes: 64 << 20, Depth: 1000})
	if err != nil {
		return nil, arm.Errorf(arm.CodeCorrupt, "what is kept of the deployment does not parse: %w", err)
	}
	return n, nil
}

// finish records how the deployment ended.
func (w *worker) finish(ctx context.Context, failure error) error {
	now := w.p.Now()
	err := w.p.update(ctx, w.id, w.k.Run, func(s *served) {
		s.ProvisioningState, s.Timestamp, s.Duration = succeeded, timestamp(now), duration(now.Sub(w.k.Time))
		s.Outputs = w.outputs
		if failure != nil {
			f := armapi.FaultOf(failure)
			s.Error, s.ProvisioningState = &f, failed
			if arm.CodeOf(failure) == arm.CodeCanceled {
				s.ProvisioningState = canceled
			}
			return
		}
		for _, r := range w.deployment.Resources {
			if r.Condition && !r.Existing {
				s.OutputResources = append(s.OutputResources, idPart{r.ID})
			}
		}
	})
	if arm.IsCode(err, arm.CodeNotFound) {
		return nil // deleted meanwhile, with its group
	}
	return err
}

// resources makes them in order, side by side where they do not wait for each
// other. When one fails, what waits for it is not begun, and the rest goes on.
func (w *worker) resources(ctx context.Context) ([]*arm.Error, error) {
	type result struct {
		i   int
		err error
	}
	all := w.deployment.Resources
	waits, then := make([]int, len(all)), make([][]int, len(all))
	var ready []int
	for i, r := range all {
		waits[i] = len(r.DependsOn)
		for _, j := range r.DependsOn {
			then[j] = append(then[j], i)
		}
		if waits[i] == 0 {
			ready = append(ready, i)
		}
	}
	results := make(chan result)
	var failures []*arm.Error
	var stopped error
	for working := 0; working > 0 || len(ready) > 0; {
		for ; working < maxTogether && len(ready) > 0 && stopped == nil; ready = ready[1:] {
			i := ready[0]
			working++
			go func() { results <- result{i, w.step(ctx, all[i])} }()
		}
		if working == 0 {
			break
		}
		done := <-results
		working--
		var e *arm.Error
		switch {
		case done.err == nil:
			for _, j := range then[done.i] {
				if waits[j]--; waits[j] == 0 {
					ready = append(ready, j)
				}
			}
		case ctx.Err() != nil || !errors.As(done.err, &e):
			stopped = errors.Join(stopped, done.err)
		default:
			failures = append(failures, e.At(all[done.i].ID))
		}
	}
	return failures, stopped
}

// reading is what expressions read of resources, with the rights of the caller.
type reading struct {
	reference func(id, version string) (*jsontree.Node, error)
	list      func(action, id, version string, body []byte) (*jsontree.Node, error)
}

// Reference implements armtemplate.Runtime.
func (r reading) Reference(id, version string, full bool) (*jsontree.Node, error) {
	n, err := r.reference(id, version)
	if err != nil || full {
		return n, err
	}
	if props := n.Fold("properties"); props != nil {
		return props, nil
	}
	return &jsontree.Node{Kind: jsontree.Object}, nil
}

// List implements armtemplate.Runtime.
func (r reading) List(action, id, version string, body *jsontree.Node) (*jsontree.Node, error) {
	var raw []byte
	if body != nil {
		raw = body.Append(nil)
	}
	return r.list(action, id, version, raw)
}

func (w *worker) runtime(ctx context.Context) armtemplate.Runtime {
	do := func(method, path, version string, body []byte) (*jsontree.Node, error) {
		a, err := w.p.Call(ctx, armapi.Call{Caller: w.k.Caller, Host: w.k.Host, Method: method, Path: path, Version: version, Body: body})
		if err != nil {
			return nil, err
		}
		if len(a.Body) == 0 {
			return &jsontree.Node{Kind: jsontree.Null, Text: "null"}, nil
		}
		return parse(a.Body)
	}
	return reading{
		reference: func(id, version string) (*jsontree.Node, error) { return do(http.MethodGet, id, version, nil) },
		list: func(action, id, version string, body []byte) (*jsontree.Node, error) {
			return do(http.MethodPost, strings.TrimSuffix(id, "/")+"/"+action, version, body)
		},
	}
}

// tracksGroup reports whether a record is a resource with a life of its own.
func tracksGroup(rec resource.Record) bool {
	return rec.Location != "" && !strings.EqualFold(rec.Type, armapi.TypeGroup)
}
