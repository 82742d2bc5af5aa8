package cli

import (
	"context"
	"encoding/json"
	"net/http"

	"goldsmith/internal/build"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/preflight"
)

// judgement is what keeps a template from being submitted and built.
type judgement struct {
	Report  preflight.Report     `json:"report"`
	Network []build.NetworkIssue `json:"network"`
}

// judge asks the service or data directory that the user named about a template.
func (a *app) judge(ctx context.Context, file templateFile, flags checkFlags) (*judgement, error) {
	r, err := a.remote(ctx)
	if err != nil {
		return nil, err
	}
	j := new(judgement)
	if r != nil {
		res, err := a.parseForCheck(file, flags, remotePlace(ctx, r, flags.group))
		if err != nil {
			return nil, err
		}
		return j, judgeAt(ctx, r, res, flags.group, firstOf(flags.name, file.name(res.Template)), j)
	}
	return j, a.withEngine(ctx, func(e *build.Engine) error {
		res, err := a.parseForCheck(file, flags, localPlace(ctx, e, flags.group))
		if err != nil {
			return err
		}
		t := res.Template
		if j.Report, err = e.Preflight(ctx, t, flags.group, firstOf(flags.name, file.name(t)), nil); err != nil {
			return err
		}
		j.Network, err = e.CheckNetwork(ctx, t)
		return err
	})
}

// judgeAt asks a service about a template that would have a name in a group.
func judgeAt(ctx context.Context, r *remote, res imagetemplate.Result, group, name string, j *judgement) error {
	body, err := submittedBody(res)
	if err != nil {
		return err
	}
	return r.call(ctx, http.MethodPost, r.below("/providers/Goldsmith.Builds/preflight"), extension, struct {
		Group      string                     `json:"resourceGroup"`
		Name       string                     `json:"name"`
		APIVersion string                     `json:"apiVersion"`
		Template   map[string]json.RawMessage `json:"template"`
	}{group, name, firstOf(res.Template.APIVersion, templateVersion), body}, j)
}
