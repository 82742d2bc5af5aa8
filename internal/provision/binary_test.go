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
