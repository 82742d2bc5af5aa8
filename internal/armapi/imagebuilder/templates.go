package imagebuilder

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/build"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/resource"
)

// Ways to ask for a change of a template that is there already, which the real
// service refuses.
const (
	// HeaderUpdate with the value UpdateInPlace.
	HeaderUpdate  = "X-Goldsmith-Update"
	UpdateInPlace = "in-place"
	// TagUpdate with the value UpdateInPlace, in the body's tags.
	TagUpdate = "goldsmith.update"
)

// early and late are a template's members in the order of the real service,
// which changed with 2022-02-14.
type early struct {
	Properties json.RawMessage   `json:"properties"`
	Identity   json.RawMessage   `json:"identity,omitempty"`
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	Location   string            `json:"location"`
	Tags       map[string]string `json:"tags"`
}

type late struct {
	Properties json.RawMessage   `json:"properties"`
	Identity   json.RawMessage   `json:"identity,omitempty"`
	Tags       map[string]string `json:"tags"`
	Location   string            `json:"location"`
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
}

// show is a template as a client of the request's version gets it, and its
// provisioning state.
func (p provider) show(ctx context.Context, r *armapi.Request, rec resource.Record) (body any, state string, err error) {
	last, err := p.engine.LastRunStatus(ctx, rec)
	if err != nil {
		return nil, "", err
	}
	version := known(r.Version)
	properties, state, err := build.ServeTemplate(rec, version, last)
	if err != nil {
		return nil, "", err
	}
	tags := rec.Tags
	if tags == nil {
		tags = map[string]string{}
	}
	e := early{properties, identityIn(version, rec.Identity), servedID(rec.ID), rec.Name, typeTemplate, rec.Location, tags}
	if version < "2022" {
		return e, state, nil
	}
	return late{e.Properties, e.Identity, e.Tags, e.Location, e.ID, e.Name, e.Type}, state, nil
}

// identityIn is an identity as a version shows it: the first ones have none, and
// since 2020-02-14 there always is one.
func identityIn(version string, identity json.RawMessage) json.RawMessage {
	switch {
	case version < "2019-05":
		return nil
	case version >= "2020" && len(identity) == 0:
		return json.RawMessage(`{"type":"None"}`)
	}
	return identity
}

// answer is a template with the headers of a plain answer.
func (p provider) answer(ctx context.Context, r *armapi.Request, status int, rec resource.Record) (armapi.Response, error) {
	body, state, err := p.show(ctx, r, rec)
	if err != nil {
		return armapi.Response{}, err
	}
	resp := armapi.Response{Status: status, Body: body}.WithETag(rec)
	if state != build.StateSucceeded && state != build.StateFailed {
		resp = resp.With("Retry-After", "1")
	}
	return resp, nil
}

func (p provider) get(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, err := p.engine.Resources().Get(ctx, r.ID)
	if err != nil {
		return armapi.Response{}, absent(r, err)
	}
	return p.answer(ctx, r, http.StatusOK, rec)
}

func (p provider) list(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	if r.Group != "" {
		if _, err := p.engine.Resources().Get(ctx, arm.GroupID(r.Subscription, r.Group)); arm.IsCode(err, arm.CodeNotFound) {
			return armapi.Response{}, armapi.ErrGroupNotFound(r.Group)
		} else if err != nil {
			return armapi.Response{}, err
		}
	}
	return listing(ctx, p, r, typeTemplate, func(rec resource.Record) (any, error) {
		body, _, err := p.show(ctx, r, rec)
		return body, err
	})
}

// listing answers with a page of the resources of a type below r.ID.
func listing(ctx context.Context, p provider, r *armapi.Request, typ string, show func(resource.Record) (any, error)) (armapi.Response, error) {
	size, token, err := r.Page()
	if err != nil {
		return armapi.Response{}, err
	}
	records, next, err := p.engine.Resources().List(ctx, resource.Query{Scope: r.ID, Type: typ, PageSize: size, PageToken: token})
	if err != nil {
		return armapi.Response{}, err
	}
	values := []any{}
	for _, rec := range records {
		ok, err := armapi.Visible(ctx, rec)
		if err != nil {
			return armapi.Response{}, err
		}
		if !ok {
			continue
		}
		v, err := show(rec)
		if err != nil {
			return armapi.Response{}, err
		}
		values = append(values, v)
	}
	return armapi.ListOf(r, values, next), nil
}

func (p provider) put(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	version := known(r.Version)
	if version < "2019-05-01" && strings.Contains(r.Name(), ".") {
		return armapi.Response{}, arm.Errorf("InvalidResourceName", "the name '%s' has a dot: names may have one from 2019-05-01-preview on", r.Name())
	}
	if err := p.checkFeature(ctx, r, version); err != nil {
		return armapi.Response{}, err
	}
	if _, err := r.Tree(); err != nil {
		return armapi.Response{}, err
	}
	res := imagetemplate.Parse(r.Body, imagetemplate.Options{APIVersion: version, Service: true})
	if res.Template == nil {
		return armapi.Response{}, build.Problems(res)
	}
	if err := checkName(r, res.Template); err != nil {
		return armapi.Response{}, err
	}
	if err := p.checkIdentities(ctx, r, res.Template.Identity); err != nil {
		return armapi.Response{}, err
	}
	id, err := arm.ParseID(r.ID)
	if err != nil {
		return armapi.Response{}, err
	}
	if err := p.checkCondition(ctx, r); err != nil {
		return armapi.Response{}, err
	}
	rec, created, err := p.engine.CreateTemplate(ctx, build.Submission{
		ID: id, Template: res, Operation: r.RequestID,
		Replace: strings.EqualFold(r.Header.Get(HeaderUpdate), UpdateInPlace) || strings.EqualFold(res.Template.Tags[TagUpdate], UpdateInPlace),
	})
	if err != nil {
		return armapi.Response{}, err
	}
	served, err := build.Describe(rec)
	if err != nil {
		return armapi.Response{}, err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	resp, err := p.answer(ctx, r, status, rec)
	if err != nil || served.State == build.StateSucceeded {
		return resp, err
	}
	op := armapi.Operation{ID: served.Operation.ID}
	if op.ID == r.RequestID {
		// The template is there: a client that goes away now changes nothing.
		if op, err = r.Begin(context.WithoutCancel(ctx), workWrite, rec.ID, nil); err != nil {
			return resp, err
		}
	}
	for name, values := range r.Accepted(status, nil, op, rec.Location, false).Header {
		resp = resp.With(name, values[0])
	}
	return resp, nil
}

// checkName refuses a body that is of another resource than the address.
func checkName(r *armapi.Request, t *imagetemplate.Template) error {
	if t.Name != "" && !strings.EqualFold(t.Name, r.Name()) {
		return arm.Errorf("InvalidRequestContent", "the request content names the resource '%s', and the request's address '%s'", t.Name, r.Name())
	}
	return nil
}

// checkCondition holds If-Match and If-None-Match against the stored template.
func (p provider) checkCondition(ctx context.Context, r *armapi.Request) error {
	cond, must := r.Condition(), r.MustExist()
	if cond == (resource.Condition{}) && !must {
		return nil
	}
	rec, err := p.engine.Resources().Get(ctx, r.ID)
	there := err == nil
	if err != nil && !arm.IsCode(err, arm.CodeNotFound) {
		return err
	}
	if there && cond.IfNoneMatch || !there && (must || cond.IfMatch != "") || there && cond.IfMatch != "" && cond.IfMatch != rec.ETag {
		return resource.ErrPrecondition(r.ID)
	}
	return nil
}

// checkIdentities asks whether the caller may give the identities to the
// template. Those of another subscription cannot be given at all.
func (p provider) checkIdentities(ctx context.Context, r *armapi.Request, identity *imagetemplate.Identity) error {
	if identity == nil {
		return nil
	}
	const action = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
	for _, user := range identity.UserAssigned {
		id, err := arm.ParseID(user)
		if err != nil {
			return err
		}
		if !strings.EqualFold(id.Subscription, r.Subscription) {
			return armapi.Status(http.StatusForbidden, arm.Errorf("LinkedAuthorizationFailed",
				"the client has permission to perform action '%s' on scope '%s', however the current tenant '%s' is not authorized to access linked subscription '%s'.",
				action, r.ID, r.Caller.TenantID, id.Subscription))
		}
		if err := r.RequireLinked(ctx, action, user); err != nil {
			return err
		}
	}
	return nil
}

// featureID is where the registration of the preview feature is kept.
func featureID(subscription string) string {
	return "/subscriptions/" + subscription + "/providers/Microsoft.Features/providers/" + Namespace + "/features/VirtualMachineTemplatePreview"
}

// checkFeature refuses the preview versions without the preview's feature.
func (p provider) checkFeature(ctx context.Context, r *armapi.Request, version string) error {
	if version > "2019-05-01-preview" {
		return nil
	}
	rec, err := p.engine.Resources().Get(ctx, featureID(r.Subscription))
	if err != nil && !arm.IsCode(err, arm.CodeNotFound) {
		return err
	}
	var props struct {
		State string `json:"state"`
	}
	if err == nil {
		if err := json.Unmarshal(rec.Properties, &props); err != nil {
			return arm.Errorf(arm.CodeCorrupt, "the registration of the feature does not parse: %w", err)
		}
	}
	if strings.EqualFold(props.State, "Registered") {
		return nil
	}
	return armapi.Status(http.StatusForbidden, arm.Errorf("SubscriptionNotRegisteredForFeature",
		"the subscription is not registered for the feature %s/VirtualMachineTemplatePreview, which API version %s needs: `az feature register --namespace %s --name VirtualMachineTemplatePreview`",
		Namespace, version, Namespace))
}
