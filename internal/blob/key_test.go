package blob

import (
	"path"
	"strings"
	"testing"
)

func FuzzKey(f *testing.F) {
	for _, seed := range []string{"a", "a/b", "a~/=b", "x.attrs", "fileblob1", "__0x2f__", strings.Repeat("é/", 200) + "z", strings.Repeat("%", 400)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, blob string) {
		if (Name{"account", "vhds", blob}).Check() != nil {
			return
		}
		key := encodeKey(blob)
		if path.Clean("/"+key) != "/"+key {
			t.Fatalf("%q has the key %q", blob, key)
		}
		segments := strings.Split(key, "/")
		for i, s := range segments {
			if len(s) > 200 || s == "" || strings.ContainsAny(s, "\x00\\") || strings.Contains(s, "__0x") {
				t.Fatalf("%q has the key %q", blob, key)
			}
			directory := strings.HasSuffix(s, "~") || strings.HasSuffix(s, "=")
			if last := i == len(segments)-1; last == directory || last && (strings.HasPrefix(s, tempPrefix) || strings.HasSuffix(s, attrsExt)) {
				t.Fatalf("%q has the key %q", blob, key)
			}
		}
		if got, ok := decodeKey(key); !ok || got != blob {
			t.Fatalf("%q became %q, and that %q", blob, key, got)
		}
	})
}
