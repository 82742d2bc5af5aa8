package imagebuilder

import (
	"context"
	"encoding/json"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/build"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/preflight"
)

// preflightQuestion asks what keeps a template from being built.
type preflightQuestion struct {
	Group      string          `json:"resourceGroup"` // that it would be in
	Name       string          `json:"name"`          // that it would have
	APIVersion string          `json:"apiVersion"`
	Template   json.RawMessage `json:"template"` // its body
}

// preflightAnswer is a report on access, and what is wrong with networks.
type preflightAnswer struct {
	Report  preflight.Report     `json:"report"`
	Network []build.NetworkIssue `json:"network"`
}

// preflight reports what keeps a template from being submitted by the caller and
// built. It changes nothing. The caller must be able to read templates in the
// group.
func (p provider) preflight(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	var q preflightQuestion
	if err := r.Decode(&q); err != nil {
		return armapi.Response{}, err
	}
	id := arm.ResourceID(r.Subscription, q.Group, typeTemplate, q.Name)
	if _, err := arm.ParseID(id); err != nil || q.Group == "" || q.Name == "" {
		return armapi.Response{}, arm.Errorf(arm.CodeValidationFailed, "resourceGroup %.100q and name %.100q do not make the id of a template", q.Group, q.Name)
	}
	ok, err := r.Allowed(ctx, typeTemplate+"/read", id)
	if err != nil {
		return armapi.Response{}, err
	}
	if !ok {
		return armapi.Response{}, armapi.ErrForbidden(r, typeTemplate+"/read", id)
	}
	res := imagetemplate.Parse(q.Template, imagetemplate.Options{APIVersion: known(q.APIVersion), Service: true})
	if res.Template == nil {
		return armapi.Response{}, build.Problems(res)
	}
	caller := preflight.Principal{Kind: preflight.Caller, Object: r.Caller.ObjectID, App: r.Caller.AppID, Name: r.Caller.Name, Groups: r.Caller.Groups}
	var a preflightAnswer
	if a.Report, err = p.engine.Preflight(ctx, res.Template, q.Group, q.Name, &caller); err != nil {
		return armapi.Response{}, err
	}
	if a.Report.Findings, err = notAllowed(ctx, r, a.Report.Findings); err != nil {
		return armapi.Response{}, err
	}
	a.Network, err = p.engine.CheckNetwork(ctx, res.Template)
	return armapi.OK(a), err
}

// notAllowed leaves out what the caller lacks by role assignments but is allowed
// here, as the owner of the data directory is.
func notAllowed(ctx context.Context, r *armapi.Request, all []preflight.Finding) (left []preflight.Finding, err error) {
	for _, f := range all {
		if f.Need != nil && f.Need.Principal.Kind == preflight.Caller {
			ok, err := r.Allowed(ctx, f.Need.Action, f.Need.Scope)
			if err != nil {
				return nil, err
			}
			if ok {
				continue
			}
		}
		left = append(left, f)
	}
	return left, nil
}
