package artifact

import (
	"net/url"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
)

func TestParseMirror(t *testing.T) {
	for in, want := range map[string]Mirror{
		"https://a.example/=/srv/mirror":            {"https://a.example/", "/srv/mirror"},
		"http://a.example:8080/x=https://m.local/y": {"http://a.example:8080/x", "https://m.local/y"},
		"https://a.example=/srv/a=b":                {"https://a.example", "/srv/a=b"},
	} {
		got, err := ParseMirror(in)
		if diff := cmp.Diff(want, got); err != nil || diff != "" {
			t.Errorf("ParseMirror(%q): %v %s", in, err, diff)
		}
	}
	for _, in := range []string{"", "=", "https://a.example", "https://a.example=", "a.example=/srv", "/srv=/srv", "ftp://a/=/srv",
		"https://u:p@a.example/=/srv", "https://a.example/=ftp://b/", "https://a.example/=https://b/?x=1"} {
		_, err := ParseMirror(in)
		wantCode(t, err, arm.CodeUsage, "mirror")
	}
}

func TestMirrorsLongestPrefixWins(t *testing.T) {
	m := newMirrors([]Mirror{
		{"https://a.example/", "/root"},
		{"https://a.example/deep/er", "/deeper"},
		{"https://a.example/deep", "http://m.example/base"},
	})
	type found struct{ To, Rest string }
	for in, want := range map[string]found{
		"https://a.example/x/y.sh":             {"/root", "x/y.sh"},
		"https://a.example/deep/x":             {"http://m.example/base", "x"},
		"https://a.example/deep":               {"http://m.example/base", ""},
		"https://a.example/deeply/x":           {"/root", "deeply/x"}, // not below /deep
		"https://a.example/deep/er/x":          {"/deeper", "x"},
		"HTTPS://A.EXAMPLE:443/deep/er/x":      {"/deeper", "x"},
		"https://a.example/deep/er/../../../x": {"/root", "x"},
		"https://a.example/%2e%2e/%2e%2e/etc":  {"/root", "etc"},
	} {
		u, err := url.Parse(in)
		if err != nil {
			t.Fatal(err)
		}
		got, rest, ok := m.find(u)
		if diff := cmp.Diff(want, found{got.To, rest}); !ok || diff != "" {
			t.Errorf("%s: %t %s", in, ok, diff)
		}
	}
	for _, in := range []string{"http://a.example/x", "https://a.example:444/x", "https://a.example.evil/x", "https://b.example/"} {
		u, _ := url.Parse(in)
		if got, _, ok := m.find(u); ok {
			t.Errorf("%s is served from %s", in, got.To)
		}
	}
}

func TestMirrorTargetDropsSignatures(t *testing.T) {
	u, _ := url.Parse("https://a.example/x/y z?sig=abc&id=5")
	web, _ := Mirror{"https://a.example/", "https://m.example/base/"}.target(u, "x/y z")
	if got, want := web.String(), "https://m.example/base/x/y%20z?id=5"; got != want {
		t.Errorf("target is %q, want %q", got, want)
	}
}

func FuzzMirror(f *testing.F) {
	f.Add("https://a.example/=/srv/mirror", "https://a.example/x/../../y")
	f.Add("https://a.example/p=https://m/q", "https://a.example/p/%2e%2e/z?sig=1")
	f.Fuzz(func(t *testing.T, flag, uri string) {
		m, err := ParseMirror(flag)
		if err != nil {
			return
		}
		u, err := url.Parse(uri)
		if err != nil || u.Host == "" {
			return
		}
		_, rest, ok := newMirrors([]Mirror{m}).find(u)
		if !ok {
			return
		}
		web, dir := m.target(u, rest)
		if web == nil && dir != m.To {
			t.Fatalf("%q under %q leads to %q", uri, flag, dir)
		}
		if web != nil {
			base, _ := url.Parse(m.To)
			if !under(base, web) {
				t.Fatalf("%q under %q leads to %q", uri, flag, web)
			}
		}
	})
}
