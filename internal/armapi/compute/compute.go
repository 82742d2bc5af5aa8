// Package compute provides what of Microsoft.Compute images need: managed images,
// galleries, image definitions and versions. The machines and disks of builds can
// be looked at.
package compute

import (
	"context"
	"net/http"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/distribute"
	"goldsmith/internal/resource"
)

// Codes of refusals, as Azure's compute provider spells them.
const (
	codeImmutable arm.Code = "PropertyChangeNotAllowed"
	codeInvalid   arm.Code = "InvalidParameter"
	codeTaken     arm.Code = "GalleryImageIdentifierInUse"
)

var (
	imageVersions   = []string{"2024-11-01", "2024-07-01", "2024-03-01", "2023-09-01", "2022-11-01", "2022-03-01", "2021-11-01", "2020-06-01", "2019-12-01"}
	galleryVersions = []string{"2024-03-03", "2023-07-03", "2022-08-03", "2022-03-03", "2022-01-03", "2021-10-01", "2021-07-01", "2020-09-30", "2019-12-01"}
)

type provider struct {
	store        resource.Store
	subscription string
}

// Provider is Microsoft.Compute. Deleting an image deletes its record only; its
// content goes by garbage collection when nothing else needs it.
func Provider(store resource.Store, subscription string) armapi.Provider {
	p := &provider{store, subscription}
	record := func(prepare func(context.Context, *armapi.Request, *armapi.Draft) error) armapi.Kind {
		return armapi.Kind{Store: store, Prepare: func(ctx context.Context, r *armapi.Request, d *armapi.Draft) error {
			if d.Tags == nil {
				d.Tags = map[string]string{}
			}
			return prepare(ctx, r, d)
		}}
	}
	versions := record(p.prepareVersion)
	versions.Show = showVersion
	types := []armapi.Type{
		record(p.prepareImage).Fill(armapi.Type{Name: "images", Versions: imageVersions, Tracked: true, Pattern: `[a-zA-Z0-9_](?:[-._a-zA-Z0-9]{0,78}[a-zA-Z0-9_])?`}),
		record(p.prepareGallery).Fill(armapi.Type{Name: "galleries", Versions: galleryVersions, Tracked: true, Pattern: `[a-zA-Z0-9](?:[._a-zA-Z0-9]{0,78}[a-zA-Z0-9])?`}),
		record(p.prepareDefinition).Fill(armapi.Type{Name: "galleries/images", Versions: galleryVersions, Tracked: true, Pattern: `[a-zA-Z0-9](?:[-._a-zA-Z0-9]{0,78}[a-zA-Z0-9])?`}),
		versions.Fill(armapi.Type{Name: "galleries/images/versions", Versions: galleryVersions, Tracked: true, Pattern: `\d{1,10}\.\d{1,10}\.\d{1,10}`}),
	}
	for _, name := range []string{"virtualMachines", "disks"} {
		t := armapi.Kind{Store: store}.Fill(armapi.Type{Name: name, Versions: imageVersions, Tracked: true})
		t.Put, t.Patch, t.Delete = nil, nil, nil
		types = append(types, t)
	}
	return armapi.Provider{Namespace: "Microsoft.Compute", Types: types}
}

// object is the object at a path of properties, made where it is missing.
func object(in map[string]any, path ...string) map[string]any {
	for _, name := range path {
		next, ok := in[name].(map[string]any)
		if !ok {
			next = map[string]any{}
			in[name] = next
		}
		in = next
	}
	return in
}

// text is the string at a path of properties, "" when there is none.
func text(in map[string]any, path ...string) string {
	for _, name := range path[:len(path)-1] {
		in, _ = in[name].(map[string]any)
	}
	s, _ := in[path[len(path)-1]].(string)
	return s
}

func setDefault(in map[string]any, name string, value any) {
	if v := in[name]; v == nil || v == "" {
		in[name] = value
	}
}

// oneOf refuses a value that is none of the allowed ones, and gives it their
// casing.
func oneOf(in map[string]any, name, at string, allowed ...string) error {
	v, _ := in[name].(string)
	for _, a := range allowed {
		if strings.EqualFold(a, v) {
			in[name] = a
			return nil
		}
	}
	return arm.Errorf(codeInvalid, "the value '%s' of parameter '%s' is invalid; it is one of %s", v, name, strings.Join(allowed, ", ")).At(at)
}

// prepareImage completes a managed image. Only builds make them, because only
// builds make content; a PUT changes one that is there.
func (p *provider) prepareImage(_ context.Context, _ *armapi.Request, d *armapi.Draft) error {
	if d.Before == nil {
		return armapi.Status(http.StatusConflict, arm.Errorf(arm.CodeNotAllowed, "managed images are made by builds only, because this call brings no disk with it: use an image template with a ManagedImage distributor"))
	}
	setDefault(d.Properties, "hyperVGeneration", "V1")
	if err := oneOf(d.Properties, "hyperVGeneration", "properties.hyperVGeneration", "V1", "V2"); err != nil {
		return err
	}
	disk := object(d.Properties, "storageProfile", "osDisk")
	if err := oneOf(disk, "osType", "properties.storageProfile.osDisk.osType", "Linux", "Windows"); err != nil {
		return err
	}
	setDefault(disk, "osState", "Generalized")
	setDefault(disk, "caching", "None")
	setDefault(disk, "storageAccountType", "Standard_LRS")
	setDefault(object(d.Properties, "storageProfile"), "dataDisks", []any{})
	setDefault(object(d.Properties, "storageProfile"), "zoneResilient", false)
	return nil
}

func (p *provider) prepareGallery(_ context.Context, _ *armapi.Request, d *armapi.Draft) error {
	object(d.Properties, "identifier")["uniqueName"] = p.subscription + "-" + strings.ToUpper(d.Name)
	return nil
}

// content is where the bytes of an image record are; ok is false without any.
func content(rec resource.Record) (c distribute.Content, ok bool) {
	if len(rec.Internal) == 0 {
		return c, false
	}
	c, err := distribute.ContentOf(rec)
	return c, err == nil
}
