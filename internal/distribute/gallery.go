package distribute

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/plan"
	"goldsmith/internal/resource"
)

// versionTries bounds the race for an automatic version number.
const versionTries = 20

// galleryVersion publishes a new version of an image definition and returns its
// id. An automatic number that somebody else takes meanwhile is chosen again.
func (p *Publisher) galleryVersion(ctx context.Context, target plan.Output, res Result) (string, error) {
	id, err := arm.ParseID(target.GalleryImageID)
	if err != nil {
		return "", err
	}
	definition, explicit := id, ""
	if id.IsType(TypeVersion) {
		explicit = id.Name
		definition, _ = id.Parent()
	}
	def, err := p.Resources.Get(ctx, definition.String())
	if err != nil {
		return "", err
	}
	if err := Fits(def, res.Content); err != nil {
		return "", err
	}
	for _, region := range target.Regions {
		if err := p.Locations.Replicate(ctx, res.Image, region.Name); err != nil {
			return "", err
		}
	}
	if id, err := p.published(ctx, def.ID, res); id != "" || err != nil {
		return id, err
	}
	for range versionTries {
		version, err := p.version(ctx, def, explicit, target.Versioning, res)
		if err != nil {
			return "", err
		}
		versionID, err := arm.ParseID(def.ID + "/versions/" + version)
		if err != nil {
			return "", err
		}
		cond := resource.Condition{IfNoneMatch: true}
		err = p.put(ctx, versionID, TypeVersion, def.Location, target.ArtifactTags, p.versionProperties(target, def, res), res.Content, cond)
		if arm.IsCode(err, arm.CodePreconditionFailed) {
			if explicit != "" {
				return "", arm.Errorf(arm.CodeConflict, "gallery version %s exists already and versions do not change", versionID)
			}
			continue
		}
		return versionID.String(), err
	}
	return "", arm.Errorf(arm.CodeConflict, "no free version number of %s in %d tries: other runs publish there at the same time", def.ID, versionTries)
}

// published is the version of a definition that this run made before its worker
// died, "" for none.
func (p *Publisher) published(ctx context.Context, definition string, res Result) (string, error) {
	if res.Run == "" {
		return "", nil
	}
	records, _, err := p.Resources.List(ctx, resource.Query{Scope: definition, Type: TypeVersion})
	if err != nil {
		return "", err
	}
	for _, r := range records {
		if c, err := ContentOf(r); err == nil && c.Run == res.Run && c.Image == res.Image {
			return r.ID, nil
		}
	}
	return "", nil
}

// version chooses the number of a new version.
func (p *Publisher) version(ctx context.Context, def resource.Record, explicit string, v *imagetemplate.Versioning, res Result) (string, error) {
	if explicit != "" {
		n, err := ParseVersion(explicit)
		return n.String(), err
	}
	existing, err := p.versions(ctx, def.ID)
	if err != nil {
		return "", err
	}
	var n Version
	switch {
	case v == nil:
		n = TimedVersion(p.Now())
		for taken(existing, n) {
			n.Patch++
		}
	case strings.EqualFold(v.Scheme, "Source"):
		if n, err = SourceVersion(res.SourceVersion); err != nil {
			return "", err
		}
		if taken(existing, n) {
			return "", arm.Errorf(arm.CodeConflict, "version %s of %s exists already; delete it, or use versioning scheme Latest", n, def.ID)
		}
	default:
		n = NextLatest(existing, v.Major)
	}
	return n.String(), nil
}

// versions lists the version numbers of a definition.
func (p *Publisher) versions(ctx context.Context, definition string) ([]Version, error) {
	records, _, err := p.Resources.List(ctx, resource.Query{Scope: definition, Type: TypeVersion})
	if err != nil {
		return nil, err
	}
	var out []Version
	for _, r := range records {
		if v, err := ParseVersion(r.Name); err == nil {
			out = append(out, v)
		}
	}
	return out, nil
}

func taken(existing []Version, v Version) bool {
	for _, e := range existing {
		if e == v {
			return true
		}
	}
	return false
}

// versionProperties is the properties object of a new version.
func (p *Publisher) versionProperties(target plan.Output, def resource.Record, res Result) map[string]any {
	regions := []any{}
	for _, r := range target.Regions {
		regions = append(regions, map[string]any{
			"name": r.Name, "regionalReplicaCount": r.Replicas, "storageAccountType": r.StorageType, "excludeFromLatest": target.ExcludeFromLatest,
		})
	}
	if len(regions) == 0 {
		regions = append(regions, map[string]any{"name": def.Location, "regionalReplicaCount": 1, "storageAccountType": "Standard_LRS", "excludeFromLatest": target.ExcludeFromLatest})
	}
	mode := "Full"
	if target.Shallow {
		mode = "Shallow"
	}
	return map[string]any{
		"provisioningState": "Succeeded",
		"publishingProfile": map[string]any{
			"targetRegions":     regions,
			"excludeFromLatest": target.ExcludeFromLatest,
			"publishedDate":     p.Now().UTC().Format(time.RFC3339Nano),
			"replicationMode":   mode,
		},
		"storageProfile": map[string]any{
			"osDiskImage": map[string]any{"sizeInGB": ceilGiB(res.DiskBytes), "hostCaching": "ReadWrite"},
		},
	}
}

// Fits refuses a result that the definition does not describe.
func Fits(def resource.Record, c Content) error {
	var d struct {
		OSType           string `json:"osType"`
		OSState          string `json:"osState"`
		HyperVGeneration string `json:"hyperVGeneration"`
	}
	if err := json.Unmarshal(def.Properties, &d); err != nil {
		return arm.Errorf(arm.CodeCorrupt, "the properties of %s do not parse: %w", def.ID, err)
	}
	if d.OSType != "" && !strings.EqualFold(d.OSType, string(c.OS)) {
		return arm.Errorf(arm.CodeConflict, "image definition %s is for %s and the image is %s", def.ID, d.OSType, c.OS)
	}
	if d.HyperVGeneration == "" {
		d.HyperVGeneration = "V1"
	}
	if want := fmt.Sprintf("V%d", c.Generation); !strings.EqualFold(d.HyperVGeneration, want) {
		return arm.Errorf(arm.CodeConflict, "image definition %s has hyperVGeneration %s and the image is generation %d", def.ID, d.HyperVGeneration, c.Generation)
	}
	if strings.EqualFold(d.OSState, "Specialized") {
		return arm.Errorf(arm.CodeConflict, "image definition %s is for specialized images; only generalized ones are built", def.ID)
	}
	return nil
}

// LatestVersion is the record of the highest version of a definition that is
// not excluded from latest.
func LatestVersion(ctx context.Context, store resource.Store, definition string) (resource.Record, error) {
	records, _, err := store.List(ctx, resource.Query{Scope: definition, Type: TypeVersion})
	if err != nil {
		return resource.Record{}, err
	}
	found := false
	var top Version
	var latest resource.Record
	for _, r := range records {
		v, err := ParseVersion(r.Name)
		if err != nil || excluded(r) {
			continue
		}
		if !found || v.Compare(top) > 0 {
			found, top, latest = true, v, r
		}
	}
	if !found {
		return latest, arm.Errorf(arm.CodeNotFound, "%s has no version that counts as latest", definition)
	}
	return latest, nil
}

func excluded(r resource.Record) bool {
	var props struct {
		PublishingProfile struct {
			ExcludeFromLatest bool `json:"excludeFromLatest"`
		} `json:"publishingProfile"`
	}
	return json.Unmarshal(r.Properties, &props) == nil && props.PublishingProfile.ExcludeFromLatest
}
