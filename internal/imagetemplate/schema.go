package imagetemplate

import (
	"regexp"
	"strings"
)

// This file is the vocabulary in which schema_tables.go states what a body may
// hold in each API version.

type kind int

const (
	textKind       kind = iota // string
	intKind                    // 32-bit integer
	boolKind                   // boolean
	textListKind               // array of strings
	intListKind                // array of 32-bit integers
	textMapKind                // object of strings, free keys
	objectKind                 // object of one shape
	unionKind                  // object whose shape a discriminator selects
	objectListKind             // array of objects of one shape
	unionListKind              // array of objects with a discriminator
	objectMapKind              // object of objects of one shape, free keys
	anyKind                    // not looked at
)

// field is one member of a shape.
type field struct {
	name     string // as the version spells it
	key      string // the name that the rest of the package uses
	kind     kind
	in       span // the versions that have the field
	required span // the versions that demand it
	readOnly bool // filled by the service; ignored in a request
	single   bool // given twice, it is an error instead of the last one counting
	enum     []choice
	pattern  func(version) *regexp.Regexp // nil: any text
	min, max int                          // intKind; max 0: the largest int32
	of       *shape                       // objectKind, objectListKind, objectMapKind
	union    *union                       // unionKind, unionListKind
}

// choice is one allowed value of a field.
type choice struct {
	text string
	in   span
}

// shape is an object with its fields. goName is the type that the real
// service's messages name.
type shape struct {
	goName string
	fields []field
}

// union is a set of shapes of which the value of a discriminator selects one.
type union struct {
	discriminator string
	goName        string // of the common part
	variants      []variant
}

// variant is one shape of a union. name is how the rest of the package knows
// it; old is its spelling in 2018.
type variant struct {
	name, old string
	in        span
	shape     *shape
}

func (w variant) spelling(v version) string {
	if v == v2018Feb && w.old != "" {
		return w.old
	}
	return w.name
}

// The functions below build tables that read like the specification.

func newField(name string, k kind) field {
	return field{name: name, key: name, kind: k, in: always, required: never}
}

func text(name string) field    { return newField(name, textKind) }
func integer(name string) field { return newField(name, intKind) }
func boolean(name string) field { return newField(name, boolKind) }
func texts(name string) field   { return newField(name, textListKind) }
func ints(name string) field    { return newField(name, intListKind) }
func textMap(name string) field { return newField(name, textMapKind) }

func object(name string, s *shape) field {
	f := newField(name, objectKind)
	f.of = s
	return f
}

func objects(name string, s *shape) field {
	f := newField(name, objectListKind)
	f.of = s
	return f
}

func objectMap(name string, s *shape) field {
	f := newField(name, objectMapKind)
	f.of = s
	return f
}

func oneOf(name string, u *union) field {
	f := newField(name, unionKind)
	f.union = u
	return f
}

func manyOf(name string, u *union) field {
	f := newField(name, unionListKind)
	f.union = u
	return f
}

func (f field) versions(s span) field     { f.in = s; return f }
func (f field) needed() field             { f.required = f.in; return f }
func (f field) neededIn(s span) field     { f.required = s; return f }
func (f field) ignored() field            { f.readOnly = true; return f }
func (f field) once() field               { f.single = true; return f }
func (f field) as(key string) field       { f.key = key; return f }
func (f field) between(lo, hi int) field  { f.min, f.max = lo, hi; return f }
func (f field) atLeast(lo int) field      { f.min = lo; return f }
func (f field) choices(c ...choice) field { f.enum = c; return f }
func (f field) matching(p func(version) *regexp.Regexp) field {
	f.pattern = p
	return f
}

// choicesOf are values that every version has.
func choicesOf(values ...string) []choice {
	var out []choice
	for _, v := range values {
		out = append(out, choice{v, always})
	}
	return out
}

// find is the field that a key of the body means in version v.
func (s *shape) find(key string, v version) (field, bool) {
	for _, f := range s.fields {
		if f.in.has(v) && v.same(f.name, key) {
			return f, true
		}
	}
	return field{}, false
}

// spelling is how version v names the field that the package knows as key.
func (s *shape) spelling(key string, v version) string {
	for _, f := range s.fields {
		if f.key == key && f.in.has(v) {
			return f.name
		}
	}
	return key
}

// names are the field names of version v.
func (s *shape) names(v version) []string {
	var out []string
	for _, f := range s.fields {
		if f.in.has(v) {
			out = append(out, f.name)
		}
	}
	return out
}

// elsewhere is the span of versions that has a field of this name, for saying
// what became of one that version v does not have.
func (s *shape) elsewhere(key string) (span, bool) {
	for _, f := range s.fields {
		if strings.EqualFold(f.name, key) {
			return f.in, true
		}
	}
	return span{}, false
}

// find is the variant that a discriminator selects in version v.
func (u *union) find(value string, v version) (variant, bool) {
	for _, w := range u.variants {
		if w.in.has(v) && v.same(w.spelling(v), value) {
			return w, true
		}
	}
	return variant{}, false
}

// goInitials are the field names whose Go spelling is not their capitalised
// JSON one.
var goInitials = map[string]string{
	"containerInstanceSubnetId": "ContainerInstanceSubnetID", "galleryImageId": "GalleryImageID", "id": "ID",
	"imageId": "ImageID", "imageVersionId": "ImageVersionID", "osDiskSizeGB": "OSDiskSizeGB",
	"proxyVmSize": "ProxyVMSize", "scriptUri": "ScriptURI", "sha256Checksum": "SHA256Checksum", "sku": "SKU",
	"sourceUri": "SourceURI", "subnetId": "SubnetID", "uri": "URI", "vmBoot": "VMBoot", "vmProfile": "VMProfile",
	"vmSize": "VMSize", "principalId": "PrincipalID", "clientId": "ClientID",
}

// goField is the name of a field in the real service's messages.
func goField(name string) string {
	if g, ok := goInitials[name]; ok {
		return g
	}
	return strings.ToUpper(name[:1]) + name[1:]
}
