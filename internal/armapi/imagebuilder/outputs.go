package imagebuilder

import (
	"context"
	"encoding/json"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/resource"
)

// proxy is a resource without location and tags.
type proxy struct {
	Properties json.RawMessage `json:"properties"`
	ID         string          `json:"id"`
	Name       string          `json:"name"`
	Type       string          `json:"type"`
}

func showProxy(rec resource.Record, typ string) proxy {
	return proxy{rec.Properties, servedID(rec.ID), rec.Name, typ}
}

func (p provider) getOutput(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, err := p.engine.Resources().Get(ctx, r.ID)
	if err != nil {
		return armapi.Response{}, absent(r, err)
	}
	return armapi.OK(showProxy(rec, typeOutput)), nil
}

func (p provider) listOutputs(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	if err := p.parent(ctx, r); err != nil {
		return armapi.Response{}, err
	}
	return listing(ctx, p, r, typeOutput, func(rec resource.Record) (any, error) { return showProxy(rec, typeOutput), nil })
}

// parent is the 404 of a list below a template that is not there.
func (p provider) parent(ctx context.Context, r *armapi.Request) error {
	_, err := p.engine.Resources().Get(ctx, r.ID)
	if arm.IsCode(err, arm.CodeNotFound) {
		return armapi.ErrResourceNotFound(typeTemplate, r.Name(), r.Group)
	}
	return err
}

// identityOf is the identities that a change gives, without those it removes.
func identityOf(users map[string]json.RawMessage) *imagetemplate.Identity {
	given := &imagetemplate.Identity{Type: "UserAssigned"}
	for id, v := range users {
		if string(v) != "null" {
			given.UserAssigned = append(given.UserAssigned, id)
		}
	}
	return given
}
