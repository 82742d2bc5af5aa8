package network

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/resource"
)

// child answers for the parts of one kind's records.
type child struct {
	*provider
	kind kind
	part part
}

func parentID(r *armapi.Request, collection bool) string {
	if collection {
		return r.ID
	}
	p := strings.Split(r.ID, "/")
	return strings.Join(p[:len(p)-2], "/")
}

// parent is the record that holds the parts, with its properties.
func (c child) parent(ctx context.Context, r *armapi.Request, collection bool) (resource.Record, map[string]any, error) {
	rec, err := c.store.Get(ctx, parentID(r, collection))
	if arm.IsCode(err, arm.CodeNotFound) {
		if _, err := c.store.Get(ctx, arm.GroupID(r.Subscription, r.Group)); arm.IsCode(err, arm.CodeNotFound) {
			return rec, nil, armapi.ErrGroupNotFound(r.Group)
		}
		return rec, nil, armapi.ErrResourceNotFound("Microsoft.Network/"+c.kind.typ, r.Names[0], r.Group)
	}
	if err != nil {
		return rec, nil, err
	}
	var properties map[string]any
	if err := json.Unmarshal(rec.Properties, &properties); err != nil {
		return rec, nil, arm.Errorf(arm.CodeCorrupt, "the properties of %s do not parse: %w", rec.ID, err)
	}
	if properties == nil {
		properties = map[string]any{}
	}
	// Records of a build in progress have parts without ids.
	return rec, properties, nameElements(c.kind, rec.ID, properties)
}

// body is a part as its answer: it has its record's entity tag.
func body(rec resource.Record, element map[string]any) map[string]any {
	element["etag"] = `W/"` + rec.ETag + `"`
	return element
}

// index is where in the parent the part called name is, -1 for nowhere.
func index(list []any, name string) int {
	for i, e := range list {
		if element, ok := e.(map[string]any); ok {
			if called, _ := element["name"].(string); strings.EqualFold(called, name) {
				return i
			}
		}
	}
	return -1
}

func (c child) get(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, properties, err := c.parent(ctx, r, false)
	if err != nil {
		return armapi.Response{}, err
	}
	list, _ := properties[c.part.member].([]any)
	i := index(list, r.Name())
	if i < 0 {
		return armapi.Response{}, armapi.ErrResourceNotFound(r.Type, strings.Join(r.Names, "/"), r.Group)
	}
	return armapi.OK(body(rec, list[i].(map[string]any))).WithETag(rec), nil
}

func (c child) list(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, properties, err := c.parent(ctx, r, true)
	if err != nil {
		return armapi.Response{}, err
	}
	list, _ := properties[c.part.member].([]any)
	var bodies []map[string]any
	for _, e := range list {
		if element, ok := e.(map[string]any); ok {
			bodies = append(bodies, body(rec, element))
		}
	}
	return armapi.ListOf(r, bodies, ""), nil
}

// put writes a part by writing its parent.
func (c child) put(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	var in struct {
		Properties map[string]any `json:"properties"`
	}
	if err := r.Decode(&in); err != nil {
		return armapi.Response{}, err
	}
	if in.Properties == nil {
		in.Properties = map[string]any{}
	}
	rec, properties, err := c.parent(ctx, r, false)
	if err != nil {
		return armapi.Response{}, err
	}
	if err := matches(r, rec); err != nil {
		return armapi.Response{}, err
	}
	list, _ := properties[c.part.member].([]any)
	element := map[string]any{"name": r.Name(), "properties": in.Properties}
	i := index(list, r.Name())
	if i >= 0 {
		element["name"] = list[i].(map[string]any)["name"]
		list[i] = element
	} else {
		list = append(list, element)
	}
	properties[c.part.member] = list
	stored, err := c.write(ctx, r, rec, properties, in.Properties)
	if err != nil {
		return armapi.Response{}, err
	}
	var after map[string]any
	if err := json.Unmarshal(stored.Properties, &after); err != nil {
		return armapi.Response{}, err
	}
	list, _ = after[c.part.member].([]any)
	if at := index(list, r.Name()); at >= 0 {
		element = list[at].(map[string]any)
	}
	return armapi.Created(i < 0, body(stored, element)).WithETag(stored), nil
}

// matches holds a condition of the request against the parent's entity tag.
func matches(r *armapi.Request, rec resource.Record) error {
	if want := r.Condition().IfMatch; want != "" && want != rec.ETag {
		return resource.ErrPrecondition(r.ID)
	}
	return nil
}

// write judges and stores a parent. touched is what the caller refers to.
func (c child) write(ctx context.Context, r *armapi.Request, rec resource.Record, properties, touched map[string]any) (resource.Record, error) {
	if err := nameElements(c.kind, rec.ID, properties); err != nil {
		return rec, err
	}
	if err := c.requireJoins(ctx, r, &armapi.Draft{Record: rec, Properties: touched}); err != nil {
		return rec, err
	}
	etag := rec.ETag
	if err := c.judge(ctx, &rec, &properties); err != nil {
		return rec, err
	}
	stored, _, err := c.store.Put(ctx, rec, resource.Condition{IfMatch: etag})
	if arm.IsCode(err, arm.CodePreconditionFailed) {
		err = armapi.Status(http.StatusConflict, arm.Errorf("AnotherOperationInProgress", "another operation on %s is in progress; repeat the request", rec.ID))
	}
	return stored, err
}

func (c child) delete(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, properties, err := c.parent(ctx, r, false)
	if arm.IsCode(err, arm.CodeNotFound) {
		return armapi.NoContent(), nil
	}
	if err != nil {
		return armapi.Response{}, err
	}
	list, _ := properties[c.part.member].([]any)
	i := index(list, r.Name())
	if i < 0 {
		return armapi.NoContent(), nil
	}
	if err := matches(r, rec); err != nil {
		return armapi.Response{}, err
	}
	if err := c.removable(ctx, r, resource.Record{ID: r.ID}); err != nil {
		return armapi.Response{}, err
	}
	properties[c.part.member] = append(list[:i:i], list[i+1:]...)
	if _, err := c.write(ctx, r, rec, properties, map[string]any{}); err != nil {
		return armapi.Response{}, err
	}
	return armapi.Response{Status: http.StatusOK}, nil
}

// show completes records that others wrote, and what follows from a record.
func show(k kind) func(context.Context, *armapi.Request, *resource.Record) error {
	return func(_ context.Context, _ *armapi.Request, rec *resource.Record) error {
		if len(k.parts) == 0 {
			return nil
		}
		var properties map[string]any
		if err := json.Unmarshal(rec.Properties, &properties); err != nil {
			return arm.Errorf(arm.CodeCorrupt, "the properties of %s do not parse: %w", rec.ID, err)
		}
		for _, pt := range k.parts {
			setDefault(properties, pt.member, []any{})
		}
		if err := nameElements(k, rec.ID, properties); err != nil {
			return err
		}
		for _, pt := range k.parts {
			list, _ := properties[pt.member].([]any)
			for _, e := range list {
				if element, ok := e.(map[string]any); ok {
					body(*rec, element)
				}
			}
		}
		if strings.EqualFold(k.typ, "networkSecurityGroups") {
			properties["defaultSecurityRules"] = defaultsOf(rec.ID)
		}
		var err error
		rec.Properties, err = json.Marshal(properties)
		return err
	}
}

// number is n as JSON numbers of a record are.
func number(n int) json.Number { return json.Number(strconv.Itoa(n)) }
