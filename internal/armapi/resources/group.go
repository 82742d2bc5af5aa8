package resources

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/filter"
	"goldsmith/internal/resource"
)

func (p *provider) groups(prefix string) armapi.Type {
	k := armapi.Kind{Store: p.Store, Prepare: p.prepareGroup}
	t := k.Fill(armapi.Type{
		Name: "subscriptions/resourceGroups", Place: armapi.InTenant, Versions: versions, Tracked: true,
		Pattern: `[-\p{L}\p{Nd}_.()]{0,89}[-\p{L}\p{Nd}_()]`, Permission: prefix + "/resourceGroups",
		Get: p.getGroup, List: p.listGroups, Delete: p.beginDelete,
	})
	put, patch := t.Put, t.Patch
	t.Put = asGroup(put)
	t.Patch = asGroup(patch)
	return t
}

// asGroup gives the records of groups the type that clients see, which is not the
// one of their path.
func asGroup(h armapi.Handler) armapi.Handler {
	return func(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
		r.Type = armapi.TypeGroup
		return h(ctx, r)
	}
}

func (p *provider) prepareGroup(_ context.Context, _ *armapi.Request, d *armapi.Draft) error {
	if d.Tags == nil {
		d.Tags = map[string]string{}
	}
	d.Properties = map[string]any{"provisioningState": armapi.Succeeded}
	if d.Before != nil && deleting(*d.Before) {
		return armapi.ErrGroupBeingDeleted(d.Name)
	}
	if d.Location == "" {
		return arm.Errorf("LocationRequired", "the location property is required for this definition.")
	}
	return nil
}

func (p *provider) group(ctx context.Context, r *armapi.Request) (resource.Record, error) {
	rec, err := p.Store.Get(ctx, r.ID)
	if arm.IsCode(err, arm.CodeNotFound) {
		err = armapi.ErrGroupNotFound(r.Name())
	}
	return rec, err
}

func (p *provider) getGroup(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, err := p.group(ctx, r)
	if err != nil {
		return armapi.Response{}, err
	}
	body, err := armapi.Resource(rec)
	return armapi.OK(body), err
}

func (p *provider) listGroups(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	return p.listRecords(ctx, r, resource.Query{Scope: r.ID, Type: armapi.TypeGroup}, func(resource.Record) bool { return true })
}

func (p *provider) beginDelete(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, err := p.group(ctx, r)
	if err != nil {
		return armapi.Response{}, err
	}
	if deleting(rec) {
		return armapi.Response{}, armapi.ErrGroupBeingDeleted(r.Name())
	}
	if err := p.setState(ctx, rec.ID, "Deleting"); err != nil {
		return armapi.Response{}, err
	}
	op, err := r.Begin(ctx, "resourceGroups/delete", rec.ID, nil)
	if err != nil {
		return armapi.Response{}, errors.Join(err, p.setState(context.WithoutCancel(ctx), rec.ID, armapi.Succeeded))
	}
	return r.AcceptedResult(op), nil
}

func deleting(rec resource.Record) bool {
	return strings.Contains(string(rec.Properties), `"Deleting"`)
}

func (p *provider) setState(ctx context.Context, id, state string) error {
	_, err := p.Store.Update(ctx, id, func(rec *resource.Record) (err error) {
		rec.Properties, err = json.Marshal(map[string]string{"provisioningState": state})
		return err
	})
	return err
}

// deleteGroup deletes a group with all that is in it, in one transaction. Writes
// that come before it go with it, and those that come after find no group.
func (p *provider) deleteGroup(ctx context.Context, op armapi.Operation) error {
	for _, f := range p.Deleting {
		if err := f(ctx, op.Resource); err != nil {
			if arm.IsCode(err, arm.CodeNotAllowed) || arm.IsCode(err, arm.CodeConflict) {
				err = armapi.ErrGroupInUse(op.Resource, err)
			}
			if ctx.Err() == nil {
				err = errors.Join(err, ignoreAbsent(p.setState(ctx, op.Resource, armapi.Succeeded)))
			}
			return err
		}
	}
	removed, err := p.Store.Delete(ctx, op.Resource, resource.Condition{})
	if err != nil {
		return ignoreAbsent(err) // absent: a process before came as far
	}
	var errs []error
	for _, f := range p.Removed {
		errs = append(errs, f(context.WithoutCancel(ctx), removed))
	}
	return errors.Join(errs...)
}

func ignoreAbsent(err error) error {
	if arm.IsCode(err, arm.CodeNotFound) {
		return nil
	}
	return err
}

// list answers GET .../resources of a subscription or a group.
func (p *provider) list(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	q := resource.Query{Scope: r.ID}
	if r.Group != "" {
		if _, err := p.Store.Get(ctx, r.ID); arm.IsCode(err, arm.CodeNotFound) {
			return armapi.Response{}, armapi.ErrGroupNotFound(r.Group)
		} else if err != nil {
			return armapi.Response{}, err
		}
	}
	// A type or a tag that must hold lets the store look at fewer records.
	if e, err := filter.Parse(r.Query.Get("$filter")); err == nil {
		q.Type, q.Tag = e.Required("resourceType"), e.Required("tagName")
	}
	return p.listRecords(ctx, r, q, func(rec resource.Record) bool {
		return rec.Location != "" && !strings.EqualFold(rec.Type, armapi.TypeGroup)
	})
}

// listRecords answers with the records of a query that belong, the filter takes
// and the caller may see.
func (p *provider) listRecords(ctx context.Context, r *armapi.Request, q resource.Query, belongs func(resource.Record) bool) (armapi.Response, error) {
	expr, err := filter.Parse(r.Query.Get("$filter"))
	if err != nil {
		return armapi.Response{}, err
	}
	size, token, err := r.Page()
	if err != nil {
		return armapi.Response{}, err
	}
	var bodies []json.RawMessage
	q.PageToken, q.PageSize = token, size
	for {
		records, next, err := p.Store.List(ctx, q)
		if err != nil {
			return armapi.Response{}, err
		}
		for i, rec := range records {
			if !belongs(rec) {
				continue
			}
			ok, err := expr.Match(func(t filter.Term) (bool, error) { return matches(rec, t) })
			if err == nil && ok {
				ok, err = armapi.Visible(ctx, rec)
			}
			if err != nil {
				return armapi.Response{}, err
			}
			if !ok {
				continue
			}
			body, err := armapi.Resource(rec)
			if err != nil {
				return armapi.Response{}, err
			}
			if bodies = append(bodies, body); len(bodies) == size && (i < len(records)-1 || next != "") {
				return armapi.ListOf(r, bodies, resource.TokenAfter(rec.ID)), nil
			}
		}
		if next == "" {
			return armapi.ListOf(r, bodies, ""), nil
		}
		q.PageToken = next
	}
}

// matches decides a term of a list's filter.
func matches(rec resource.Record, t filter.Term) (bool, error) {
	if t.Call {
		if len(t.Args) != 2 {
			return false, filter.Unknown(t)
		}
		field, want := strings.ToLower(t.Args[0]), strings.ToLower(t.Args[1])
		switch strings.ToLower(t.Name) {
		case "startswith":
			if field == "tagname" {
				return anyTag(rec, func(n, _ string) bool { return strings.HasPrefix(strings.ToLower(n), want) }), nil
			}
			v, err := fieldOf(rec, field, t)
			return strings.HasPrefix(v, want), err
		case "substringof": // the arguments are the other way round
			v, err := fieldOf(rec, want, t)
			return strings.Contains(v, field), err
		}
		return false, filter.Unknown(t)
	}
	want := t.Args[0]
	switch strings.ToLower(t.Name) {
	case "tagname":
		return anyTag(rec, func(n, _ string) bool { return strings.EqualFold(n, want) }), nil
	case "tagvalue":
		return anyTag(rec, func(_, v string) bool { return v == want }), nil
	}
	v, err := fieldOf(rec, strings.ToLower(t.Name), t)
	if strings.EqualFold(t.Name, "location") {
		want = strings.ReplaceAll(want, " ", "")
	}
	return v == strings.ToLower(want), err
}

func anyTag(rec resource.Record, holds func(name, value string) bool) bool {
	for n, v := range rec.Tags {
		if holds(n, v) {
			return true
		}
	}
	return false
}

// fieldOf is a field of a record in lower case.
func fieldOf(rec resource.Record, field string, t filter.Term) (string, error) {
	switch field {
	case "name":
		return strings.ToLower(rec.Name), nil
	case "resourcetype":
		return strings.ToLower(rec.Type), nil
	case "location":
		return strings.ToLower(strings.ReplaceAll(rec.Location, " ", "")), nil
	case "resourcegroup":
		id, err := arm.ParseID(rec.ID)
		return strings.ToLower(id.Group), err
	case "resourceid":
		return strings.ToLower(rec.ID), nil
	case "identity/principalid", "plan", "plan/publisher":
		return "", nil
	}
	return "", filter.Unknown(t)
}
