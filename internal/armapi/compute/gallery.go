package compute

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/distribute"
	"goldsmith/internal/resource"
)

// prepareDefinition completes an image definition. What versions were made for
// cannot change.
func (p *provider) prepareDefinition(ctx context.Context, _ *armapi.Request, d *armapi.Draft) error {
	q := d.Properties
	setDefault(q, "hyperVGeneration", "V1")
	setDefault(q, "architecture", "x64")
	setDefault(q, "osState", "Generalized")
	if disallowed, ok := q["disallowed"].(map[string]any); ok && len(disallowed) == 0 {
		delete(q, "disallowed")
	}
	for name, allowed := range map[string][]string{
		"osType": {"Linux", "Windows"}, "osState": {"Generalized", "Specialized"}, "hyperVGeneration": {"V1", "V2"}, "architecture": {"x64", "Arm64"},
	} {
		if err := oneOf(q, name, "properties."+name, allowed...); err != nil {
			return err
		}
	}
	identifier := object(q, "identifier")
	for _, name := range []string{"publisher", "offer", "sku"} {
		if text(identifier, name) == "" {
			return arm.Errorf(codeInvalid, "the required parameter '%s' is missing (null or empty)", name).At("properties.identifier." + name)
		}
	}
	identity := text(identifier, "publisher") + ":" + text(identifier, "offer") + ":" + text(identifier, "sku")
	identifier["uniqueName"] = p.subscription + "-" + strings.ToUpper(strings.ReplaceAll(identity, ":", "-"))
	if d.Before != nil {
		return unchanged(d, []string{"osType"}, []string{"osState"}, []string{"hyperVGeneration"}, []string{"architecture"},
			[]string{"identifier", "publisher"}, []string{"identifier", "offer"}, []string{"identifier", "sku"})
	}
	gallery := d.ID[:strings.LastIndex(strings.ToLower(d.ID), "/images/")]
	siblings, _, err := p.store.List(ctx, resource.Query{Scope: gallery, Type: distribute.TypeDefinition})
	if err != nil {
		return err
	}
	for _, s := range siblings {
		other, err := properties(s)
		if err != nil {
			return err
		}
		if strings.EqualFold(identity, text(other, "identifier", "publisher")+":"+text(other, "identifier", "offer")+":"+text(other, "identifier", "sku")) {
			return armapi.Status(409, arm.Errorf(codeTaken, "the image definition '%s' of this gallery has the identifier %s already; publisher, offer and sku together are unique in a gallery", s.Name, identity))
		}
	}
	return nil
}

func properties(rec resource.Record) (map[string]any, error) {
	var p map[string]any
	if err := json.Unmarshal(rec.Properties, &p); err != nil {
		return nil, arm.Errorf(arm.CodeCorrupt, "the properties of %s do not parse: %w", rec.ID, err)
	}
	return p, nil
}

// unchanged refuses a draft in which one of the paths has another value than
// before.
func unchanged(d *armapi.Draft, paths ...[]string) error {
	before, err := properties(*d.Before)
	if err != nil {
		return err
	}
	for _, path := range paths {
		if was := text(before, path...); was != "" && !strings.EqualFold(was, text(d.Properties, path...)) {
			name := strings.Join(path, ".")
			return armapi.Status(409, arm.Errorf(codeImmutable, "changing property '%s' is not allowed: it is '%s'", name, was).At("properties."+name))
		}
	}
	return nil
}

// prepareVersion makes a gallery version of a managed image or another version:
// it refers to the same content.
func (p *provider) prepareVersion(ctx context.Context, r *armapi.Request, d *armapi.Draft) error {
	q := d.Properties
	profile := object(q, "publishingProfile")
	setDefault(profile, "excludeFromLatest", false)
	setDefault(profile, "replicationMode", "Full")
	setDefault(profile, "storageAccountType", "Standard_LRS")
	if regions, _ := profile["targetRegions"].([]any); len(regions) == 0 {
		profile["targetRegions"] = []any{map[string]any{"name": d.Location}}
	}
	for _, region := range profile["targetRegions"].([]any) {
		if region, ok := region.(map[string]any); ok {
			setDefault(region, "regionalReplicaCount", 1)
			setDefault(region, "storageAccountType", "Standard_LRS")
			setDefault(region, "excludeFromLatest", profile["excludeFromLatest"])
		}
	}
	delete(q, "replicationStatus") // follows from the regions
	if d.Before != nil {
		before, err := properties(*d.Before)
		if err != nil {
			return err
		}
		profile["publishedDate"] = text(before, "publishingProfile", "publishedDate")
		q["storageProfile"] = before["storageProfile"]
		return nil
	}
	profile["publishedDate"] = time.Now().UTC().Format(time.RFC3339Nano)
	source := text(q, "storageProfile", "source", "id")
	if source == "" {
		return arm.Errorf(codeInvalid, "the required parameter 'storageProfile.source.id' is missing: versions are made of a managed image, of another version, or by an image template").At("properties.storageProfile.source.id")
	}
	return p.copyContent(ctx, r, d, source)
}

// copyContent lets a version refer to its source's content.
func (p *provider) copyContent(ctx context.Context, r *armapi.Request, d *armapi.Draft, source string) error {
	const at = "properties.storageProfile.source.id"
	id, err := arm.ParseID(source)
	if err != nil {
		return err
	}
	if !id.IsType(distribute.TypeImage) && !id.IsType(distribute.TypeVersion) {
		return arm.Errorf(codeInvalid, "'%s' is no managed image and no gallery image version", source).At(at)
	}
	if err := r.RequireLinked(ctx, id.Type+"/read", source); err != nil {
		return err
	}
	rec, err := p.store.Get(ctx, source)
	if arm.IsCode(err, arm.CodeNotFound) {
		return armapi.ErrResourceNotFound(id.Type, id.Name, id.Group)
	}
	if err != nil {
		return err
	}
	if c, ok := content(rec); ok {
		definition, err := p.store.Get(ctx, d.ID[:strings.LastIndex(strings.ToLower(d.ID), "/versions/")])
		if err != nil && !arm.IsCode(err, arm.CodeNotFound) { // what is absent is refused by the write
			return err
		}
		if err == nil {
			if err := distribute.Fits(definition, c); err != nil {
				return err
			}
		}
		d.Internal = rec.Internal
		object(d.Properties, "storageProfile", "osDiskImage")["sizeInGB"] = (c.DiskBytes + 1<<30 - 1) >> 30
	}
	setDefault(object(d.Properties, "storageProfile", "osDiskImage"), "hostCaching", "ReadWrite")
	return nil
}

// showVersion adds the replication status when it is asked for. Every region is
// this host, so all of them have the version.
func showVersion(_ context.Context, r *armapi.Request, rec *resource.Record) error {
	if !strings.EqualFold(r.Query.Get("$expand"), "ReplicationStatus") {
		return nil
	}
	q, err := properties(*rec)
	if err != nil {
		return err
	}
	summary := []any{}
	regions, _ := object(q, "publishingProfile")["targetRegions"].([]any)
	for _, region := range regions {
		if region, ok := region.(map[string]any); ok {
			summary = append(summary, map[string]any{"region": region["name"], "state": "Completed", "details": "", "progress": 100})
		}
	}
	q["replicationStatus"] = map[string]any{"aggregatedState": "Completed", "summary": summary}
	rec.Properties, err = json.Marshal(q)
	return err
}
