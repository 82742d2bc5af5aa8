package catalog

import (
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"goldsmith/internal/arm"
)

func TestParseURN(t *testing.T) {
	for in, want := range map[string]URN{
		"Debian:debian-12:12-gen2:latest":         {"Debian", "debian-12", "12-gen2", "latest"},
		"Canonical:UbuntuServer:18.04-LTS:LATEST": {"Canonical", "UbuntuServer", "18.04-LTS", "LATEST"},
		"a:b:c:1.2.3":               {"a", "b", "c", "1.2.3"},
		"a:b_c:d.e:22.04.202609010": {"a", "b_c", "d.e", "22.04.202609010"},
	} {
		got, err := ParseURN(in)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("%q: %v %s", in, err, diff)
		}
	}
	for in, word := range map[string]string{
		"":                    "PUBLISHER:OFFER:SKU:VERSION",
		"a:b:c":               "PUBLISHER:OFFER:SKU:VERSION",
		"a:b:c:1:2":           "PUBLISHER:OFFER:SKU:VERSION",
		":b:c:1":              "publisher",
		"a: b:c:1":            "offer",
		"a:b:../c:1":          "sku",
		"a:b:c:":              "version",
		"a:b:c:v1":            "version",
		"a:b:c:1.2.3.4.5":     "version",
		"a:b:c:1..2":          "version",
		"a:b:c:-1":            "version",
		"a:b:c:1\n":           "version",
		"a:b/c:d:latest":      "offer",
		"a:b:c:newest":        "version",
		"<publisher>:b:c:1.0": "publisher",
	} {
		_, err := ParseURN(in)
		if arm.CodeOf(err) != arm.CodeUsage || !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %v, want a word on %s", in, err, word)
		}
	}
}

func TestCompareVersions(t *testing.T) {
	sorted := []string{"0.9", "1", "1.0.1", "1.2.3", "1.10.0", "9.9.20260901", "9.10.1", "9.10.202609010", "22.04.202609010", "22.04.99999999999999999999"}
	shuffled := append([]string(nil), sorted...)
	sort.Sort(sort.Reverse(sort.StringSlice(shuffled)))
	sort.Slice(shuffled, func(i, j int) bool { return CompareVersions(shuffled[i], shuffled[j]) < 0 })
	if diff := cmp.Diff(sorted, shuffled); diff != "" {
		t.Error(diff)
	}
	for _, equal := range [][2]string{{"1", "1.0.0"}, {"1.02", "1.2"}, {"0", "0.0"}} {
		if CompareVersions(equal[0], equal[1]) != 0 {
			t.Errorf("%v differ", equal)
		}
	}
	version := rapid.StringMatching(`[0-9]{1,3}(\.[0-9]{1,3}){0,3}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := version.Draw(t, "a"), version.Draw(t, "b"), version.Draw(t, "c")
		if CompareVersions(a, b) != -CompareVersions(b, a) {
			t.Fatalf("%s and %s compare unevenly", a, b)
		}
		if CompareVersions(a, b) <= 0 && CompareVersions(b, c) <= 0 && CompareVersions(a, c) > 0 {
			t.Fatalf("%s <= %s <= %s but not %s <= %s", a, b, c, a, c)
		}
	})
}

func FuzzURN(f *testing.F) {
	f.Add("Debian:debian-12:12-gen2:latest")
	f.Add("a:b:c:1.2.3.4")
	f.Add(":::")
	f.Fuzz(func(t *testing.T, in string) {
		u, err := ParseURN(in)
		if err != nil {
			return
		}
		if u.String() != in {
			t.Errorf("%q comes back as %q", in, u)
		}
		if strings.ContainsAny(in, "/\\\x00\n ") {
			t.Errorf("%q is accepted", in)
		}
	})
}
