package armtemplate

import (
	"strconv"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/jsontree"
)

// Template is a deployment template that was read. It does not change.
type Template struct {
	root       value
	symbolic   bool // languageVersion 2: resources are an object of symbolic names
	parameters []parameter
	variables  map[string]variable // by lower-case name
	functions  map[string]value    // by lower-case "namespace.name"
	outputs    []jsontree.Member
}

type variable struct {
	value value
	loop  bool // value is a copy loop
}

// Parse reads a template in the loose JSON that Azure Resource Manager accepts:
// comments, unquoted keys, line breaks in strings. Errors are CodeInvalid, with the
// place in the template as target.
func Parse(body []byte) (*Template, error) {
	n, err := jsontree.Parse(jsontree.Strict(body), jsontree.Limits{Bytes: MaxBytes, Depth: maxDepth, Values: maxNodes})
	if err != nil {
		return nil, arm.Errorf(CodeInvalid, "the template is not JSON: %w", err)
	}
	return FromNode(n)
}

// IsTemplate reports whether a JSON value looks like a deployment template.
func IsTemplate(n *jsontree.Node) bool {
	schema := n.Fold("$schema")
	return schema != nil && strings.Contains(strings.ToLower(schema.Text), "deploymenttemplate.json")
}

// FromNode is Parse of a template that was read already.
func FromNode(n *jsontree.Node) (*Template, error) {
	f := frame{place: n, path: "template"}
	if n.Kind != jsontree.Object {
		return nil, f.invalid("the template must be a JSON object, not %s", n.Kind)
	}
	t := &Template{root: n, variables: map[string]variable{}, functions: map[string]value{}}
	version := n.Fold("contentVersion")
	switch {
	case n.Fold("$schema") == nil || n.Fold("$schema").Kind != jsontree.String:
		return nil, f.invalid("the required property '$schema' is missing")
	case !strings.Contains(strings.ToLower(n.Fold("$schema").Text), "deploymenttemplate.json"):
		return nil, f.invalid("'%s' is not the schema of a deployment template of a resource group or a subscription", clip(n.Fold("$schema").Text))
	case version == nil || version.Kind != jsontree.String:
		return nil, f.invalid("the required property 'contentVersion' is missing")
	case n.Fold("resources") == nil:
		return nil, f.invalid("the required property 'resources' is missing")
	}
	if l := n.Fold("languageVersion"); l != nil {
		if l.Text != "1.0" && l.Text != "2.0" && l.Text != "2.1-experimental" && l.Text != "2.2-experimental" {
			return nil, f.at(l, "languageVersion").invalid("the languageVersion '%s' is not known: 1.0 and 2.0 are", clip(l.Text))
		}
		t.symbolic = l.Text != "1.0"
	}
	for _, name := range []string{"extensions", "imports"} {
		if x := n.Fold(name); x != nil && len(x.Members) > 0 {
			return nil, f.at(x, name).invalid("'%s' are not offered: only resources of this service are deployed", name)
		}
	}
	for _, read := range []func() error{t.readParameters, t.readVariables, t.readFunctions, t.readOutputs, t.checkResources} {
		if err := read(); err != nil {
			return nil, err
		}
	}
	return t, nil
}

// invalid is the error of a template that breaks a rule of its form.
func (f frame) invalid(format string, args ...any) error {
	e := arm.Errorf(CodeInvalid, format, args...)
	return arm.Errorf(CodeInvalid, "deployment template validation failed: '%s' (line '%d', column '%d')", strings.TrimSuffix(e.Message, "."), f.place.Line, f.place.Column).At(f.path)
}

// section is a member of the template that must be an object with at most most
// members.
func (t *Template) section(name string, most int) ([]jsontree.Member, error) {
	n := t.root.Fold(name)
	if isNull(n) {
		return nil, nil
	}
	f := frame{}.at(n, name)
	if n.Kind != jsontree.Object {
		return nil, f.invalid("'%s' must be an object, not %s", name, n.Kind)
	}
	members := live(n)
	if len(members) > most {
		return nil, f.invalid("the template has %d %s; at most %d are allowed", len(members), name, most)
	}
	seen := map[string]bool{}
	for _, m := range members {
		key := strings.ToLower(m.Key)
		if seen[key] {
			return nil, f.at(m.Value, dot(name, m.Key)).invalid("'%s' is there twice", m.Key)
		}
		seen[key] = true
	}
	return members, nil
}

func (t *Template) readVariables() error {
	members, err := t.section("variables", maxVariables)
	for _, m := range members {
		if !strings.EqualFold(m.Key, "copy") || m.Value.Kind != jsontree.Array {
			t.variables[strings.ToLower(m.Key)] = variable{value: m.Value}
			continue
		}
		for _, l := range m.Value.Items {
			name := l.Fold("name")
			if name == nil || name.Kind != jsontree.String {
				return frame{}.at(l, "variables.copy").invalid("a copy loop needs a 'name'")
			}
			t.variables[strings.ToLower(name.Text)] = variable{value: l, loop: true}
		}
	}
	return err
}

func (t *Template) readFunctions() error {
	n := t.root.Fold("functions")
	if isNull(n) {
		return nil
	}
	for _, ns := range n.Items {
		name := ns.Fold("namespace")
		members := ns.Fold("members")
		if name == nil || name.Kind != jsontree.String || members == nil {
			return frame{}.at(ns, "functions").invalid("functions need a 'namespace' and 'members'")
		}
		for _, m := range live(members) {
			t.functions[strings.ToLower(name.Text+"."+m.Key)] = m.Value
		}
	}
	return nil
}

func (t *Template) readOutputs() error {
	members, err := t.section("outputs", maxOutputs)
	for _, m := range members {
		f := frame{}.at(m.Value, dot("outputs", m.Key))
		if m.Value.Kind != jsontree.Object || (m.Value.Fold("value") == nil && m.Value.Fold("copy") == nil) {
			return f.invalid("the output '%s' needs a 'type' and a 'value'", m.Key)
		}
	}
	t.outputs = members
	return err
}

// checkResources looks at the form of resources, not at their content.
func (t *Template) checkResources() error {
	n := t.root.Fold("resources")
	f := frame{}.at(n, "resources")
	if n.Kind == jsontree.Object {
		if !t.symbolic {
			return f.invalid("'resources' must be an array: an object of symbolic names needs languageVersion 2.0")
		}
		_, err := t.section("resources", maxResources)
		return err
	}
	if n.Kind != jsontree.Array {
		return f.invalid("'resources' must be an array, not %s", n.Kind)
	}
	if t.symbolic && len(n.Items) > 0 {
		return f.invalid("'resources' must be an object of symbolic names in languageVersion 2.0")
	}
	return nil
}

// Node is the template as it was read.
func (t *Template) Node() *jsontree.Node { return t.root }

// Parameter is the type of a parameter, as "String"; ok is false when the template
// has no such parameter. Names compare in any case.
func (t *Template) Parameter(name string) (typ string, ok bool) {
	for _, p := range t.parameters {
		if strings.EqualFold(p.name, name) {
			return types[strings.ToLower(p.typ)], true
		}
	}
	return "", false
}

// Secrets are the names of the parameters whose values must not be shown.
func (t *Template) Secrets() []string {
	var out []string
	for _, p := range t.parameters {
		if p.secret {
			out = append(out, p.name)
		}
	}
	return out
}

// Hash is a number that equal templates share.
func (t *Template) Hash() string {
	return strconv.FormatUint(murmur([]byte(canonical(t.root))), 10)
}
