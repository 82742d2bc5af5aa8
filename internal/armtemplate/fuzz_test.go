package armtemplate

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"goldsmith/internal/jsontree"
)

// Whatever stands in brackets ends in a value or an error, and in the same one
// each time.
func FuzzExpression(f *testing.F) {
	for _, c := range table {
		f.Add(c.in)
	}
	d, err := Parse([]byte(`{"$schema":"https://schema.test/deploymentTemplate.json","contentVersion":"1","resources":[],"variables":{"v":"[variables('v')]"}}`))
	if err != nil {
		f.Fatal(err)
	}
	dep, err := d.Bind(testEnvironment(), nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		run := func() string {
			e := dep.evaluator(nil)
			e.work = maxWork - 20_000 // a fuzzer's time is short
			n := text("[" + s + "]")
			v, err := e.tree(frame{path: "x"}.at(n, "x"), n)
			if err != nil {
				return err.Error()
			}
			return string(v.Append(nil))
		}
		if a, b := run(), run(); a != b {
			t.Errorf("%q and %q", a, b)
		}
	})
}

// Whatever a client sends as a template is read or refused.
func FuzzTemplate(f *testing.F) {
	const head = `{"$schema":"https://schema.test/deploymentTemplate.json#","contentVersion":"1.0.0.0",`
	f.Add(head + `"resources":[{"type":"A.B/c","name":"[concat('a',copyIndex())]","apiVersion":"1","copy":{"name":"l","count":2}}]}`)
	f.Add(head + `"languageVersion":"2.0","resources":{"a":{"type":"A.B/c","name":"n","apiVersion":"1"}},"outputs":{"o":{"type":"object","value":"[reference('a')]"}}}`)
	f.Add(head + `parameters:{p:{type:'int','defaultValue':1}},/* c */ "resources":[],"variables":{"copy":[{"name":"x","count":2,"input":"[copyIndex('x')]"}]}}`)
	f.Fuzz(func(t *testing.T, s string) {
		tpl, err := Parse([]byte(s))
		if err != nil {
			return
		}
		d, err := tpl.Bind(testEnvironment(), nil)
		if err != nil {
			return
		}
		for _, r := range d.Resources {
			body, err := r.Body(nil)
			if err != nil {
				return
			}
			if _, err := jsontree.Parse(body.Append(nil), jsontree.Limits{Bytes: 64 << 20, Depth: 1000}); err != nil {
				t.Errorf("the body of %s is not JSON: %v", r.ID, err)
			}
		}
	})
}

// A string in quotes is itself, whatever is in it.
func TestQuotedStrings(t *testing.T) {
	e := scene(t)
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		n := text("['" + strings.ReplaceAll(s, "'", "''") + "']")
		e.work = 0
		v, err := e.tree(frame{path: "x"}.at(n, "x"), n)
		if err != nil || v.Text != s {
			t.Fatalf("%q became %v, %v", s, v, err)
		}
	})
}

// split undoes join, and skip and take share an array out.
func TestTextLaws(t *testing.T) {
	e := scene(t)
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.StringMatching(`[a-z]{0,4}`), 1, 6).Draw(t, "words")
		n := rapid.IntRange(-2, 8).Draw(t, "n")
		quoted := "'" + strings.Join(words, "','") + "'"
		e.work = 0
		for _, in := range []string{
			"[equals(split(join(createArray(" + quoted + "), '/'), '/'), createArray(" + quoted + "))]",
			"[equals(concat(take(createArray(" + quoted + "), " + itoa(n) + "), skip(createArray(" + quoted + "), " + itoa(n) + ")), createArray(" + quoted + "))]",
			"[equals(union(createArray(" + quoted + "), createArray(" + quoted + ")), union(createArray(" + quoted + ")))]",
		} {
			v, err := e.tree(frame{path: "x"}.at(text(in), "x"), text(in))
			if err != nil || !truth(v) {
				t.Fatalf("%s: %v, %v", in, v, err)
			}
		}
	})
}
