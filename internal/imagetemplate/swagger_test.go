//go:build conformance

package imagetemplate

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/conformance"
)

// definition is an object of a published schema.
type definition struct {
	Properties map[string]json.RawMessage `json:"properties"`
	Required   []string                   `json:"required"`
	AllOf      []struct {
		Ref string `json:"$ref"`
	} `json:"allOf"`
}

// demandedBeyondSchema are fields that no schema requires although nothing can
// be built without them.
var demandedBeyondSchema = map[string][]string{
	"ImageTemplatePlatformImageSource": {"publisher", "offer", "sku", "version"},
	"ImageTemplateFileCustomizer":      {"sourceUri", "destination"},
	"ImageTemplateFileValidator":       {"sourceUri", "destination"},
	"ImageTemplateIdentity":            {"type"},
}

// The tables have exactly the fields of the published schema of each version.
func TestConformanceSchemas(t *testing.T) {
	compared := 0
	for v := range version(len(versions)) {
		var swagger struct{ Definitions map[string]definition }
		text := conformance.Read(t, "swagger", "swagger-"+v.String()+".json")
		if err := json.Unmarshal(text, &swagger); err != nil {
			t.Fatal(err)
		}
		members := func(name string) (properties, required []string) {
			d := swagger.Definitions[name]
			all := []definition{d}
			for _, a := range d.AllOf {
				all = append(all, swagger.Definitions[a.Ref[strings.LastIndex(a.Ref, "/")+1:]])
			}
			for _, d := range all {
				properties = slices.AppendSeq(properties, maps.Keys(d.Properties))
				required = append(required, d.Required...)
			}
			return properties, required
		}
		compare := func(s *shape, discriminator string) {
			name := strings.Replace(s.goName, "VM", "Vm", 1)
			if s == templateShape || s == vnetByNameShape || !has(swagger.Definitions, name) {
				return // partly in other files, in no schema, or without a name of its own
			}
			compared++
			var names, required []string
			for _, f := range s.fields {
				if !f.in.has(v) || f.of == vnetByNameShape {
					continue
				}
				names = append(names, f.name)
				if f.required.has(v) && !slices.Contains(demandedBeyondSchema[s.goName], f.name) {
					required = append(required, f.name)
				}
			}
			if discriminator != "" {
				names = append(names, discriminator)
				required = append(required, discriminator)
			}
			wantNames, wantRequired := members(name)
			slices.Sort(names)
			slices.Sort(required)
			slices.Sort(wantNames)
			slices.Sort(wantRequired)
			if d := cmp.Diff(wantNames, names); d != "" {
				t.Errorf("%s: fields of %s (-schema +table):\n%s", v, name, d)
			}
			if d := cmp.Diff(wantRequired, required); d != "" {
				t.Errorf("%s: required fields of %s (-schema +table):\n%s", v, name, d)
			}
		}
		var visit func(s *shape, discriminator string)
		visit = func(s *shape, discriminator string) {
			compare(s, discriminator)
			for _, f := range s.fields {
				if !f.in.has(v) {
					continue
				}
				if f.of != nil {
					visit(f.of, "")
				}
				if f.union == nil {
					continue
				}
				for _, w := range f.union.variants {
					if w.in.has(v) {
						if !has(swagger.Definitions, strings.Replace(w.shape.goName, "VM", "Vm", 1)) {
							t.Errorf("%s: no schema has %s", v, w.shape.goName)
						}
						visit(w.shape, f.union.discriminator)
					}
				}
			}
		}
		visit(templateShape, "")
	}
	if compared < 100 {
		t.Errorf("only %d shapes were compared", compared)
	}
	t.Logf("%d shapes compared", compared)
}

func has(m map[string]definition, name string) bool {
	_, ok := m[name]
	return ok
}
