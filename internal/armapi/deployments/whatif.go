package deployments

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
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
	w := whatIf{p: p, r: r, full: full, changes: []change{}}
	if err := w.deployment(ctx, s.deployment, s.env, 0); err != nil {
		return armapi.Response{}, err
	}
	if s.env.Group != nil {
		others, err := p.others(ctx, r, s, full)
		if err != nil {
			return armapi.Response{}, err
		}
		w.changes = append(w.changes, others...)
	}
	shown, err := hidden(w.changes, w.secrets)
	return armapi.OK(map[string]any{"status": succeeded, "properties": map[string]any{"correlationId": r.RequestID, "changes": shown}}), err
}

// whatIf gathers what a deployment and those nested in it would do.
type whatIf struct {
	p       *provider
	r       *armapi.Request
	full    bool
	changes []change
	secrets []string
}

func (w *whatIf) deployment(ctx context.Context, d *armtemplate.Deployment, env armtemplate.Environment, depth int) error {
	w.secrets = append(w.secrets, d.SecretTexts()...)
	for _, res := range d.Resources {
		if !res.Condition || res.Existing {
			continue
		}
		if strings.EqualFold(res.Type, Type) && depth < maxNesting {
			if err := w.nested(ctx, res, env, depth+1); err != nil {
				return err
			}
			continue
		}
		c, err := w.p.change(ctx, w.r, res, w.full)
		if err != nil {
			return err
		}
		w.changes = append(w.changes, c)
	}
	return nil
}

// nested looks into a nested deployment, unless what it is given is known only when
// the outer one runs.
func (w *whatIf) nested(ctx context.Context, res *armtemplate.Resource, env armtemplate.Environment, depth int) error {
	body, err := res.Body(nil)
	if err != nil {
		return err
	}
	id, err := arm.ParseID(res.ID)
	if err != nil {
		return err
	}
	props := body.Fold("properties")
	d, err := func() (*armtemplate.Deployment, error) {
		template := props.Fold("template")
		if template == nil {
			return nil, arm.Errorf(codeInvalid, "the nested deployment has no template of its own")
		}
		t, err := armtemplate.FromNode(template)
		if err != nil {
			return nil, err
		}
		env.Name, env.Group, env.Location = id.Name, nil, ""
		if id.Group != "" {
			env.Group, err = w.p.group(ctx, id.Group)
			if arm.IsCode(err, arm.CodeGroupNotFound) {
				env.Group, err = &armtemplate.Group{Name: id.Group}, nil // it is made before
			}
		} else if l := body.Fold("location"); l != nil {
			env.Location = l.Text
		}
		if err != nil {
			return nil, err
		}
		return t.Bind(env, props.Fold("parameters"))
	}()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		w.changes = append(w.changes, change{ResourceID: res.ID, ChangeType: "Unsupported", UnsupportedReason: armapi.FaultOf(err).Message})
		return nil
	}
	return w.deployment(ctx, d, env, depth)
}

// mask stands for what is secret.
const mask = "*******"

// hidden are changes without the values of secure parameters. Short ones are hidden
// only where they are a whole string: they are parts of too much else.
func hidden(changes []change, secrets []string) (json.RawMessage, error) {
	raw, err := json.Marshal(changes)
	if err != nil || len(secrets) == 0 {
		return raw, err
	}
	slices.SortFunc(secrets, func(a, b string) int { return len(b) - len(a) }) // one may be in another
	n, err := parse(raw)
	if err != nil {
		return nil, err
	}
	var hide func(n *jsontree.Node)
	hide = func(n *jsontree.Node) {
		for _, secret := range secrets {
			switch {
			case n.Kind != jsontree.String:
			case n.Text == secret:
				n.Text = mask
			case len(secret) >= 4:
				n.Text = strings.ReplaceAll(n.Text, secret, mask)
			}
		}
		for _, i := range n.Items {
			hide(i)
		}
		for _, m := range n.Members {
			hide(m.Value)
		}
	}
	hide(n)
	return n.Append(nil), nil
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
