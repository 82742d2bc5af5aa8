package imagetemplate

import (
	"strings"

	"goldsmith/internal/arm"
)

// Defaults of a target region.
const (
	defaultReplicas    = 1
	defaultStorageType = "Standard_LRS"
)

// distributors reads distribute[].
func (r *reader) distributors(list []*members) []Distributor {
	var out []Distributor
	names := map[string]string{} // pointer of the first target, by its name in lower case
	for _, m := range list {
		d := r.distributor(m)
		out = append(out, d)
		v := m.get("runOutputName")
		if v.empty() || v.open {
			continue
		}
		key := strings.ToLower(v.text)
		if first, taken := names[key]; taken {
			r.report.bad(v.at, v.text, "every target needs a name of its own, and %s has this one", first)
		} else {
			names[key] = m.at.pointer
		}
	}
	return out
}

func (r *reader) distributor(m *members) Distributor {
	d := Distributor{
		Type:          DistributeType(m.variant),
		Pointer:       m.at.pointer,
		RunOutputName: m.text("runOutputName"),
		ArtifactTags:  m.textMap("artifactTags"),
	}
	switch d.Type {
	case ToManagedImage:
		d.ImageID, d.Location = m.text("imageId"), m.text("location")
		if v := m.get("imageId"); !v.empty() && !v.open {
			r.id(v.at, v.text, imageType)
		}
	case ToSharedImage:
		r.sharedImage(m, &d)
	case ToVHD:
		d.URI = m.text("uri")
		if v := m.get("uri"); !v.empty() && !v.open {
			r.webAddress(v, "")
		}
	}
	return d
}

func (r *reader) sharedImage(m *members, d *Distributor) {
	d.GalleryImageID = m.text("galleryImageId")
	d.ExcludeFromLatest = m.flag("excludeFromLatest")
	d.Shallow = m.text("replicationMode") == "Shallow"
	d.Regions = r.regions(m)
	explicit := false
	if v := m.get("galleryImageId"); !v.empty() && !v.open {
		id, ok := r.id(v.at, v.text, galleryImageType, galleryVersionType)
		explicit = ok && id.IsType(galleryVersionType)
		if explicit && !isImageVersion(id.Name) {
			r.report.bad(v.at, v.text, "the version '%s' is not three numbers like 1.2.3", id.Name)
		}
	}
	if s := m.object("versioning"); s != nil {
		d.Versioning = &Versioning{Scheme: s.variant, Major: s.number("major", -1)}
		if explicit {
			r.report.warn(s.at, "'versioning' has no effect: galleryImageId names the version itself")
		}
	}
}

// regions reads targetRegions, or replicationRegions with the storage type that
// goes with them.
func (r *reader) regions(m *members) []TargetRegion {
	old, now := m.given("replicationRegions"), m.given("targetRegions")
	if old && now {
		r.report.fail(m.place("replicationRegions"), arm.CodeValidationFailed,
			"'%s' has both 'replicationRegions' and 'targetRegions': give targetRegions only", m.at.path())
		return nil
	}
	if !m.tried("replicationRegions") && m.given("storageAccountType") && r.version >= v2022Jul {
		r.report.bad(m.place("storageAccountType"), m.text("storageAccountType"),
			"here it goes only with replicationRegions: give it in each of targetRegions")
	}
	var out []TargetRegion
	seen := map[string]bool{}
	add := func(at place, name *value, t TargetRegion) {
		key := strings.ToLower(strings.ReplaceAll(t.Name, " ", ""))
		if name != nil && !name.open && seen[key] {
			r.report.warn(at, "the region '%s' is given twice: this one is ignored, the first one counts", t.Name)
			return
		}
		seen[key] = true
		out = append(out, t)
	}
	if v := m.get("replicationRegions"); old {
		for _, item := range v.items {
			if item.text == "" {
				r.report.bad(item.at, "", "it must be the name of a region")
				continue
			}
			add(item.at, item, TargetRegion{Name: item.text, Replicas: defaultReplicas,
				StorageType: m.textOr("storageAccountType", defaultStorageType)})
		}
	}
	for _, t := range m.objects("targetRegions") {
		add(t.at, t.get("name"), TargetRegion{Name: t.text("name"), Replicas: t.number("replicaCount", defaultReplicas),
			StorageType: t.textOr("storageAccountType", defaultStorageType)})
	}
	return out
}
