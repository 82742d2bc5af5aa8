package build

import (
	"context"
	"fmt"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/distribute"
	"goldsmith/internal/image"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

// Image is a managed image or gallery version of this store.
type Image struct {
	resource.Record
	distribute.Content
	Kind        string // "ManagedImage" or "SharedImage"
	StoredBytes int64  // what its chunks occupy, shared or not; 0 in lists
}

// ShortName is the image's name for people: "image", or "gallery/definition/version".
func (i Image) ShortName() string {
	id, err := arm.ParseID(i.ID)
	if err != nil || !id.IsType(distribute.TypeVersion) {
		return i.Name
	}
	definition, _ := id.Parent()
	gallery, _ := definition.Parent()
	return gallery.Name + "/" + definition.Name + "/" + id.Name
}

// Images lists the images of this store, ordered by id.
func (e *Engine) Images(ctx context.Context) ([]Image, error) {
	var images []Image
	for _, t := range []struct{ typ, kind string }{{distribute.TypeImage, "ManagedImage"}, {distribute.TypeVersion, "SharedImage"}} {
		records, _, err := e.resources.List(ctx, resource.Query{Scope: "/subscriptions/" + e.subscription, Type: t.typ})
		if err != nil {
			return nil, err
		}
		for _, r := range records {
			content, err := distribute.ContentOf(r)
			if err != nil {
				return nil, err
			}
			images = append(images, Image{Record: r, Content: content, Kind: t.kind})
		}
	}
	return images, nil
}

// FindImage resolves a full id in any case, a name, or a unique prefix of
// either. ".../versions/latest" is the latest version.
func (e *Engine) FindImage(ctx context.Context, name string) (Image, error) {
	if definition, ok := cutSuffixFold(name, "/versions/latest"); ok {
		rec, err := distribute.LatestVersion(ctx, e.resources, definition)
		if err != nil {
			return Image{}, err
		}
		name = rec.ID
	}
	images, err := e.Images(ctx)
	if err != nil {
		return Image{}, err
	}
	found, err := Match(images, name, func(i Image) []string { return []string{i.ID, i.ShortName(), i.Name} })
	if err != nil {
		return Image{}, fmt.Errorf("find image: %w", err)
	}
	digest, err := image.ParseDigest(found.Content.Image)
	if err != nil {
		return Image{}, err
	}
	stat, err := e.images.Stat(ctx, digest)
	if err != nil {
		return Image{}, err
	}
	found.StoredBytes = stat.StoredBytes
	return found, nil
}

func cutSuffixFold(s, suffix string) (string, bool) {
	if n := len(s) - len(suffix); n >= 0 && strings.EqualFold(s[n:], suffix) {
		return s[:n], true
	}
	return s, false
}

// Match finds the one item that has name as one of its names, or as a unique
// prefix of one. Names compare without case.
func Match[T any](items []T, name string, names func(T) []string) (T, error) {
	var none T
	if name == "" {
		return none, arm.Errorf(arm.CodeUsage, "an empty name says nothing: give an id, a name or the beginning of one")
	}
	var prefixed []T
	for _, item := range items {
		hit := false
		for _, n := range names(item) {
			if strings.EqualFold(n, name) {
				return item, nil
			}
			hit = hit || (len(n) > len(name) && strings.EqualFold(n[:len(name)], name))
		}
		if hit {
			prefixed = append(prefixed, item)
		}
	}
	switch len(prefixed) {
	case 0:
		return none, arm.Errorf(arm.CodeNotFound, "nothing is called %q", name)
	case 1:
		return prefixed[0], nil
	}
	var all []string
	for _, p := range prefixed {
		all = append(all, names(p)[0])
	}
	return none, arm.Errorf(arm.CodeUsage, "%q is the beginning of %d names:\n  %s", name, len(all), strings.Join(all, "\n  "))
}

// DeleteImage deletes an image resource. Its chunks go with garbage collection
// when no other image needs them.
func (e *Engine) DeleteImage(ctx context.Context, id string) error {
	_, err := e.resources.Delete(ctx, id, resource.Condition{})
	return err
}

// Templates lists the image templates of this store.
func (e *Engine) Templates(ctx context.Context) ([]resource.Record, error) {
	records, _, err := e.resources.List(ctx, resource.Query{Scope: "/subscriptions/" + e.subscription, Type: typeTemplate})
	return records, err
}

// FindTemplate resolves a template by id, name or unique prefix.
func (e *Engine) FindTemplate(ctx context.Context, name string) (resource.Record, error) {
	templates, err := e.Templates(ctx)
	if err != nil {
		return resource.Record{}, err
	}
	rec, err := Match(templates, name, func(r resource.Record) []string { return []string{r.ID, r.Name} })
	if err != nil {
		return rec, fmt.Errorf("find image template: %w", err)
	}
	return rec, nil
}

// StagingGroup is the resource id of a template's staging group, and what is in it.
func (e *Engine) StagingGroup(ctx context.Context, template resource.Record) (group string, contents []resource.Record, err error) {
	state, err := decodeTemplate(template)
	if err != nil {
		return "", nil, err
	}
	contents, _, err = e.resources.List(ctx, resource.Query{Scope: state.Staging.Group})
	return state.Staging.Group, contents, err
}

// LastRun is the newest run of a template; CodeNotFound when there was none.
func (e *Engine) LastRun(ctx context.Context, template string) (run.Record, error) {
	runs, err := e.runs.List(ctx, run.Filter{Template: template, Limit: 1})
	if err != nil {
		return run.Record{}, err
	}
	if len(runs) == 0 {
		return run.Record{}, arm.Errorf(arm.CodeNotFound, "%s was never run", template)
	}
	return runs[0], nil
}
