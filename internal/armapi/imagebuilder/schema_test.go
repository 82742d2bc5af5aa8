//go:build conformance

package imagebuilder_test

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"

	"goldsmith/internal/conformance"
)

// published is the published definition of one API version.
type published struct {
	t           *testing.T
	Paths       map[string]map[string]operationDef `json:"paths"`
	Definitions map[string]schema                  `json:"definitions"`
}

type operationDef struct {
	Responses map[string]struct {
		Schema *schema `json:"schema"`
	} `json:"responses"`
}

type schema struct {
	Ref        string            `json:"$ref"`
	Type       string            `json:"type"`
	Properties map[string]schema `json:"properties"`
	Required   []string          `json:"required"`
	AllOf      []schema          `json:"allOf"`
	Items      *schema           `json:"items"`
	Enum       []any             `json:"enum"`
	Extensible struct {
		AsString bool `json:"modelAsString"`
	} `json:"x-ms-enum"`
	Additional    json.RawMessage `json:"additionalProperties"`
	Discriminator string          `json:"discriminator"`
	Value         string          `json:"x-ms-discriminator-value"`
	Minimum       *float64        `json:"minimum"`
	Maximum       *float64        `json:"maximum"`
}

func readPublished(t *testing.T, version string) published {
	t.Helper()
	var p published
	if err := json.Unmarshal(conformance.Read(t, "swagger", "swagger-"+version+".json"), &p); err != nil {
		t.Fatal(err)
	}
	p.t = t
	return p
}

// check validates an answer of a request: its status must be declared, or be an
// error, and its body must be as defined.
func (p published) check(what, method, path string, status int, body string) {
	p.t.Helper()
	op, ok := p.operation(method, path)
	if !ok {
		p.t.Errorf("%s: %s %s is not published", what, method, path)
		return
	}
	r, declared := op.Responses[strconv.Itoa(status)]
	if !declared {
		if status < 400 {
			p.t.Errorf("%s: the status %d is not declared", what, status)
			return
		}
		r = op.Responses["default"]
	}
	switch {
	case r.Schema == nil && body != "":
		p.t.Errorf("%s: status %d has no body, and this came: %s", what, status, body)
	case r.Schema != nil:
		var v any
		if err := json.Unmarshal([]byte(body), &v); err != nil {
			p.t.Errorf("%s: %v: %s", what, err, body)
			return
		}
		for _, problem := range p.validate("", *r.Schema, v) {
			p.t.Errorf("%s: %s\n%s", what, problem, body)
		}
	}
}

// operation finds the operation of a path, which has a query or not.
func (p published) operation(method, path string) (operationDef, bool) {
	path, _, _ = strings.Cut(path, "?")
	got := strings.Split(strings.Trim(path, "/"), "/")
	for template, methods := range p.Paths {
		want := strings.Split(strings.Trim(template, "/"), "/")
		if len(want) != len(got) {
			continue
		}
		same := true
		for i := range want {
			same = same && (strings.HasPrefix(want[i], "{") || strings.EqualFold(want[i], got[i]))
		}
		if op, ok := methods[strings.ToLower(method)]; same && ok {
			return op, true
		}
	}
	return operationDef{}, false
}

// errorResponse is the definition that newer versions refer to in another file.
var errorResponse = schema{Type: "object", Required: []string{"error"}, Properties: map[string]schema{
	"error": {Type: "object", Required: []string{"code", "message"}, Properties: map[string]schema{
		"code": {Type: "string"}, "message": {Type: "string"}, "target": {Type: "string"}, "details": {Type: "array", Items: &schema{}},
	}},
}}

func (p published) resolve(s schema) (schema, bool) {
	if s.Ref == "" {
		return s, true
	}
	name := s.Ref[strings.LastIndexByte(s.Ref, '/')+1:]
	if strings.HasPrefix(s.Ref, "#/") {
		return p.Definitions[name], true
	}
	if name == "ErrorResponse" {
		return errorResponse, true
	}
	return schema{}, false // in a file of the common types
}

// validate is what is wrong with v. Members that no definition has are wrong.
func (p published) validate(at string, s schema, v any) []string {
	s, ok := p.resolve(s)
	if !ok || v == nil { // null is an optional member that is not there
		return nil
	}
	if s.Discriminator != "" {
		if m, isObject := v.(map[string]any); isObject {
			var chosen bool
			if s, chosen = p.variant(s, m[s.Discriminator]); !chosen {
				return []string{fmt.Sprintf("%s: nothing is %v", at, m[s.Discriminator])}
			}
		}
	}
	switch v := v.(type) {
	case map[string]any:
		return p.object(at, s, v)
	case []any:
		var all []string
		if s.Items == nil {
			return []string{at + ": an array"}
		}
		for i, item := range v {
			all = append(all, p.validate(fmt.Sprintf("%s[%d]", at, i), *s.Items, item)...)
		}
		return all
	case string:
		return p.scalar(at, s, v, "string")
	case bool:
		return p.scalar(at, s, v, "boolean")
	case float64:
		kind := "number"
		if v == math.Trunc(v) {
			kind = "integer"
		}
		problems := p.scalar(at, s, v, kind)
		if s.Minimum != nil && v < *s.Minimum || s.Maximum != nil && v > *s.Maximum {
			problems = append(problems, fmt.Sprintf("%s: %v is out of range", at, v))
		}
		return problems
	}
	return nil
}

func (p published) scalar(at string, s schema, v any, kind string) []string {
	if s.Type != "" && s.Type != kind && (s.Type != "number" || kind != "integer") {
		return []string{fmt.Sprintf("%s: %v is a %s, not a %s", at, v, kind, s.Type)}
	}
	if len(s.Enum) > 0 && !slices.Contains(s.Enum, v) && v != "" && !s.Extensible.AsString {
		return []string{fmt.Sprintf("%s: %v is none of %v", at, v, s.Enum)}
	}
	return nil
}

// variant is the definition that a discriminator selects.
func (p published) variant(base schema, value any) (schema, bool) {
	for _, d := range p.Definitions {
		if d.Value == "" || d.Value != value {
			continue
		}
		for _, parent := range d.AllOf {
			if r, ok := p.resolve(parent); ok && r.Discriminator == base.Discriminator && len(r.Properties) == len(base.Properties) && sameNames(r, base) {
				d.Discriminator = ""
				return d, true
			}
		}
	}
	return base, false
}

func sameNames(a, b schema) bool {
	for name := range a.Properties {
		if _, ok := b.Properties[name]; !ok {
			return false
		}
	}
	return true
}

func (p published) object(at string, s schema, v map[string]any) []string {
	properties, required := map[string]schema{}, slices.Clone(s.Required)
	open := s.Additional != nil || s.Type == "" && len(s.Properties) == 0
	for _, part := range append([]schema{s}, s.AllOf...) {
		r, ok := p.resolve(part)
		if !ok || r.AllOf != nil && part.Ref != "" {
			open = true // a tracked resource of the common types
		}
		for name, f := range r.Properties {
			properties[name] = f
		}
		required = append(required, r.Required...)
		if r.Additional != nil {
			open = true
		}
	}
	var all []string
	for _, name := range required {
		if _, ok := v[name]; !ok {
			all = append(all, at+": "+name+" is missing")
		}
	}
	for name, item := range v {
		f, ok := properties[name]
		switch {
		case ok:
			all = append(all, p.validate(at+"."+name, f, item)...)
		case !open:
			all = append(all, at+"."+name+" is not defined")
		}
	}
	return all
}
