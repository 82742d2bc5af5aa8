package distribute

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/plan"
	"goldsmith/internal/resource"
)

// Prepare checks, before anything boots, that every target can be published to.
// With create it makes the groups, galleries and image definitions that are
// missing and reports each by one sentence; without, a missing one is an error.
func (p *Publisher) Prepare(ctx context.Context, targets []plan.Output, c Content, location string, create bool, created func(string)) error {
	pre := preparer{Publisher: p, content: c, location: location, create: create, created: created}
	for _, t := range targets {
		var err error
		switch t.Type {
		case imagetemplate.ToManagedImage:
			err = pre.managedImage(ctx, t)
		case imagetemplate.ToSharedImage:
			err = pre.gallery(ctx, t)
		case imagetemplate.ToVHD:
			if t.URI != "" {
				_, _, _, err = p.Blobs.Locate(t.URI)
			}
		}
		if err != nil {
			return fmt.Errorf("%s: %w", t.Pointer, err)
		}
	}
	return nil
}

type preparer struct {
	*Publisher
	content  Content
	location string
	create   bool
	created  func(string)
}

func (p preparer) managedImage(ctx context.Context, t plan.Output) error {
	id, err := arm.ParseID(t.ImageID)
	if err != nil {
		return err
	}
	if _, err := p.ensure(ctx, id.GroupID(), TypeGroup, t.Location, nil); err != nil {
		return err
	}
	existing, err := p.Resources.Get(ctx, id.String())
	if arm.IsCode(err, arm.CodeNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if !SameLocation(existing.Location, t.Location) {
		return arm.Errorf(arm.CodeConflict, "image %s exists in %s and the template puts it in %s: use the same location or another name", existing.ID, existing.Location, t.Location)
	}
	return nil
}

func (p preparer) gallery(ctx context.Context, t plan.Output) error {
	id, err := arm.ParseID(t.GalleryImageID)
	if err != nil {
		return err
	}
	definition := id
	if id.IsType(TypeVersion) {
		definition, _ = id.Parent()
	}
	gallery, _ := definition.Parent()
	location := p.location
	if len(t.Regions) > 0 && !slices.ContainsFunc(t.Regions, func(r imagetemplate.TargetRegion) bool { return SameLocation(r.Name, location) }) {
		location = t.Regions[0].Name
	}
	if _, err := p.ensure(ctx, id.GroupID(), TypeGroup, location, nil); err != nil {
		return err
	}
	g, err := p.ensure(ctx, gallery.String(), TypeGallery, location, map[string]any{"provisioningState": "Succeeded"})
	if err != nil {
		return err
	}
	if len(t.Regions) > 0 && !slices.ContainsFunc(t.Regions, func(r imagetemplate.TargetRegion) bool { return SameLocation(r.Name, g.Location) }) {
		return arm.Errorf(arm.CodeValidationFailed, "the replication regions must include the gallery's own location %s", g.Location)
	}
	def, err := p.ensure(ctx, definition.String(), TypeDefinition, g.Location, map[string]any{
		"provisioningState": "Succeeded",
		"osType":            p.content.OS,
		"osState":           "Generalized",
		"hyperVGeneration":  fmt.Sprintf("V%d", p.content.Generation),
		"architecture":      "x64",
		"identifier":        map[string]any{"publisher": "goldsmith", "offer": gallery.Name, "sku": definition.Name},
	})
	if err != nil {
		return err
	}
	if err := Fits(def, p.content); err != nil {
		return err
	}
	if definition.String() == id.String() {
		return nil
	}
	if _, err := ParseVersion(id.Name); err != nil {
		return err
	}
	switch _, err := p.Resources.Get(ctx, id.String()); {
	case err == nil:
		return arm.Errorf(arm.CodeConflict, "gallery version %s exists already and versions do not change: delete it, or let the version be chosen by leaving out /versions/%s", id, id.Name)
	case !arm.IsCode(err, arm.CodeNotFound):
		return err
	}
	return nil
}

// ensure returns a resource, making it when that is asked for.
func (p preparer) ensure(ctx context.Context, id, typ, location string, props map[string]any) (resource.Record, error) {
	r, err := p.Resources.Get(ctx, id)
	if err == nil || !arm.IsCode(err, arm.CodeNotFound) {
		return r, err
	}
	parsed, err := arm.ParseID(id)
	if err != nil {
		return r, err
	}
	if !p.create {
		code := arm.CodeNotFound
		if typ == TypeGroup {
			code = arm.CodeGroupNotFound
		}
		return r, arm.Errorf(code, "%s does not exist: create it first", id)
	}
	if props == nil {
		props = map[string]any{"provisioningState": "Succeeded"}
	}
	properties, err := json.Marshal(props)
	if err != nil {
		return r, fmt.Errorf("encode %s: %w", id, err)
	}
	r, made, err := p.Resources.Put(ctx, resource.Record{ID: id, Type: typ, Name: parsed.Name, Location: location, Properties: properties}, resource.Condition{IfNoneMatch: true})
	if arm.IsCode(err, arm.CodePreconditionFailed) { // another build made it meanwhile
		return p.Resources.Get(ctx, id)
	}
	if err != nil {
		return r, err
	}
	if made && p.created != nil {
		p.created(fmt.Sprintf("created %s %s", kindName[typ], id))
	}
	return r, nil
}

var kindName = map[string]string{TypeGroup: "resource group", TypeGallery: "gallery", TypeDefinition: "image definition"}

// SameLocation compares region names as the real service does: "West US 2" is
// "westus2".
func SameLocation(a, b string) bool { return LocationName(a) == LocationName(b) }

// LocationName is the short form of a region's name.
func LocationName(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }
