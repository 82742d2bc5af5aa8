package contents

import (
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"testing"

	"goldsmith/internal/image/ext4"
)

// Files are compared by their bytes wherever these lie, and a hole costs nothing
// however large it is.
func TestEqual(t *testing.T) {
	f, err := os.Open("../ext4/testdata/small.img.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	// The file holds "tail" behind a hole of 15000 bytes.
	open := func(disk []byte, start int64, size int64) *file {
		fs, err := ext4.Open(bytes.NewReader(disk), start)
		if err != nil {
			t.Fatal(err)
		}
		n, err := fs.Lookup("/dir/sparse")
		if err != nil || n == nil {
			t.Fatal(n, err)
		}
		n.Size = size
		return &file{fs, n}
	}
	changed := bytes.Replace(whole, []byte("tail"), []byte("tale"), 1)
	moved := append(make([]byte, 4096), whole...)
	for name, c := range map[string]struct {
		a, b *file
		want bool
	}{
		"the same":      {open(whole, 0, 20000), open(whole, 0, 20000), true},
		"moved":         {open(whole, 0, 20000), open(moved, 4096, 20000), true},
		"changed":       {open(whole, 0, 20000), open(changed, 0, 20000), false},
		"before that":   {open(whole, 0, 15000), open(changed, 0, 15000), true},
		"a hole of TiB": {open(whole, 0, 1<<44), open(moved, 4096, 1<<44), true},
	} {
		if got, err := equal(t.Context(), c.a, c.b); err != nil || got != c.want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
