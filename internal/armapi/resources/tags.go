package resources

import (
	"context"
	"maps"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/resource"
)

// tagsBody is the tags resource of the record at scope.
func tagsBody(scope string, tags map[string]string) map[string]any {
	return map[string]any{
		"id": scope + "/providers/Microsoft.Resources/tags/default", "name": "default", "type": "Microsoft.Resources/tags",
		"properties": map[string]any{"tags": tags},
	}
}

func (p *provider) getTags(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, err := p.Store.Get(ctx, r.Scope)
	if err != nil {
		return armapi.Response{}, tagsMissing(r, err)
	}
	return armapi.OK(tagsBody(rec.ID, rec.Tags)), nil
}

func tagsMissing(r *armapi.Request, err error) error {
	if !arm.IsCode(err, arm.CodeNotFound) {
		return err
	}
	return arm.Errorf(arm.CodeNotFound, "the resource '%s' was not found, or has no tags of its own", r.Scope)
}

func (p *provider) putTags(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	return p.changeTags(ctx, r, "Replace")
}

func (p *provider) patchTags(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	return p.changeTags(ctx, r, "")
}

// changeTags replaces, merges or deletes tags, as operation or the body says.
func (p *provider) changeTags(ctx context.Context, r *armapi.Request, operation string) (armapi.Response, error) {
	var body struct {
		Operation  string `json:"operation"`
		Properties struct {
			Tags map[string]string `json:"tags"`
		} `json:"properties"`
	}
	if err := r.Decode(&body); err != nil {
		return armapi.Response{}, err
	}
	if operation == "" {
		operation = body.Operation
	}
	given := body.Properties.Tags
	rec, err := p.Store.Update(ctx, r.Scope, func(rec *resource.Record) error {
		switch strings.ToLower(operation) {
		case "replace":
			rec.Tags = maps.Clone(given)
		case "merge":
			for name, value := range given {
				dropTag(rec.Tags, name)
				rec.Tags[name] = value
			}
		case "delete":
			for name := range given {
				dropTag(rec.Tags, name)
			}
		default:
			return arm.Errorf(arm.CodeValidationFailed, "'%s' is no operation on tags; use Replace, Merge or Delete", operation).At("operation")
		}
		return armapi.CheckTags(rec.Tags)
	})
	if err != nil {
		return armapi.Response{}, tagsMissing(r, err)
	}
	return armapi.OK(tagsBody(rec.ID, rec.Tags)), nil
}

// dropTag removes a tag in any case.
func dropTag(tags map[string]string, name string) {
	maps.DeleteFunc(tags, func(n, _ string) bool { return strings.EqualFold(n, name) })
}

func (p *provider) deleteTags(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	_, err := p.Store.Update(ctx, r.Scope, func(rec *resource.Record) error {
		rec.Tags = nil
		return nil
	})
	if err != nil {
		return armapi.Response{}, tagsMissing(r, err)
	}
	return armapi.Response{}, nil
}

// tagCounts is the list of tag names with their values.
func (p *provider) tagCounts(counts map[string]map[string]int) []map[string]any {
	count := func(n int) map[string]any { return map[string]any{"type": "Total", "value": n} }
	id := "/subscriptions/" + p.Subscription + "/tagNames/"
	list := []map[string]any{}
	for _, name := range slices.Sorted(maps.Keys(counts)) {
		total, values := 0, []map[string]any{}
		for _, value := range slices.Sorted(maps.Keys(counts[name])) {
			n := counts[name][value]
			total += n
			values = append(values, map[string]any{"id": id + name + "/tagValues/" + value, "tagValue": value, "count": count(n)})
		}
		list = append(list, map[string]any{"id": id + name, "tagName": name, "count": count(total), "values": values})
	}
	return list
}
