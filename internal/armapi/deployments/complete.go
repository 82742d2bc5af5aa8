package deployments

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armtemplate"
	"goldsmith/internal/resource"
)

// left are the resources of the group that a deployment does not name, innermost
// first. A child of a resource that is named stays: only what the template lacks as
// a whole is left.
func (p *provider) left(ctx context.Context, group string, d *armtemplate.Deployment) ([]resource.Record, error) {
	named := map[string]bool{}
	for _, r := range d.Resources {
		if r.Condition && !r.Existing {
			named[root(r.ID)] = true
		}
	}
	var out []resource.Record
	for q := (resource.Query{Scope: group, PageSize: 1000}); ; {
		records, next, err := p.Store.List(ctx, q)
		if err != nil {
			return nil, err
		}
		for _, rec := range records {
			if tracksGroup(rec) && !named[root(rec.ID)] {
				out = append(out, rec)
			}
		}
		if next == "" {
			break
		}
		q.PageToken = next
	}
	slices.SortStableFunc(out, func(a, b resource.Record) int { return strings.Count(b.ID, "/") - strings.Count(a.ID, "/") })
	return out, nil
}

// root is the id of the resource of a group that id is, or is in.
func root(id string) string {
	parts := strings.Split(strings.ToLower(id), "/")
	return strings.Join(parts[:min(len(parts), 9)], "/")
}

// complete deletes what the template lacks, each resource by the caller's own
// DELETE. What others hold is tried again after them.
func (w *worker) complete(ctx context.Context) ([]*arm.Error, error) {
	id, err := arm.ParseID(w.id)
	if err != nil {
		return nil, err
	}
	left, err := w.p.left(ctx, id.GroupID(), w.deployment)
	if err != nil {
		return nil, err
	}
	for {
		var again []resource.Record
		var failures []*arm.Error
		for _, rec := range left {
			err := w.do(ctx, "Delete", target{rec.ID, rec.Type, rec.Name}, func() (armapi.Answer, error) {
				return w.p.Call(ctx, armapi.Call{Caller: w.k.Caller, Host: w.k.Host, Method: http.MethodDelete, Path: rec.ID, Version: versions[0]})
			})
			var e *arm.Error
			switch {
			case err == nil:
			case ctx.Err() != nil || !errors.As(err, &e):
				return nil, err
			default:
				again = append(again, rec)
				failures = append(failures, e.At(rec.ID))
			}
		}
		if len(again) == 0 || len(again) == len(left) {
			return failures, nil
		}
		left = again
	}
}
