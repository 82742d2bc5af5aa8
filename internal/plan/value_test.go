package plan

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUsedValues(t *testing.T) {
	values := map[string]Value{"TOKEN": {Name: "TOKEN", Secret: true}, "RELEASE": {Name: "RELEASE", Content: "1"}, "TO": {Name: "TO"}}
	for text, want := range map[string][]string{
		"echo nothing":                  nil,
		`curl -H "$TOKEN" ${RELEASE}/x`: {"RELEASE", "TOKEN"},
		"MY_TOKEN=1 TOKENS=2":           nil,
		"cat $GOLDSMITH_VALUES/TO":      {"TO"},
	} {
		var got []string
		for _, v := range used(values, text) {
			got = append(got, v.Name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	for name, ok := range map[string]bool{"A": true, "_x9": true, "9a": false, "": false, "a-b": false, "PATH": false, "LD_PRELOAD": false, strings.Repeat("a", 65): false} {
		if err := CheckValueName(name); (err == nil) != ok {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A secret enters keys by name and version, a parameter by value, and both only
// those of the steps that are given them.
func TestValuesInKeys(t *testing.T) {
	key := func(v Value) string {
		p := &Plan{Steps: []Step{{Type: "Shell", Inline: []string{"x"}, Values: []Value{v}}}}
		return p.Keys("").Last()
	}
	secret := Value{Name: "A", Secret: true, Version: "1"}
	if key(secret) == key(Value{Name: "A", Secret: true, Version: "2"}) || key(secret) == key(Value{Name: "B", Secret: true, Version: "1"}) {
		t.Error("two secrets have one key")
	}
	if key(Value{Name: "A", Content: "1"}) == key(Value{Name: "A", Content: "2"}) {
		t.Error("two values of a parameter have one key")
	}
}

func TestKeysAreBoundToTenantAndNetwork(t *testing.T) {
	keys := map[string]bool{}
	for _, p := range []*Plan{{}, {Tenant: "a"}, {Tenant: "b"}, {Network: "private"}, {Network: "subnet"}, {Egress: "10.0.0.0/8"}, {Base: Base{Image: "x"}}, {DiskBytes: 1}} {
		k := p.Keys("")
		for _, key := range []string{k.Root, k.ResultKey(), MemoryKey(k.Root, "f"), MemoryKey(k.Root, "g"), FlatKey(k.Root)} {
			if keys[key] {
				t.Errorf("%+v shares a key", p)
			}
			keys[key] = true
		}
	}
}

func TestCompare(t *testing.T) {
	facts := func(p *Plan) Facts {
		t.Helper()
		f, err := p.Facts()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	before := &Plan{Base: Base{Image: "a"}, Steps: []Step{{Type: "Shell", Inline: []string{"x"}}, {Type: "File", Destination: "/tmp/a", Artifact: &Artifact{URI: "a", SHA256: "1"}}}}
	now := &Plan{Base: Base{Image: "b"}, DiskBytes: 1, Steps: []Step{
		{Type: "Shell", Inline: []string{"x"}}, {Type: "File", Destination: "/tmp/b", Artifact: &Artifact{URI: "a", SHA256: "2"}}, {Type: "Shell"},
	}}
	want := Changes{
		Whole: "the base image and the size of the disk changed",
		Steps: []string{"", "its destination and the content of its file changed", "the step is new"},
	}
	if diff := cmp.Diff(want, Compare(facts(before), facts(now))); diff != "" {
		t.Error(diff)
	}
	if got := Compare(Facts{}, facts(now)); got.Whole == "" {
		t.Error("nothing to compare with is no change")
	}
}
