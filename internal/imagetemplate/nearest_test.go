package imagetemplate

import (
	"testing"

	"pgregory.net/rapid"
)

func TestNearest(t *testing.T) {
	names := []string{"artifactTags", "runOutputName", "type", "uri"}
	for got, want := range map[string]string{
		"aritfactTags": "artifactTags", "ARTIFACTTAGS": "artifactTags", "runOutput": "", "runOutputNam": "runOutputName",
		"typ": "type", "url": "uri", "tags": "", "": "",
	} {
		if n := nearest(got, names); n != want {
			t.Errorf("nearest(%q) = %q, want %q", got, n, want)
		}
	}
}

func TestDistance(t *testing.T) {
	word := rapid.StringMatching(`[ab]{0,6}`)
	rapid.Check(t, func(t *rapid.T) {
		a, b := word.Draw(t, "a"), word.Draw(t, "b")
		const far = 100
		d := distance(a, b, far)
		if d != distance(b, a, far) {
			t.Fatalf("distance(%q, %q) is not symmetric", a, b)
		}
		if (d == 0) != (a == b) || d > max(len(a), len(b)) {
			t.Fatalf("distance(%q, %q) = %d", a, b, d)
		}
		if limit := rapid.IntRange(1, 8).Draw(t, "limit"); distance(a, b, limit) != min(d, limit) {
			t.Fatalf("distance(%q, %q, %d) = %d, want %d", a, b, limit, distance(a, b, limit), min(d, limit))
		}
	})
}
