package catalog

import (
	"strings"
	"testing"
)

func TestShipped(t *testing.T) {
	all, err := Shipped()
	if err != nil {
		t.Fatal(err)
	}
	byName := map[string]Entry{}
	for _, e := range all {
		byName[e.Image()] = e
		if e.Source.Recipe == "" && (!strings.HasPrefix(e.Source.URL, "https://") || !strings.HasPrefix(e.Source.DigestList, "https://")) {
			t.Errorf("%s is not fetched over https", e.URN)
		}
		if !e.IsLatest() || !e.Shipped || e.OS != Linux || e.Title == "" {
			t.Errorf("%+v", e)
		}
	}
	for name, generation := range map[string]int{
		"Debian:debian-12:12-gen2":                              2,
		"Debian:debian-12:12-genericcloud":                      1,
		"Debian:debian-13:13-gen2":                              2,
		"Canonical:UbuntuServer:18.04-LTS":                      1,
		"Canonical:0001-com-ubuntu-server-jammy:22_04-lts-gen2": 2,
		"Canonical:0001-com-ubuntu-server-jammy:22_04-lts":      1,
		"Canonical:ubuntu-24_04-lts:server":                     2,
		"almalinux:almalinux-x86_64:9-gen1":                     1,
		"resf:rockylinux-x86_64:9-base":                         2,
	} {
		if e, ok := byName[name]; !ok || e.Generation != generation {
			t.Errorf("%s: %t, generation %d, want %d", name, ok, e.Generation, generation)
		}
	}
	if e := byName["Debian:debian-12:12-gen2"]; e.Source != (Source{Recipe: "debian-12", Release: "12.0"}) {
		t.Errorf("%+v is not made here", e.Source)
	}
}

func TestShippedMistakes(t *testing.T) {
	const good = `{publisher: a, offer: b, skus: {c: 1}, release: "1.0", url: "https://h/x", digests: "https://h/y"}`
	if _, err := parseShipped([]byte("[" + good + "]")); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{
		"[" + good + "," + good + "]",
		strings.Replace("["+good+"]", "c: 1", "c: 3", 1),
		strings.Replace("["+good+"]", "1.0", "one", 1),
		strings.Replace("["+good+"]", "https://h/x", "ftp://h/x", 1),
		strings.Replace("["+good+"]", `, digests: "https://h/y"`, "", 1),
		strings.Replace("["+good+"]", "url:", "uri:", 1),
		"nonsense",
	} {
		if _, err := parseShipped([]byte(bad)); err == nil {
			t.Errorf("%s is accepted", bad)
		}
	}
}
