package suggest

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestNearest(t *testing.T) {
	all := []string{"Standard_D2s_v3", "Standard_D2_v3", "Standard_F2", "Canonical:UbuntuServer:18.04-LTS"}
	for name, want := range map[string][]string{
		"standard_d2sv3":    {"Standard_D2s_v3", "Standard_D2_v3"},
		"ubuntuserver":      {"Canonical:UbuntuServer:18.04-LTS"},
		"completely-other-": nil,
		"":                  nil,
		"F2":                nil,
	} {
		if diff := cmp.Diff(want, Nearest(name, all, 2)); diff != "" {
			t.Errorf("%q: %s", name, diff)
		}
	}
}

func TestDistanceIsAMetric(t *testing.T) {
	word := rapid.StringMatching(`[ab_1]{0,8}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := word.Draw(t, "a"), word.Draw(t, "b"), word.Draw(t, "c")
		if (distance(a, b) == 0) != (a == b) || distance(a, b) != distance(b, a) {
			t.Fatalf("distance(%q, %q) = %d, back %d", a, b, distance(a, b), distance(b, a))
		}
		if distance(a, c) > distance(a, b)+distance(b, c) {
			t.Fatalf("the way over %q is shorter than from %q to %q", b, a, c)
		}
	})
	if d := distance(strings.Repeat("a", 1<<20), strings.Repeat("b", 1<<20)); d != maxCompared {
		t.Errorf("distance of huge names is %d", d)
	}
}
