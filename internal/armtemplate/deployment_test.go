package armtemplate

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
	"goldsmith/internal/jsontree"
)

// state is a Runtime over fixed resources, by id.
type state map[string]string

func (s state) Reference(id, version string, full bool) (*jsontree.Node, error) {
	text, ok := s[id]
	if !ok {
		return nil, errors.New("there is no " + id)
	}
	n, err := jsontree.Parse([]byte(text), jsontree.Limits{Bytes: MaxBytes, Depth: maxDepth})
	if err != nil || full {
		return n, err
	}
	return n.Get("properties"), nil
}

func (s state) List(action, id, version string, _ *jsontree.Node) (*jsontree.Node, error) {
	return s.Reference(action+" "+id, version, true)
}

func TestResources(t *testing.T) {
	d := mustBind(t, `
	// loose JSON, as az sends it
	parameters: {"names":{"type":"array","defaultValue":["x","y"]},"on":{"type":"bool","defaultValue":false}},
	"resources":[
		{"type":"A.B/c","apiVersion":"2024-01-01","name":"[concat('n', parameters('names')[copyIndex()])]","location":"[resourceGroup().location]",
			"copy":{"name":"loop","count":"[length(parameters('names'))]","mode":"serial"},
			"tags":{"[concat('key', copyIndex(1))]":"v"},
			"properties":{"copy":[{"name":"parts","count":2,"input":{"i":"[copyIndex('parts')]","turn":"[copyIndex('loop')]"}}],"lit":"[[x]","text":"a
b"}},
		{"type":"A.B/p","apiVersion":"2024-01-01","name":"parent","resources":[
			{"type":"kid","apiVersion":"2024-01-01","name":"k","properties":{"from":"[reference('nx').state]"}}]},
		{"type":"D.E/f","apiVersion":"2024-01-01","name":"ext","scope":"A.B/p/parent","dependsOn":["loop"]},
		{"type":"A.B/p/kid","apiVersion":"2024-01-01","name":"parent/off","condition":"[parameters('on')]"},
		{"type":"A.B/p/providers/g","apiVersion":"2024-01-01","name":"parent/D.E/h"},
		{"type":"A.B/late","apiVersion":"2024-01-01","name":"l","dependsOn":["[resourceId('A.B/p','parent')]","A.B/c/nx"]}
	]`, "")
	type shown struct {
		ID   string
		Type string
		On   bool
		Dep  []int
	}
	var got []shown
	for _, r := range d.Resources {
		got = append(got, shown{strings.TrimPrefix(r.ID, inGroup+"/providers/"), r.Type, r.Condition, r.DependsOn})
	}
	want := []shown{
		{"A.B/c/nx", "A.B/c", true, nil},
		{"A.B/c/ny", "A.B/c", true, []int{0}},
		{"A.B/p/parent", "A.B/p", true, nil},
		{"A.B/p/parent/kid/k", "A.B/p/kid", true, []int{0, 2}},
		{"A.B/p/parent/providers/D.E/f/ext", "D.E/f", true, []int{0, 1, 2}},
		{"A.B/p/parent/kid/off", "A.B/p/kid", false, []int{2}},
		{"A.B/p/parent/providers/D.E/g/h", "D.E/g", true, []int{2}},
		{"A.B/late/l", "A.B/late", true, []int{0, 2}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	body, err := d.Resources[1].Body(nil)
	if err != nil {
		t.Fatal(err)
	}
	const second = `{"location":"westus2","tags":{"key2":"v"},"properties":{"parts":[{"i":0,"turn":1},{"i":1,"turn":1}],"lit":"[x]","text":"a\nb"}}`
	if s := string(body.Append(nil)); s != second {
		t.Error(s)
	}
	kid := d.Resources[3]
	if body, err := kid.Body(nil); err != nil || string(body.Append(nil)) != `{"properties":{"from":"[reference('nx').state]"}}` {
		t.Errorf("%v %v", body, err)
	}
	if body, err := kid.Body(state{inGroup + "/providers/A.B/c/nx": `{"properties":{"state":"up"}}`}); err != nil || string(body.Append(nil)) != `{"properties":{"from":"up"}}` {
		t.Errorf("%v %v", body, err)
	}
	if _, err := kid.Body(state{}); err == nil || !strings.Contains(err.Error(), "resources[1].resources[0].properties.from") || !strings.Contains(err.Error(), "there is no") {
		t.Error(err)
	}
}

func TestSymbolicNames(t *testing.T) {
	d := mustBind(t, `"languageVersion":"2.0","definitions":{"who":{"type":"object","properties":{"name":{"type":"string"},"age":{"type":"int","nullable":true}}}},
	"parameters":{"w":{"$ref":"#/definitions/who"}},
	"resources":{
		"old":{"existing":true,"type":"A.B/c","apiVersion":"2024-01-01","name":"old","resourceGroup":"elsewhere"},
		"many":{"type":"A.B/c","apiVersion":"2024-01-01","name":"[format('m{0}', copyIndex())]","copy":{"name":"many","count":2}},
		"new":{"type":"A.B/c","apiVersion":"2024-01-01","name":"new","properties":{"a":"[reference('old', '2024-01-01', 'full').location]","b":"[references('many')[1].x]","c":"[resourceInfo('old').name]"}}
	},"outputs":{"keys":{"type":"string","value":"[listKeys('old', '2024-01-01').k]"},"off":{"type":"string","condition":false,"value":"x"}}`, `{"w":{"value":{"name":"n"}}}`)
	rt := state{
		"/subscriptions/" + testSubscription + "/resourceGroups/elsewhere/providers/A.B/c/old": `{"location":"there"}`,
		inGroup + "/providers/A.B/c/m0": `{"properties":{"x":0}}`, inGroup + "/providers/A.B/c/m1": `{"properties":{"x":1}}`,
		"listKeys /subscriptions/" + testSubscription + "/resourceGroups/elsewhere/providers/A.B/c/old": `{"k":"v"}`,
	}
	body, err := d.Resources[3].Body(rt)
	if err != nil || string(body.Append(nil)) != `{"properties":{"a":"there","b":1,"c":"old"}}` {
		t.Errorf("%v %v", body, err)
	}
	if diff := cmp.Diff([]int{0, 1, 2}, d.Resources[3].DependsOn); diff != "" {
		t.Error(diff)
	}
	out, err := d.Outputs(rt)
	if err != nil || string(out.Append(nil)) != `{"keys":{"type":"String","value":"v"}}` {
		t.Errorf("%v %v", out, err)
	}
}

func TestNestedDeployments(t *testing.T) {
	const nested = `"parameters":{"p":{"type":"string","defaultValue":"outer"}},"resources":[{"type":"Microsoft.Resources/deployments","apiVersion":"2024-11-01","name":"n","resourceGroup":"other",
		"properties":{SCOPE"mode":"Incremental","parameters":{"p":{"value":"[concat(parameters('p'), '!')]"}},
			"template":{"resources":[{"name":"[parameters('p')]","type":"A.B/c","copy":{"name":"l","count":1},"x":"[copyIndex()]"}]}}}]`
	for scope, want := range map[string]string{
		"": `[{"name":"outer","type":"A.B/c","copy":{"name":"l","count":1},"x":"[copyIndex()]"}]`,
		`"expressionEvaluationOptions":{"scope":"inner"},`: `[{"name":"[parameters('p')]","type":"A.B/c","copy":{"name":"l","count":1},"x":"[copyIndex()]"}]`,
	} {
		d := mustBind(t, strings.Replace(nested, "SCOPE", scope, 1), "")
		r := d.Resources[0]
		if !strings.Contains(r.ID, "/resourceGroups/other/providers/Microsoft.Resources/deployments/n") {
			t.Error(r.ID)
		}
		body, err := r.Body(nil)
		if err != nil {
			t.Fatal(err)
		}
		props := body.Get("properties")
		if got := string(props.Get("template").Get("resources").Append(nil)); got != want {
			t.Error(got)
		}
		if got := props.Get("parameters").Get("p").Get("value").Text; got != "outer!" {
			t.Error(got)
		}
	}
}

// Secrets are neither shown nor in what may be kept.
func TestSecrets(t *testing.T) {
	d := mustBind(t, `"parameters":{"s":{"type":"securestring"},"o":{"type":"int"}},"resources":[],
		"outputs":{"s":{"type":"securestring","value":"[parameters('s')]"},"o":{"type":"int","value":"[parameters('o')]"}}`, `{"s":{"value":"hush"},"O":{"value":1}}`)
	out, err := d.Outputs(nil)
	if err != nil {
		t.Fatal(err)
	}
	for what, n := range map[string]*jsontree.Node{
		`{"s":{"type":"SecureString"},"o":{"type":"Int","value":1}}`:  d.Parameters(),
		`{"s":{"type":"SecureString"},"o":{"type":"Int","value":1}} `: out,
		`{"o":{"value":1}}`:                      d.Given(true),
		`{"s":{"value":"hush"},"o":{"value":1}}`: d.Given(false),
	} {
		if got := string(n.Append(nil)); got != strings.TrimSpace(what) {
			t.Errorf("%s, want %s", got, what)
		}
	}
	if !d.Secret() {
		t.Error("not known as secret")
	}
	if _, err := bound(t, `"parameters":{"s":{"type":"securestring","allowedValues":["a"]}},"resources":[]`, `{"s":{"value":"hush"}}`); err == nil || strings.Contains(err.Error(), "hush") {
		t.Error(err)
	}
}

func TestInvalid(t *testing.T) {
	const r = `{"type":"A.B/c","apiVersion":"2024-01-01","name":`
	for _, c := range []struct{ body, parameters, want, target string }{
		{`"resources":[],"parameters":{"p":{"type":"string"}}`, "", "The value for the template parameter 'p' at line '1'", "parameters.p"},
		{`"resources":[]`, `{"q":{"value":1}}`, "'q' in the parameters file are not valid", "parameters.q"},
		{`"resources":[],"parameters":{"p":{"type":"string"}}`, `{"p":{"value":1}}`, "Expected 'String'. Actual 'Integer'", "parameters.p"},
		{`"resources":[],"parameters":{"p":{"type":"string"}}`, `{"p":1}`, `{"value": ...}`, "parameters.p"},
		{`"resources":[],"parameters":{"p":{"type":"text"}}`, "", "needs a 'type'", "parameters.p"},
		{`"resources":[],"parameters":{"p":{"type":"string"}}`, `{"p":{"reference":{}}}`, "key vault", "parameters.p"},
		{`"resources":[],"parameters":{"p":{"type":"int","minValue":3}}`, `{"p":{"value":1}}`, "the least is 3", "parameters.p"},
		{`"resources":[],"parameters":{"p":{"type":"string","maxLength":1}}`, `{"p":{"value":"ab"}}`, "the greatest is 1", "parameters.p"},
		{`"resources":[],"parameters":{"p":{"type":"string","allowedValues":["a","b"]}}`, `{"p":{"value":"c"}}`, "allowed value(s): 'a,b'", "parameters.p"},
		{`"resources":[],"parameters":{"p":{"type":"object","properties":{"a":{"type":"int"}}}}`, `{"p":{"value":{"a":"x"}}}`, "for the parameter 'p.a'", "parameters.p"},
		{`"resources":[],"parameters":{"p":{"type":"object","properties":{"a":{"type":"int"}}}}`, `{"p":{"value":{}}}`, "lacks the member 'a'", "parameters.p"},
		{`"resources":[],"parameters":{"p":{"$ref":"#/definitions/x"}},"definitions":{"x":{"$ref":"#/definitions/x"}}`, "", "in a circle", "parameters.p"},
		{`"resources":{}`, "", "needs languageVersion 2.0", "resources"},
		{`"a":1`, "", "'resources' is missing", "template"},
		{`"resources":[` + r + `"a/b"}]`, "", "incorrect segment lengths", "resources[0]"},
		{`"resources":[` + r + `"a"},` + r + `"A"}]`, "", "defined multiple times", "resources[1]"},
		{`"resources":[` + r + `"a","dependsOn":["b"]}]`, "", "'b' is not defined in the template", "resources[0]"},
		{`"resources":[` + r + `"a","dependsOn":["b"]},` + r + `"b","properties":{"x":"[reference('a')]"}}]`, "", "Circular dependency detected", "resources[0]"},
		{`"resources":[` + r + `"[nope()]"}]`, "", "template function 'nope' is not valid", "resources[0].name"},
		{`"resources":[` + r + `"[reference('x').y]"}]`, "", "is not defined", "resources[0].name"},
		{`"resources":[` + r + `"b"},` + r + `"[reference('b').y]"}]`, "", "are not expected at this location", "resources[1].name"},
		{`"resources":[` + r + `"a","condition":"maybe"}]`, "", "must be true or false", "resources[0].condition"},
		{`"resources":[{"type":"A.B/c","name":"a"}]`, "", "has no 'apiVersion'", "resources[0]"},
		{`"resources":[` + r + `"a","copy":{"name":"l","count":"many"}}]`, "", "the copy count must be", "resources[0].copy"},
		{`"resources":[],"extensions":{"k":{}}`, "", "'extensions' are not offered", "extensions"},
		{`"resources":[],"languageVersion":"9"`, "", "languageVersion '9' is not known", "languageVersion"},
		{`"resources":[],"variables":{"a":1,"A":2}`, "", "is there twice", "variables.A"},
		{`"resources":[`, "", "the template is not JSON", ""},
	} {
		_, err := bound(t, c.body, c.parameters)
		var e *arm.Error
		if !errors.As(err, &e) || e.Code != CodeInvalid || !strings.Contains(e.Message, c.want) || e.Target != c.target {
			t.Errorf("%s: %v\nwant %q at %q", c.body, err, c.want, c.target)
		}
	}
}
