//go:build conformance

package armtemplate

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"goldsmith/internal/arm"
	"goldsmith/internal/conformance"
	"goldsmith/internal/jsontree"
)

// broken are files that no reader of JSON takes, with the reason.
var broken = map[string]string{
	"armTemplateWinSIG.json": "values are <placeholders> without quotes",
}

// Every published deployment template is read, bound to parameters of the declared
// types, and evaluated, with the deployments nested in it.
func TestConformanceTemplates(t *testing.T) {
	root := conformance.Path(t)
	files, nested := 0, 0
	err := filepath.WalkDir(filepath.Join(root, "templates"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(path, ".json") {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		n, err := jsontree.Parse(jsontree.Strict(body), jsontree.Limits{Bytes: MaxBytes, Depth: maxDepth, Values: maxNodes})
		name, _ := filepath.Rel(root, path)
		if broken[filepath.Base(path)] == "" && err != nil && strings.Contains(string(body), "deploymentTemplate.json") {
			t.Errorf("%s: %v", name, err)
		}
		if err != nil || !IsTemplate(n) {
			return nil
		}
		files++
		count, err := evaluateAll(n, nil, 0)
		nested += count
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if files < 15 {
		t.Errorf("only %d deployment templates", files)
	}
	t.Logf("%d deployment templates and %d nested in them", files, nested)
}

// evaluateAll binds and evaluates a template and those nested in it.
func evaluateAll(n, given value, depth int) (nested int, err error) {
	tpl, err := FromNode(n)
	if err != nil {
		return 0, err
	}
	env := testEnvironment()
	if strings.Contains(strings.ToLower(n.Fold("$schema").Text), "subscriptiondeployment") {
		env.Group, env.Location = nil, "westus2"
	}
	d, err := tpl.Bind(env, fill(tpl, given))
	if err != nil {
		return 0, err
	}
	for _, r := range d.Resources {
		if !r.Condition {
			continue
		}
		body, err := r.Body(nil)
		if err != nil {
			return nested, err
		}
		inner := body.Fold("properties").Fold("template")
		if inner == nil || depth > 8 {
			continue
		}
		count, err := evaluateAll(inner, body.Fold("properties").Fold("parameters"), depth+1)
		nested += count + 1
		var e *arm.Error
		if errors.As(err, &e) {
			return nested, arm.Errorf(e.Code, "in %s: %w", r.Path, err).At(e.Target)
		}
	}
	_, err = d.Outputs(nil)
	return nested, err
}

// fill gives the parameters that nobody gives, or whose value a running deployment
// would compute, a value of their type.
func fill(t *Template, given value) value {
	out := object()
	for _, p := range t.parameters {
		in, def := given.Fold(p.name), p.def.Fold("defaultValue")
		whole := in == nil || (in.Fold("value") != nil && computed(in.Fold("value")))
		switch {
		case !whole:
			out = with(out, p.name, known(in))
		case in != nil, def == nil && !nullable(p.def), def != nil && def.Kind == jsontree.String && def.Text == "":
			out = with(out, p.name, object("value", t.example(p.name, p.def)))
		}
	}
	return out
}

// computed reports whether a running deployment would compute a value.
func computed(n value) bool { return n.Kind == jsontree.String && IsExpression(n.Text) }

// known is n with a name for everything in it that is computed.
func known(n value) value {
	if computed(n) {
		return text("name")
	}
	out := *n
	out.Items, out.Members = nil, nil
	for _, i := range n.Items {
		out.Items = append(out.Items, known(i))
	}
	for _, m := range n.Members {
		m.Value = known(m.Value)
		out.Members = append(out.Members, m)
	}
	return &out
}

// example is a value that fits a declaration of that name.
func (t *Template) example(name string, def value) value {
	def, err := t.resolve(frame{place: def}, def)
	if err != nil {
		panic(err)
	}
	if a := def.Fold("allowedValues"); a != nil && len(a.Items) > 0 {
		if strings.EqualFold(def.Fold("type").Text, "array") {
			return list(a.Items[:1])
		}
		return a.Items[0]
	}
	switch strings.ToLower(def.Fold("type").Text) {
	case "int":
		if m := def.Fold("minValue"); m != nil {
			return m
		}
		return number(1)
	case "bool":
		return boolean(true)
	case "array":
		if items := def.Fold("items"); items != nil && items.Kind == jsontree.Object {
			return list([]value{t.example("", items)})
		}
		return list([]value{text("a")})
	case "object", "secureobject":
		if d := def.Fold("discriminator"); d != nil {
			return t.example(name, d.Fold("mapping").Members[0].Value)
		}
		out := object("type", text("VHD"), "name", text("name"))
		for _, p := range members(def.Fold("properties")) {
			if r, err := t.resolve(frame{place: p.Value}, p.Value); err == nil && !nullable(r) && r.Fold("type") != nil {
				out = with(out, p.Key, t.example(p.Key, p.Value))
			}
		}
		return out
	}
	if strings.HasSuffix(strings.ToLower(name), "id") {
		return text(inGroup + "/providers/A.B/c/n")
	}
	return text("name")
}

func members(n value) []jsontree.Member {
	if n == nil {
		return nil
	}
	return live(n)
}
