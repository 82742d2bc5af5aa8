package deployments

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armtemplate"
	"goldsmith/internal/jsontree"
)

// change is what a deployment would do to one resource.
type change struct {
	ResourceID        string          `json:"resourceId"`
	ChangeType        string          `json:"changeType"`
	UnsupportedReason string          `json:"unsupportedReason,omitempty"`
	Before            json.RawMessage `json:"before,omitempty"`
	After             json.RawMessage `json:"after,omitempty"`
	Delta             []part          `json:"delta,omitempty"`
}

// whatIf says what a deployment would do, and does nothing. Resources are read with
// the rights of the caller.
func (p *provider) whatIf(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	s, err := p.submission(ctx, r)
	if err != nil {
		return armapi.Response{}, err
	}
	if err := p.check(ctx, r, s); err != nil {
		return armapi.Response{}, err
	}
	var full bool
	switch {
	case s.resultFormat == "", strings.EqualFold(s.resultFormat, "FullResourcePayloads"):
		full = true
	case !strings.EqualFold(s.resultFormat, "ResourceIdOnly"):
		return armapi.Response{}, arm.Errorf(arm.CodeInvalidJSON, "the resultFormat '%.40s' is not known: 'FullResourcePayloads' and 'ResourceIdOnly' are", s.resultFormat).At("properties.whatIfSettings.resultFormat")
	}
	changes := []change{}
	for _, res := range s.deployment.Resources {
		if !res.Condition || res.Existing {
			continue
		}
		c, err := p.change(ctx, r, res, full)
		if err != nil {
			return armapi.Response{}, err
		}
		changes = append(changes, c)
	}
	if s.env.Group != nil {
		others, err := p.others(ctx, r, s, full)
		if err != nil {
			return armapi.Response{}, err
		}
		changes = append(changes, others...)
	}
	return armapi.OK(map[string]any{"status": succeeded, "properties": map[string]any{"correlationId": r.RequestID, "changes": changes}}), nil
}

// change compares a resource of the template with the one that is there.
func (p *provider) change(ctx context.Context, r *armapi.Request, res *armtemplate.Resource, full bool) (change, error) {
	c := change{ResourceID: res.ID}
	body, err := res.Body(nil)
	if err != nil {
		return c, err
	}
	a, err := p.Call(ctx, armapi.Call{Caller: r.Caller, Host: host(r), Method: http.MethodGet, Path: res.ID, Version: res.APIVersion})
	switch {
	case a.Status == http.StatusNotFound:
		c.ChangeType = "Create"
	case a.Status == http.StatusForbidden || a.Status == http.StatusMethodNotAllowed:
		c.ChangeType, c.UnsupportedReason = "Unsupported", armapi.FaultOf(err).Message
	case err != nil:
		return c, err
	case !full:
		c.ChangeType = "Deploy"
	}
	after := described(res, body)
	if c.ChangeType != "" {
		if full {
			c.After = after.Append(nil)
		}
		return c, nil
	}
	before, err := parse(a.Body)
	if err != nil {
		return c, err
	}
	c.ChangeType, c.Delta = "NoChange", compare(before, body)
	if len(c.Delta) > 0 {
		c.ChangeType = "Modify"
	}
	c.Before, c.After = before.Append(nil), after.Append(nil)
	return c, nil
}

// described is the body of a resource with what is in its id.
func described(res *armtemplate.Resource, body *jsontree.Node) *jsontree.Node {
	out := &jsontree.Node{Kind: jsontree.Object}
	for _, m := range [][2]string{{"apiVersion", res.APIVersion}, {"id", res.ID}, {"name", res.Name[strings.LastIndexByte(res.Name, '/')+1:]}, {"type", res.Type}} {
		out.Members = append(out.Members, jsontree.Member{Key: m[0], Value: &jsontree.Node{Kind: jsontree.String, Text: m[1]}})
	}
	out.Members = append(out.Members, body.Members...)
	return out
}

// others are the resources of the group that the template does not name: they stay,
// or go in the mode Complete.
func (p *provider) others(ctx context.Context, r *armapi.Request, s submission, full bool) ([]change, error) {
	left, err := p.left(ctx, scopeOf(r), s.deployment)
	if err != nil {
		return nil, err
	}
	var out []change
	for _, rec := range left {
		if seen, err := r.Sees(ctx, rec.Type+"/read", rec.ID); err != nil {
			return nil, err
		} else if !seen {
			continue
		}
		c := change{ResourceID: rec.ID, ChangeType: "Ignore"}
		if s.env.Mode == "Complete" {
			c.ChangeType = "Delete"
		}
		if full {
			if c.Before, err = armapi.Resource(rec); err != nil {
				return nil, err
			}
		}
		out = append(out, c)
	}
	return out, nil
}
