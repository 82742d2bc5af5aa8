package recipe

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestHostSources(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  []string
	}{
		"one line": {
			map[string]string{"sources.list": "# a comment\ndeb http://m/debian bookworm main contrib # end\ndeb-src http://m/debian bookworm main\ndeb http://m/debian bookworm-updates main\ndeb http://m/security bookworm-security main\n"},
			[]string{"deb http://m/debian bookworm main contrib", "deb http://m/debian bookworm-updates main", "deb http://m/security bookworm-security main"},
		},
		"deb822": {
			map[string]string{"sources.list.d/debian.sources": "Types: deb deb-src\n# between\nURIs: http://m/debian\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\nTypes: deb\nURIs:\n http://s/security\nSuites: bookworm-security\nComponents:\n main\n"},
			[]string{
				"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://m/debian bookworm main",
				"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://m/debian bookworm-updates main",
				"deb http://s/security bookworm-security main",
			},
		},
		"others are left out": {
			map[string]string{
				"sources.list":               "deb [arch=amd64 signed-by=/k.gpg trusted=yes] https://m/debian bookworm main\n",
				"sources.list.d/a.list":      "deb https://vendor bookworm stable\ndeb https://node nodistro main\ndeb cdrom:[x] bookworm main\ndeb file:/srv bookworm main\ndeb https://m/flat ./\n",
				"sources.list.d/off.sources": "Types: deb\nURIs: http://off\nSuites: bookworm\nComponents: main\nEnabled: no\n",
				"sources.list.d/key.sources": "Types: deb\nURIs: http://inline\nSuites: bookworm\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n x\n",
				"sources.list.d/ignored.bak": "deb http://bak bookworm main\n",
			},
			[]string{"deb [signed-by=/k.gpg trusted=yes] https://m/debian bookworm main"},
		},
		"another release": {map[string]string{"sources.list": "deb http://m/debian trixie main\ndeb http://m/s bookworm-security main\n"}, nil},
		"each once":       {map[string]string{"sources.list": "deb http://m bookworm main\n", "sources.list.d/x.list": "deb  http://m  bookworm  main"}, []string{"deb http://m bookworm main"}},
		"nothing":         {nil, nil},
	} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "sources.list.d"), 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range c.files {
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := HostSources(dir, "bookworm")
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestKeyrings(t *testing.T) {
	got := keyrings([]string{
		"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://m bookworm main",
		"deb [signed-by=/etc/apt/keyrings/corp.gpg] http://m bookworm main",
		"deb [signed-by=/etc/apt/keyrings/corp.gpg] http://m bookworm-updates main",
	})
	if diff := cmp.Diff([]string{"/etc/apt/keyrings/corp.gpg"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestSelectedSourcesParseBack(t *testing.T) {
	word := rapid.StringMatching(`[a-z0-9.-]{1,8}`)
	rapid.Check(t, func(t *rapid.T) {
		s := Source{
			URIs: []string{"http://" + word.Draw(t, "host")}, Suites: []string{"bookworm"},
			Components: []string{"main", word.Draw(t, "component")}, Trusted: rapid.Bool().Draw(t, "trusted"),
		}
		if rapid.Bool().Draw(t, "signed") {
			s.SignedBy = "/" + word.Draw(t, "keyring")
		}
		lines := selectSuite([]Source{s}, "bookworm")
		if len(lines) != 1 {
			t.Fatalf("%q", lines)
		}
		if diff := cmp.Diff([]Source{s}, ParseSources(lines[0])); diff != "" {
			t.Fatal(diff)
		}
	})
}

func FuzzSources(f *testing.F) {
	f.Add("deb [signed-by=/k] http://m bookworm main\n")
	f.Add("Types: deb\nURIs: http://m\nSuites: bookworm\nComponents: main\n")
	f.Add("deb [ ] [")
	f.Add(": x\n y\n")
	f.Fuzz(func(t *testing.T, text string) {
		for _, line := range selectSuite(append(ParseSources(text), ParseSources822(text)...), "bookworm") {
			if strings.ContainsAny(line, "\n\r#") || !strings.HasPrefix(line, "deb ") {
				t.Fatalf("%q", line)
			}
		}
	})
}
