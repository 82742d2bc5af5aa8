package imagebuilder

import (
	"context"
	"net/http"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/build"
	"goldsmith/internal/resource"
)

// checkTriggers refuses triggers in versions that do not have them.
func checkTriggers(r *armapi.Request) error {
	if known(r.Version) >= "2022-07-01" {
		return nil
	}
	return armapi.Status(http.StatusNotFound, arm.Errorf("InvalidResourceType", "there are no triggers before API version 2022-07-01"))
}

func (p provider) getTrigger(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	if err := checkTriggers(r); err != nil {
		return armapi.Response{}, err
	}
	rec, err := p.engine.Resources().Get(ctx, r.ID)
	if err != nil {
		return armapi.Response{}, absent(r, err)
	}
	return armapi.OK(showProxy(rec, build.TypeTrigger)), nil
}

func (p provider) listTriggers(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	if err := checkTriggers(r); err != nil {
		return armapi.Response{}, err
	}
	if err := p.parent(ctx, r); err != nil {
		return armapi.Response{}, err
	}
	return listing(ctx, p, r, build.TypeTrigger, func(rec resource.Record) (any, error) { return showProxy(rec, build.TypeTrigger), nil })
}

func (p provider) putTrigger(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	if err := checkTriggers(r); err != nil {
		return armapi.Response{}, err
	}
	var body struct {
		Properties struct {
			Kind string `json:"kind"`
		} `json:"properties"`
	}
	if err := r.Decode(&body); err != nil {
		return armapi.Response{}, err
	}
	id, err := arm.ParseID(r.ID)
	if err != nil {
		return armapi.Response{}, err
	}
	template, _ := id.Parent()
	parent, err := p.engine.Resources().Get(ctx, template.String())
	if arm.IsCode(err, arm.CodeNotFound) {
		return armapi.Response{}, armapi.ErrResourceNotFound(typeTemplate, template.Name, r.Group)
	}
	if err != nil {
		return armapi.Response{}, err
	}
	rec, created, err := p.engine.PutTrigger(ctx, parent.ID, r.Name(), body.Properties.Kind)
	if err != nil {
		return armapi.Response{}, err
	}
	resp := armapi.Created(created, showProxy(rec, build.TypeTrigger))
	if !created {
		return resp, nil
	}
	op, err := r.Begin(context.WithoutCancel(ctx), workTriggerWrite, rec.ID, nil)
	if err != nil {
		return resp, err
	}
	for name, values := range r.Accepted(http.StatusCreated, nil, op, parent.Location, false).Header {
		resp = resp.With(name, values[0])
	}
	return resp, nil
}

func (p provider) deleteTrigger(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	if err := checkTriggers(r); err != nil {
		return armapi.Response{}, err
	}
	rec, err := p.engine.Resources().Get(ctx, r.ID)
	if arm.IsCode(err, arm.CodeNotFound) {
		return armapi.NoContent(), nil
	}
	if err != nil {
		return armapi.Response{}, err
	}
	location, err := p.locationOf(ctx, rec)
	if err != nil {
		return armapi.Response{}, err
	}
	op, err := r.Begin(context.WithoutCancel(ctx), workTriggerDelete, rec.ID, nil)
	if err != nil {
		return armapi.Response{}, err
	}
	return r.Accepted(http.StatusAccepted, nil, op, location, true), nil
}

// locationOf is the location of the template above a resource.
func (p provider) locationOf(ctx context.Context, rec resource.Record) (string, error) {
	id, err := arm.ParseID(rec.ID)
	if err != nil {
		return "", err
	}
	template, _ := id.Parent()
	parent, err := p.engine.Resources().Get(ctx, template.String())
	return parent.Location, err
}

func (p provider) workTriggerWrite(ctx context.Context, op armapi.Operation) error {
	return p.engine.ActivateTrigger(ctx, op.Resource)
}

func (p provider) workTriggerDelete(ctx context.Context, op armapi.Operation) error {
	return p.engine.DeleteTrigger(ctx, op.Resource)
}
