package memory

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
)

type resourceStore struct{ db *DB }

func (s resourceStore) Get(ctx context.Context, id string) (resource.Record, error) {
	defer s.db.lock()()
	r, ok := s.db.resources[resource.Key(id)]
	if !ok {
		return resource.Record{}, resource.ErrAbsent(id)
	}
	return cloneResource(r), ctx.Err()
}

func (s resourceStore) Put(ctx context.Context, r resource.Record, cond resource.Condition) (resource.Record, bool, error) {
	if err := resource.Check(r); err != nil {
		return resource.Record{}, false, err
	}
	defer s.db.lock()()
	before, exists := s.db.resources[resource.Key(r.ID)]
	if (cond.IfNoneMatch && (exists || cond.IfMatch != "")) || (cond.IfMatch != "" && (!exists || cond.IfMatch != before.ETag)) {
		return resource.Record{}, false, resource.ErrPrecondition(r.ID)
	}
	if _, ok := s.db.resources[resource.Key(cond.Within)]; cond.Within != "" && !ok {
		return resource.Record{}, false, resource.ErrAbsent(cond.Within)
	}
	r = cloneResource(r)
	r.UpdatedAt, r.CreatedAt = now(), now()
	if exists {
		r.ID, r.Name, r.CreatedAt = before.ID, before.Name, before.CreatedAt
	}
	r.ETag = "etag-" + strconv.FormatInt(s.db.next(), 10)
	s.db.resources[resource.Key(r.ID)] = r
	return cloneResource(r), !exists, ctx.Err()
}

func (s resourceStore) Update(ctx context.Context, id string, change func(*resource.Record) error) (resource.Record, error) {
	for {
		r, err := s.Get(ctx, id)
		if err != nil {
			return resource.Record{}, err
		}
		etag, storedID := r.ETag, r.ID
		if err := change(&r); err != nil {
			return resource.Record{}, err
		}
		r.ID = storedID
		stored, _, err := s.Put(ctx, r, resource.Condition{IfMatch: etag})
		if arm.IsCode(err, arm.CodePreconditionFailed) {
			continue
		}
		return stored, err
	}
}

func (s resourceStore) Delete(ctx context.Context, id string, cond resource.Condition) ([]string, error) {
	defer s.db.lock()()
	key := resource.Key(id)
	before, ok := s.db.resources[key]
	if !ok {
		return nil, resource.ErrAbsent(id)
	}
	if cond.IfNoneMatch || (cond.IfMatch != "" && cond.IfMatch != before.ETag) {
		return nil, resource.ErrPrecondition(id)
	}
	var removed []string
	for _, r := range s.sorted(func(r resource.Record) bool { return resource.Key(r.ID) == key || under(r, id) }) {
		removed = append(removed, r.ID)
		delete(s.db.resources, resource.Key(r.ID))
	}
	return removed, ctx.Err()
}

func (s resourceStore) List(ctx context.Context, q resource.Query) ([]resource.Record, string, error) {
	after, err := resource.ParsePageToken(q.PageToken)
	if err != nil {
		return nil, "", err
	}
	defer s.db.lock()()
	found := s.sorted(func(r resource.Record) bool {
		return under(r, q.Scope) && resource.Key(r.ID) > after &&
			(q.Type == "" || strings.EqualFold(q.Type, r.Type)) && tagged(r, q.Tag, q.TagValue)
	})
	if q.PageSize > 0 {
		found = found[:min(len(found), q.PageSize+1)]
	}
	var records []resource.Record
	for _, r := range found {
		records = append(records, cloneResource(r))
	}
	page, next := resource.Page(records, q.PageSize)
	return page, next, ctx.Err()
}

func (s resourceStore) sorted(keep func(resource.Record) bool) []resource.Record {
	return sorted(s.db.resources, keep, by(func(r resource.Record) string { return resource.Key(r.ID) }))
}

func under(r resource.Record, scope string) bool {
	from, to := resource.Below(scope)
	key := resource.Key(r.ID)
	return key >= from && key < to
}

func tagged(r resource.Record, name, value string) bool {
	if name == "" {
		return true
	}
	for n, v := range r.Tags {
		if strings.EqualFold(n, name) {
			return value == "" || v == value
		}
	}
	return false
}

func cloneResource(r resource.Record) resource.Record {
	r.Tags = maps.Clone(r.Tags)
	if r.Tags == nil {
		r.Tags = map[string]string{}
	}
	r.Identity, r.Properties = slices.Clone(r.Identity), slices.Clone(r.Properties)
	r.Other, r.Internal = slices.Clone(r.Other), slices.Clone(r.Internal)
	return r
}
