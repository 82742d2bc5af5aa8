package imagetemplate

import (
	"strings"
	"testing"
)

func TestUnknownFields(t *testing.T) {
	const tail = ". There is an issue with the syntax with the JSON template you are submitting. Please check the JSON template for " +
		"syntax and grammar. For more information on the syntax and grammar of the JSON template, visit http://aka.ms/azvmimagebuildertmplref."
	top := func(version string, service bool, top string) draft {
		return draft{version: version, service: service, top: ", " + top}
	}
	runRules(t, []ruleCase{
		{"lenient", top("2023-07-01", false, `"colour": "red"`), []want{warning("/colour",
			"'ImageTemplate.colour' is not a field of API version 2023-07-01 and is ignored, as the real service does")}},
		{"lenient, misspelled", top("2023-07-01", false, `"tag": {}`), []want{warning("/tag", "perhaps 'tags' is meant")}},
		{"any case", top("2023-07-01", false, `"TAGS": {"a": "b"}`), nil},
		{"any case, strict", top("2024-02-01", false, `"TAGS": {"a": "b"}`), []want{failure("/TAGS",
			`unknown field "TAGS"`+tail+" Cause: the name is 'tags', and case counts.")}},
		{"strict", top("2024-02-01", false, `"colour": "red"`), []want{failure("/colour",
			"Unmarshalling entity encountered error: unmarshalling type *v2024_02_01.ImageTemplate: unmarshalling type *v2024_02_01.ImageTemplate, unknown field \"colour\""+tail)}},
		{"strict, nested", draft{version: "2024-02-01", properties: `, "optimize": {"vmboot": {"state": "Enabled"}}`}, []want{failure("/properties/optimize/vmboot",
			"Unmarshalling entity encountered error: unmarshalling type *v2024_02_01.ImageTemplate: struct field Properties: "+
				"unmarshalling type *v2024_02_01.ImageTemplateProperties: struct field Optimize: unmarshalling type *v2024_02_01.ImageTemplatePropertiesOptimize: "+
				"unmarshalling type *v2024_02_01.ImageTemplatePropertiesOptimize, unknown field \"vmboot\""+tail)}},
		{"newest, in a customizer", draft{version: "2025-10-01", customize: `{"type": "Shell", "inline": ["id"], "env": {}}`}, []want{failure("/properties/customize/0/env",
			"unmarshalling type *v2025_10_01.ImageTemplateProperties: unmarshalling type *v2025_10_01.ImageTemplateShellCustomizer: "+
				"unmarshalling type *v2025_10_01.ImageTemplateShellCustomizer, unknown field \"env\"")}},
		{"body is not an object of objects", top("2024-02-01", false, `"systemData": 1`), []want{warning("/systemData", "read-only")}},
		{"version in a file", top("2023-07-01", false, `"apiVersion": "x"`), nil},
		{"version in a request", top("2023-07-01", true, `"apiVersion": "x"`), nil},
		{"version in a strict file", top("2024-02-01", false, `"apiVersion": "x"`), []want{warning("/apiVersion", "the real service refuses it in a body from 2024-02-01 on")}},
		{"version in a strict request", top("2024-02-01", true, `"apiVersion": "x"`), []want{failure("/apiVersion", `unknown field "apiVersion"`+tail)}},
		{"empty order", top("2023-07-01", false, `"dependsOn": []`), nil},
		{"order", top("2023-07-01", false, `"dependsOn": ["x"]`), []want{warning("/dependsOn", "it orders the resources of a deployment")}},
		{"order in a request", top("2023-07-01", true, `"dependsOn": []`), []want{warning("/dependsOn", "is ignored")}},
		{"order in a strict file", top("2025-10-01", false, `"dependsOn": []`), []want{warning("/dependsOn", "the real service refuses it")}},
		{"order in a strict request", top("2025-10-01", true, `"dependsOn": []`), []want{failure("/dependsOn", `unknown field "dependsOn"`)}},
		{"long names are shortened", top("2024-02-01", false, `"`+strings.Repeat("é", 300)+`": 1`), []want{failure("/"+strings.Repeat("é", 300), `ééé…"`+tail)}},
	})
}

// Every table is complete: each field and variant that a version has can be
// named, and what one version lost or gained is explained in the others.
func TestTablesAreConsistent(t *testing.T) {
	seen := map[*shape]bool{}
	var visitShape func(s *shape)
	visitUnion := func(u *union) {
		for _, w := range u.variants {
			if w.in.from > w.in.until {
				t.Errorf("%s: %s is in no version", u.goName, w.name)
			}
			visitShape(w.shape)
		}
	}
	visitShape = func(s *shape) {
		if seen[s] {
			return
		}
		seen[s] = true
		for _, f := range s.fields {
			for v := range version(len(versions)) {
				if f.required.has(v) && !f.in.has(v) {
					t.Errorf("%s.%s is required in %s, which does not have it", s.goName, f.name, v)
				}
				if got, ok := s.find(f.name, v); f.in.has(v) && (!ok || got.name != f.name) {
					t.Errorf("%s.%s is hidden by another field in %s", s.goName, f.name, v)
				}
			}
			if f.of != nil {
				visitShape(f.of)
			}
			if f.union != nil {
				visitUnion(f.union)
			}
		}
	}
	visitShape(templateShape)
	if len(seen) < 25 {
		t.Errorf("only %d shapes are reachable", len(seen))
	}
}
