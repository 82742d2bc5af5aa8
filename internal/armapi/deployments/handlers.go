package deployments

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/filter"
	"goldsmith/internal/armtemplate"
	"goldsmith/internal/resource"
)

// body is a deployment as it is served.
func body(rec resource.Record) (json.RawMessage, error) { return armapi.Resource(rec) }

func (p *provider) get(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, err := p.Store.Get(ctx, idOf(r))
	if err != nil {
		return armapi.Response{}, absent(r, err)
	}
	out, err := body(rec)
	return armapi.OK(out), err
}

// list answers with the deployments of a group, or with those of the subscription
// itself.
func (p *provider) list(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	if _, err := p.group(ctx, groupOf(r)); err != nil && !arm.IsCode(err, "ResourceGroupBeingDeleted") {
		return armapi.Response{}, err
	}
	size, token, err := r.Page()
	if err != nil {
		return armapi.Response{}, err
	}
	expr, err := filter.Parse(r.Query.Get("$filter"))
	if err != nil {
		return armapi.Response{}, err
	}
	var out []json.RawMessage
	for q := (resource.Query{Scope: scopeOf(r), Type: Type, PageSize: size, PageToken: token}); ; {
		records, next, err := p.Store.List(ctx, q)
		if err != nil {
			return armapi.Response{}, err
		}
		for i, rec := range records {
			ok, err := expr.Match(func(t filter.Term) (bool, error) { return matches(rec, t) })
			if err != nil {
				return armapi.Response{}, err
			}
			if !ok || (groupOf(r) == "") != !strings.Contains(strings.ToLower(rec.ID), "/resourcegroups/") {
				continue
			}
			b, err := body(rec)
			if err != nil {
				return armapi.Response{}, err
			}
			if out = append(out, b); len(out) == size && (i < len(records)-1 || next != "") {
				return armapi.ListOf(r, out, resource.TokenAfter(rec.ID)), nil
			}
		}
		if next == "" {
			return armapi.ListOf(r, out, ""), nil
		}
		q.PageToken = next
	}
}

// matches decides "provisioningState eq 'Failed'".
func matches(rec resource.Record, t filter.Term) (bool, error) {
	if t.Call || !strings.EqualFold(t.Name, "provisioningState") {
		return false, filter.Unknown(t)
	}
	s, err := servedOf(rec)
	return strings.EqualFold(s.ProvisioningState, t.Args[0]), err
}

// put accepts a deployment: what can be wrong with it before anything is made is
// said now, and the rest is worked after the answer.
func (p *provider) put(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	s, err := p.submission(ctx, r)
	if err != nil {
		return armapi.Response{}, err
	}
	if err := p.check(ctx, r, s); err != nil {
		return armapi.Response{}, err
	}
	before, err := p.idle(ctx, r)
	if err != nil {
		return armapi.Response{}, err
	}
	depth, err := nesting(r)
	if err == nil && before == nil {
		err = p.makeRoom(ctx, r)
	}
	if err != nil {
		return armapi.Response{}, err
	}
	k := kept{
		Run: r.RequestID, Caller: r.Caller, Host: host(r), Mode: s.env.Mode, Location: s.env.Location, Time: s.env.Time,
		Template: s.template.Node().Append(nil), Parameters: s.deployment.Given(true).Append(nil), Secret: s.deployment.Secret(),
		Nesting: depth,
	}
	rec := resource.Record{ID: idOf(r), Type: Type, Name: deploymentName(r), Tags: s.tags}
	if s.env.Location != "" {
		if rec.Other, err = json.Marshal(map[string]string{"location": s.env.Location}); err != nil {
			return armapi.Response{}, err
		}
	}
	if rec.Properties, err = json.Marshal(shown(s, accepted, k.Run, s.env.Time)); err != nil {
		return armapi.Response{}, err
	}
	if rec.Internal, err = k.encode(); err != nil {
		return armapi.Response{}, err
	}
	cond := resource.Condition{IfNoneMatch: before == nil}
	if before != nil {
		cond.IfMatch = before.ETag
	}
	if groupOf(r) != "" {
		cond.Within = scopeOf(r)
	}
	stored, created, err := p.Store.Put(ctx, rec, cond)
	switch {
	case arm.IsCode(err, arm.CodePreconditionFailed):
		return armapi.Response{}, active(r)
	case arm.IsCode(err, arm.CodeNotFound):
		return armapi.Response{}, armapi.ErrGroupNotFound(groupOf(r))
	case err != nil:
		return armapi.Response{}, err
	}
	// From here on the deployment is there: a client that goes away changes nothing.
	ctx = context.WithoutCancel(ctx)
	if k.Secret {
		p.remember(k.Run, s.deployment.Given(false))
	}
	if before != nil {
		p.dropOperations(ctx, *before)
	}
	if _, err := r.Begin(ctx, workKind, stored.ID, nil); err != nil {
		p.forget(k.Run)
		return armapi.Response{}, err
	}
	out, err := body(stored)
	if err != nil {
		return armapi.Response{}, err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return r.AcceptedAt(status, out, escaped(stored.ID)+"/operationStatuses/"+k.Run, false), nil
}

// escaped is an id as a path of an address.
func escaped(id string) string { return (&url.URL{Path: id}).EscapedPath() }

// idle is the deployment that a request would replace, nil for none. One that is
// being worked cannot be replaced.
func (p *provider) idle(ctx context.Context, r *armapi.Request) (*resource.Record, error) {
	rec, err := p.Store.Get(ctx, idOf(r))
	if arm.IsCode(err, arm.CodeNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	busy, err := p.busy(ctx, r, rec)
	if busy {
		return nil, active(r)
	}
	return &rec, err
}

// busy reports whether a deployment is being worked.
func (p *provider) busy(ctx context.Context, r *armapi.Request, rec resource.Record) (bool, error) {
	s, err := servedOf(rec)
	if err != nil || (s.ProvisioningState != accepted && s.ProvisioningState != running) {
		return false, err
	}
	k, err := keptOf(rec)
	if err != nil {
		return false, err
	}
	op, err := r.Operation(ctx, k.Run)
	if arm.IsCode(err, arm.CodeNotFound) {
		return false, nil // the process ended before it began
	}
	return op.Status == armapi.InProgress, err
}

func active(r *armapi.Request) error {
	return armapi.Status(http.StatusConflict, arm.Errorf(codeActive, "unable to edit or replace deployment '%s': previous deployment is still active. Please see https://aka.ms/arm-deploy for usage details.", deploymentName(r)))
}

func (p *provider) delete(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	before, err := p.idle(ctx, r)
	if err != nil || before == nil {
		return armapi.NoContent(), err
	}
	if _, err = p.Store.Delete(ctx, before.ID, resource.Condition{IfMatch: before.ETag}); arm.IsCode(err, arm.CodeNotFound) {
		err = nil
	}
	return armapi.NoContent(), err
}

func (p *provider) validate(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	s, err := p.submission(ctx, r)
	if err != nil {
		return armapi.Response{}, err
	}
	if err := p.check(ctx, r, s); err != nil {
		return armapi.Response{}, err
	}
	out := shown(s, succeeded, r.RequestID, s.env.Time)
	for _, res := range s.deployment.Resources {
		if !res.Condition || res.Existing {
			continue
		}
		if _, err := res.Body(nil); err != nil {
			return armapi.Response{}, err
		}
		out.ValidatedResource = append(out.ValidatedResource, idPart{res.ID})
	}
	if _, err := s.deployment.Outputs(nil); err != nil {
		return armapi.Response{}, err
	}
	return armapi.OK(map[string]any{"id": idOf(r), "name": deploymentName(r), "type": Type, "properties": out}), nil
}

// cancel stops a deployment. What it has made stays.
func (p *provider) cancel(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, err := p.Store.Get(ctx, idOf(r))
	if err != nil {
		return armapi.Response{}, absent(r, err)
	}
	busy, err := p.busy(ctx, r, rec)
	if err != nil {
		return armapi.Response{}, err
	}
	if !busy {
		s, err := servedOf(rec)
		if err != nil {
			return armapi.Response{}, err
		}
		return armapi.Response{}, armapi.Status(http.StatusConflict, arm.Errorf(codeNotActive, "the deployment '%s' cannot be cancelled because it is not active: its state is '%s'.", rec.Name, s.ProvisioningState))
	}
	var run string
	_, err = p.Store.Update(ctx, rec.ID, func(rec *resource.Record) error {
		k, err := keptOf(*rec)
		if err != nil {
			return err
		}
		k.Canceled, run = true, k.Run
		rec.Internal, err = k.encode()
		return err
	})
	if err != nil {
		return armapi.Response{}, absent(r, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if stop := p.cancels[run]; stop != nil {
		stop(errCanceled)
	}
	return armapi.NoContent(), nil
}

func (p *provider) export(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, err := p.Store.Get(ctx, idOf(r))
	if err != nil {
		return armapi.Response{}, absent(r, err)
	}
	k, err := keptOf(rec)
	return armapi.OK(map[string]json.RawMessage{"template": k.Template}), err
}

// status answers .../operationStatuses/RUN.
func (p *provider) status(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	op, err := r.Operation(ctx, r.Name())
	if err != nil {
		return armapi.Response{}, err
	}
	out := map[string]any{"status": op.Status}
	if op.Status == armapi.InProgress {
		out["status"] = running
	}
	if op.Fault != nil {
		out["error"] = op.Fault
	}
	return armapi.Poll(out), nil
}

// hash answers POST /providers/Microsoft.Resources/calculateTemplateHash.
func hash(_ context.Context, r *armapi.Request) (armapi.Response, error) {
	n, err := r.Tree()
	if err != nil {
		return armapi.Response{}, err
	}
	t, err := armtemplate.FromNode(n)
	if err != nil {
		return armapi.Response{}, err
	}
	return armapi.OK(map[string]string{"minifiedTemplate": string(n.Append(nil)), "templateHash": t.Hash()}), nil
}
