package armapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
)

// Kind answers for a resource type whose resources are records. It does what is
// the same for all of them; the functions do what is not. The zero functions do
// nothing.
type Kind struct {
	Store resource.Store
	// AlwaysOK answers a PUT that creates with 200 instead of 201.
	AlwaysOK bool
	// Leaf says that resources of other types below one do not keep it from being
	// deleted; they go with it.
	Leaf bool
	// BodyETag puts the entity tag into bodies.
	BodyETag bool
	// Prepare judges and completes what is about to be stored. It may be called
	// several times for one request.
	Prepare func(ctx context.Context, r *Request, d *Draft) error
	// Show changes a record for an answer.
	Show func(ctx context.Context, r *Request, rec *resource.Record) error
	// Removable says why a record may not be deleted.
	Removable func(ctx context.Context, r *Request, rec resource.Record) error
	// Stored and Removed follow a write.
	Stored  func(ctx context.Context, rec resource.Record, created bool) error
	Removed func(ctx context.Context, rec resource.Record) error
}

// Draft is a record that is about to be written.
type Draft struct {
	resource.Record                  // its Properties come from the map below
	Properties      map[string]any   // never nil; numbers are json.Number
	Before          *resource.Record // nil for a new one
}

// Fill sets the handlers of a type that are not set.
func (k Kind) Fill(t Type) Type {
	t.Narrows = true
	for _, h := range []struct {
		at   *Handler
		with func(Type) Handler
	}{{&t.Get, k.get}, {&t.List, k.list}, {&t.Put, k.put}, {&t.Patch, k.patch}, {&t.Delete, k.delete}} {
		if *h.at == nil {
			*h.at = h.with(t)
		}
	}
	return t
}

// Body is a record as its answer.
func (k Kind) Body(ctx context.Context, r *Request, rec resource.Record) (json.RawMessage, error) {
	if k.Show != nil {
		if err := k.Show(ctx, r, &rec); err != nil {
			return nil, err
		}
	}
	body, err := Resource(rec)
	if err != nil || !k.BodyETag {
		return body, err
	}
	tag, err := json.Marshal(`W/"` + rec.ETag + `"`)
	return append(append(append(body[:len(body)-1], `,"etag":`...), tag...), '}'), err
}

func (k Kind) get(Type) Handler {
	return func(ctx context.Context, r *Request) (Response, error) {
		rec, err := k.Store.Get(ctx, r.ID)
		if err != nil {
			return Response{}, k.missing(ctx, r, err)
		}
		body, err := k.Body(ctx, r, rec)
		return OK(body).WithETag(rec), err
	}
}

func (k Kind) list(Type) Handler {
	return func(ctx context.Context, r *Request) (Response, error) {
		size, token, err := r.Page()
		if err != nil {
			return Response{}, err
		}
		records, next, err := k.Store.List(ctx, resource.Query{Scope: r.ID, Type: r.Type, PageSize: size, PageToken: token})
		if err != nil {
			return Response{}, err
		}
		if len(records) == 0 && token == "" {
			if err := k.checkParent(ctx, r); err != nil {
				return Response{}, err
			}
		}
		var bodies []json.RawMessage
		for _, rec := range records {
			seen, err := Visible(ctx, rec)
			if err != nil {
				return Response{}, err
			}
			if !seen {
				continue
			}
			body, err := k.Body(ctx, r, rec)
			if err != nil {
				return Response{}, err
			}
			bodies = append(bodies, body)
		}
		return ListOf(r, bodies, next), nil
	}
}

// writeTries bounds the race with other writers of one resource. Each try lost is
// somebody else's success.
const writeTries = 50

func (k Kind) put(t Type) Handler {
	return func(ctx context.Context, r *Request) (Response, error) {
		in, err := r.resource()
		if err != nil {
			return Response{}, err
		}
		return k.write(ctx, r, func(before *resource.Record) (*Draft, error) {
			d := &Draft{Before: before, Properties: map[string]any{}}
			d.Record = resource.Record{
				ID: r.ID, Type: r.Type, Name: r.Name(), Location: in.location, Kind: in.kind,
				Tags: in.tags, Identity: in.identity, Other: in.other,
			}
			if before != nil {
				d.Internal = before.Internal
				if d.Location == "" {
					d.Location = before.Location
				}
				if locationName(d.Location) != locationName(before.Location) {
					return nil, arm.Errorf(codeLocationFixed, "the resource '%s' already exists in location '%s' in resource group '%s'. A resource with the same name cannot be created in location '%s'. Please select a new resource name.", r.Name(), before.Location, r.Group, in.location)
				}
				d.Location = before.Location
			}
			if d.Location == "" && t.Tracked {
				return nil, arm.Errorf(codeLocationRequired, "the location property is required for this definition.")
			}
			return d, decodeProperties(in.properties, &d.Properties)
		})
	}
}

func (k Kind) patch(Type) Handler {
	return func(ctx context.Context, r *Request) (Response, error) {
		in, err := r.resource()
		if err != nil {
			return Response{}, err
		}
		return k.write(ctx, r, func(before *resource.Record) (*Draft, error) {
			if before == nil {
				return nil, k.missing(ctx, r, resource.ErrAbsent(r.ID))
			}
			d := &Draft{Before: before, Record: *before, Properties: map[string]any{}}
			if in.tags != nil {
				d.Tags = in.tags
			}
			if in.identity != nil {
				d.Identity = in.identity
			}
			if in.other != nil {
				d.Other = in.other
			}
			if err := decodeProperties(before.Properties, &d.Properties); err != nil {
				return nil, err
			}
			return d, decodeProperties(in.properties, &d.Properties) // members replace
		})
	}
}

// write stores what draft makes of the record as it is, and makes it again when
// somebody else wrote in between and the client did not ask for a certain one.
func (k Kind) write(ctx context.Context, r *Request, draft func(before *resource.Record) (*Draft, error)) (Response, error) {
	want := r.Condition()
	for try := 0; ; try++ {
		before, err := k.before(ctx, r, want)
		if err != nil {
			return Response{}, err
		}
		d, err := draft(before)
		if err != nil {
			return Response{}, err
		}
		d.Properties["provisioningState"] = Succeeded // read-only for clients
		if err := k.checkGroup(ctx, r); err != nil {
			return Response{}, err
		}
		if k.Prepare != nil {
			if err := k.Prepare(ctx, r, d); err != nil {
				return Response{}, err
			}
		}
		rec := d.Record
		if rec.Properties, err = json.Marshal(d.Properties); err != nil {
			return Response{}, arm.Errorf(arm.CodeInternal, "encode %s: %w", rec.ID, err)
		}
		cond := resource.Condition{IfNoneMatch: before == nil, Within: parentOf(r.ID)}
		if before != nil {
			cond.IfMatch = before.ETag
		}
		stored, created, err := k.Store.Put(ctx, rec, cond)
		if arm.IsCode(err, arm.CodePreconditionFailed) && want == (resource.Condition{}) && try < writeTries {
			continue
		}
		if err != nil {
			return Response{}, k.missing(ctx, r, err)
		}
		if k.Stored != nil {
			if err := k.Stored(ctx, stored, created); err != nil {
				return Response{}, err
			}
		}
		body, err := k.Body(ctx, r, stored)
		return Created(created && !k.AlwaysOK, body).WithETag(stored), err
	}
}

// before is the record that is to be replaced, nil for none, if it is the one
// that the client wants to replace.
func (k Kind) before(ctx context.Context, r *Request, want resource.Condition) (*resource.Record, error) {
	rec, err := k.Store.Get(ctx, r.ID)
	if arm.IsCode(err, arm.CodeNotFound) {
		if want.IfMatch != "" || r.MustExist() {
			return nil, resource.ErrPrecondition(r.ID)
		}
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if want.IfNoneMatch || (want.IfMatch != "" && want.IfMatch != rec.ETag) {
		return nil, resource.ErrPrecondition(r.ID)
	}
	return &rec, nil
}

func (k Kind) delete(Type) Handler {
	return func(ctx context.Context, r *Request) (Response, error) {
		rec, err := k.Store.Get(ctx, r.ID)
		if arm.IsCode(err, arm.CodeNotFound) {
			if _, err := k.Store.Get(ctx, groupOf(r.ID)); r.Group != "" && err != nil {
				return Response{}, k.missing(ctx, r, err)
			}
			return NoContent(), nil
		}
		if err != nil {
			return Response{}, err
		}
		if !k.Leaf {
			if err := k.checkEmpty(ctx, rec); err != nil {
				return Response{}, err
			}
		}
		if k.Removable != nil {
			if err := k.Removable(ctx, r, rec); err != nil {
				return Response{}, err
			}
		}
		_, err = k.Store.Delete(ctx, r.ID, r.Condition())
		if arm.IsCode(err, arm.CodeNotFound) {
			return NoContent(), nil // somebody else was faster
		}
		if err == nil && k.Removed != nil {
			err = k.Removed(ctx, rec)
		}
		return Response{Status: http.StatusOK}, err
	}
}

// checkEmpty refuses a record that has resources below it. What only tells about
// it, like a role assignment, is no such resource.
func (k Kind) checkEmpty(ctx context.Context, rec resource.Record) error {
	below, _, err := k.Store.List(ctx, resource.Query{Scope: rec.ID, PageSize: 100})
	if err != nil {
		return err
	}
	for _, child := range below {
		if strings.HasPrefix(strings.ToLower(child.Type), strings.ToLower(rec.Type)+"/") {
			return arm.Errorf(codeNested, "can not delete resource before nested resources are deleted: '%s' is one of them", child.ID).At(rec.ID)
		}
	}
	return nil
}

// missing turns the store's word for something that is not there into the one
// that says what.
func (k Kind) missing(ctx context.Context, r *Request, err error) error {
	if !arm.IsCode(err, arm.CodeNotFound) {
		return err
	}
	if r.Group != "" {
		if _, err := k.Store.Get(ctx, groupOf(r.ID)); arm.IsCode(err, arm.CodeNotFound) {
			return ErrGroupNotFound(r.Group)
		}
	}
	if parent := parentOf(r.ID); len(r.Names) > 1 && parent != "" {
		if _, err := k.Store.Get(ctx, parent); arm.IsCode(err, arm.CodeNotFound) {
			return arm.Errorf(codeParentNotFound, "can not perform requested operation on nested resource. Parent resource '%s' not found.", strings.Join(r.Names[:len(r.Names)-1], "/"))
		}
	}
	return ErrResourceNotFound(r.Type, strings.Join(r.Names, "/"), r.Group)
}

// checkParent refuses an empty list of what does not exist.
func (k Kind) checkParent(ctx context.Context, r *Request) error {
	if r.Group == "" {
		return nil
	}
	_, err := k.Store.Get(ctx, r.ID)
	if arm.IsCode(err, arm.CodeNotFound) && len(r.Names) > 0 {
		if _, err := k.Store.Get(ctx, groupOf(r.ID)); err == nil {
			typ := r.Type[:strings.LastIndexByte(r.Type, '/')]
			return ErrResourceNotFound(typ, strings.Join(r.Names, "/"), r.Group)
		}
	}
	if arm.IsCode(err, arm.CodeNotFound) {
		return ErrGroupNotFound(r.Group)
	}
	return err
}

// checkGroup refuses writes in a group that is being deleted.
func (k Kind) checkGroup(ctx context.Context, r *Request) error {
	if r.Group == "" || resource.Key(groupOf(r.ID)) == resource.Key(r.ID) {
		return nil
	}
	group, err := k.Store.Get(ctx, groupOf(r.ID))
	if err != nil {
		return k.missing(ctx, r, err)
	}
	if bytes.Contains(group.Properties, []byte(`"Deleting"`)) {
		return ErrGroupBeingDeleted(r.Group)
	}
	return nil
}

// parentOf is the id of the resource or group in which id is, "" for none.
func parentOf(id string) string {
	p := pairs(id)
	if len(p) < 4 {
		return ""
	}
	p = p[:len(p)-2]
	if n := len(p); n >= 2 && strings.EqualFold(p[n-2], "providers") {
		p = p[:n-2]
	}
	if len(p) == 2 {
		return "" // a subscription, which is no record
	}
	return "/" + strings.Join(p, "/")
}
