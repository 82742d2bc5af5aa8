package artifact

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSecrets(t *testing.T) {
	for uri, want := range map[string][]string{
		"https://a.example/x.sh":                                     nil,
		"https://a.example/x.sh?version=20240101&sort=name-of-it":    nil,
		"https://acc.example/c/b?sv=2020-08-04&sig=abc%2Bdef%3D&x=1": {"abc%2Bdef%3D", "abc+def="},
		"https://user:pass-word@a.example/x?access_token=t0k3n-1":    {"pass-word", "t0k3n-1"},
		"https://user@a.example/x":                                   nil,
		"https://a.example/x?token=true":                             nil,
		"http://proxy-user:p%40ssword@proxy.example:3128":            {"p@ssword"},
		"scripts/install.sh":                                         nil,
		"":                                                           nil,
		"https://a.example/%zz?sig=abcdefgh":                         nil,
	} {
		if diff := cmp.Diff(want, Secrets(uri)); diff != "" {
			t.Errorf("Secrets(%q): %s", uri, diff)
		}
	}
}
