package provision

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"
	"testing/fstest"
)

func packed(t *testing.T, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpackHelper(t *testing.T) {
	for name, c := range map[string]struct {
		files fstest.MapFS
		want  string
		fails string
	}{
		"there":     {fstest.MapFS{helperFile: {Data: packed(t, "\x7fELF program")}}, "\x7fELF program", ""},
		"missing":   {fstest.MapFS{"bin/README": {}}, "", "built without the guest helper"},
		"no gzip":   {fstest.MapFS{helperFile: {Data: []byte("x")}}, "", "damaged"},
		"cut short": {fstest.MapFS{helperFile: {Data: packed(t, "\x7fELF program")[:20]}}, "", "damaged"},
		"no ELF":    {fstest.MapFS{helperFile: {Data: packed(t, "text")}}, "", "damaged"},
	} {
		got, err := unpackHelper(c.files)
		if string(got) != c.want || (err == nil) != (c.fails == "") || err != nil && !strings.Contains(err.Error(), c.fails) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

// The seed's name follows the helper that is in it, and takes nothing but that there is one.
func TestSeedDigest(t *testing.T) {
	digest := func(content string) string {
		t.Helper()
		d, err := seedDigest(fstest.MapFS{helperFile: {Data: []byte(content)}})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if a, again, b := digest("one"), digest("one"), digest("two"); a != again || a == b || len(a) != 64 {
		t.Errorf("helpers one, one and two: %s, %s, %s", a, again, b)
	}
	if _, err := seedDigest(fstest.MapFS{}); err == nil || !strings.Contains(err.Error(), "built without the guest helper") {
		t.Errorf("without a helper: %v", err)
	}
}
