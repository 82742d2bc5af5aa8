package armapi

import (
	"strings"
	"testing"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
)

func TestCanonicalScope(t *testing.T) {
	const sub = "11111111-1111-1111-1111-11111111111a"
	for in, want := range map[string]string{
		"":  "",
		"/": "",
		"/SUBSCRIPTIONS/" + strings.ToUpper(sub) + "/resourcegroups/G": "/subscriptions/" + sub + "/resourceGroups/G",
		"/subscriptions/" + sub + "/resourceGroups/resourcegroups":     "/subscriptions/" + sub + "/resourceGroups/resourcegroups",
	} {
		if got := canonicalScope(in, sub); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestParentOf(t *testing.T) {
	for in, want := range map[string]string{
		"/subscriptions/s":                                                      "",
		"/subscriptions/s/resourceGroups/g":                                     "",
		"/subscriptions/s/resourceGroups/g/providers/N.S/a/b":                   "/subscriptions/s/resourceGroups/g",
		"/subscriptions/s/resourceGroups/g/providers/N.S/a/b/c/d":               "/subscriptions/s/resourceGroups/g/providers/N.S/a/b",
		"/subscriptions/s/resourceGroups/g/providers/N.S/a/b/providers/M.T/c/d": "/subscriptions/s/resourceGroups/g/providers/N.S/a/b",
	} {
		if got := parentOf(in); got != want {
			t.Errorf("parent of %s is %q, want %q", in, got, want)
		}
	}
}

// Whatever a path is, it is refused with a code, or names something whose id can
// be stored and comes back the same.
func FuzzTarget(f *testing.F) {
	for _, s := range []string{
		"/subscriptions/s/resourceGroups/g/providers/N.S/a/b//c/d/", "/providers/N.S/operations", "/subscriptions/s/providers/N.S/register",
		"/subscriptions/s/providers/Microsoft.Features/providers/N/features/F/register", "/a%2fb", "/%00", "/providers/providers/providers", "/tenants/%ff",
		"/subscriptions/s/resourceGroups/g/deployments/n/operations",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		tg, err := parseTarget(path)
		if err != nil {
			if arm.CodeOf(err) == arm.CodeInternal {
				t.Fatalf("%q: %v", path, err)
			}
			return
		}
		if len(tg.names) != len(tg.types) && len(tg.names)+1 != len(tg.types) {
			t.Fatalf("%q has the types %q and the names %q", path, tg.types, tg.names)
		}
		id := tg.id("s")
		if id != "/" && resource.Check(resource.Record{ID: id}) != nil {
			t.Fatalf("%q has the id %q", path, id)
		}
		if strings.ContainsAny(id, "\x00%?#\\") || strings.Contains(id, "//") || strings.Contains(id, "/../") {
			t.Fatalf("%q has the id %q", path, id)
		}
		if tg.odd {
			return
		}
		again, err := splitTarget(strings.Split(strings.Trim(id, "/"), "/"))
		if err != nil || !strings.EqualFold(again.id("s"), id) {
			t.Fatalf("%q has the id %q, which has the id %q (%v)", path, id, again.id("s"), err)
		}
	})
}

// A body is refused or decoded, and never a fault of the service.
func FuzzBody(f *testing.F) {
	for _, s := range []string{`{"location":"x","tags":{"a":"b"},"properties":{"a":[1]},"sku":{"name":"y"}}`, `{"tags":[]}`, `[`, `{"properties":1}`, "\xff", `{"identity":null,"zones":[1]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r := Request{Body: body}
		in, err := r.resource()
		if err != nil {
			if status := statusOf(err); status != 400 {
				t.Fatalf("%q: status %d, %v", body, status, err)
			}
			return
		}
		var properties map[string]any
		if err := decodeProperties(in.properties, &properties); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		rec := resource.Record{ID: "/subscriptions/s", Location: in.location, Tags: in.tags, Identity: in.identity, Properties: in.properties, Other: in.other}
		if err := resource.Check(rec); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
		if _, err := Resource(rec); err != nil {
			t.Fatalf("%q: %v", body, err)
		}
	})
}
