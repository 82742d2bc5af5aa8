package imagetemplate

import (
	"regexp"
	"strconv"
	"strings"
)

const (
	imageType          = "Microsoft.Compute/images"
	galleryImageType   = "Microsoft.Compute/galleries/images"
	galleryVersionType = "Microsoft.Compute/galleries/images/versions"
)

// directShared matches the id of a version that another tenant or subscription
// shares directly, or with everyone.
var directShared = regexp.MustCompile(`(?i)^(/subscriptions/[^/]+/providers/Microsoft\.Compute/locations/[^/]+)?` +
	`/(shared|community)galleries/[^/]+/images/[^/]+/versions/([^/]+)$`)

// source is what the template builds from.
func (r *reader) source(m *members) Source {
	if m == nil {
		return Source{}
	}
	s := Source{Type: SourceType(m.variant)}
	switch s.Type {
	case PlatformImage:
		s.Publisher, s.Offer, s.SKU = m.text("publisher"), m.text("offer"), m.text("sku")
		s.Version, s.ExactVersion = m.text("version"), m.text("exactVersion")
		if p := m.object("planInfo"); p != nil {
			s.Plan = &Plan{Name: p.text("planName"), Product: p.text("planProduct"), Publisher: p.text("planPublisher")}
		}
	case ManagedImage:
		s.ImageID = m.text("imageId")
		if v := m.get("imageId"); !v.empty() && !v.open {
			r.id(v.at, v.text, imageType)
		}
	case SharedImageVersion:
		s.ImageID, s.ExactVersion = m.text("imageVersionId"), m.text("exactVersion")
		if v := m.get("imageVersionId"); !v.empty() && !v.open {
			r.imageVersion(v)
		}
	case ISO:
		s.URI, s.SHA256 = r.artifact(m, "sourceUri"), r.checksum(m, "sourceUri")
	}
	return s
}

// imageVersion checks the id of a gallery image version to build from.
func (r *reader) imageVersion(v *value) {
	name := ""
	if d := directShared.FindStringSubmatch(v.text); d != nil && r.version >= v2022Jul {
		name = d[3]
	} else {
		id, ok := r.id(v.at, v.text, galleryVersionType)
		if !ok {
			return
		}
		name = id.Name
	}
	if strings.EqualFold(name, "latest") {
		if r.version < v2022Jul {
			r.report.bad(v.at, v.text, "versions/latest came with API version %s: name a version like 1.2.3", v2022Jul)
		}
		return
	}
	if !isImageVersion(name) {
		r.report.bad(v.at, v.text, "the version '%s' is not three numbers like 1.2.3", name)
	}
}

// isImageVersion reports whether name is a gallery image version: three numbers
// that each fit 32 bits.
func isImageVersion(name string) bool {
	parts := strings.Split(name, ".")
	if len(parts) != 3 {
		return false
	}
	for _, p := range parts {
		if strings.Trim(p, "0123456789") != "" {
			return false
		}
		if _, err := strconv.ParseInt(p, 10, 32); err != nil {
			return false
		}
	}
	return true
}
