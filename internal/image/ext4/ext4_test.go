package ext4

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
)

// small is a file system that mke2fs made: files, a sparse one, links, a device, a
// directory of several blocks.
func small(t testing.TB) []byte {
	t.Helper()
	f, err := os.Open("testdata/small.img.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestWalk(t *testing.T) {
	// It need not begin where the disk does.
	disk := append(make([]byte, 4096), small(t)...)
	f, err := Open(bytes.NewReader(disk), 4096)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	names := 0
	err = f.Walk(t.Context(), func(path string, n *Node) error {
		if strings.HasPrefix(path, "/dir/sub/name-") {
			names++
			return nil
		}
		line := fmt.Sprintf("%s %o %d", path, n.Mode, n.Size)
		if n.IsDir() {
			line = fmt.Sprintf("%s %o", path, n.Mode)
		}
		if n.Link != "" {
			line += " -> " + n.Link
		}
		if n.Device != 0 {
			line += fmt.Sprintf(" device %#x", n.Device)
		}
		got = append(got, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"/ 40755", "/dir 40755", "/dir/large 100644 5000", "/dir/link 120777 7 -> ../file", "/dir/sparse 100644 20000", "/dir/sub 40755",
		"/file 100640 6", "/longlink 120777 100 -> " + strings.Repeat("a", 100), "/lost+found 40700", "/null 20644 0 device 0x103",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if names != 60 {
		t.Errorf("%d of 60 names", names)
	}
	sparse := make([]byte, 20000)
	copy(sparse[15000:], "tail")
	for path, want := range map[string][]byte{
		"/file": []byte("hello\n"), "/dir/large": bytes.Repeat([]byte("x"), 5000), "/dir/sparse": sparse, "/dir/sub/name-7": {},
	} {
		n, err := f.Lookup(path)
		if err != nil || n == nil {
			t.Errorf("%s: %v, %v", path, n, err)
			continue
		}
		content, err := io.ReadAll(f.Content(n))
		if err != nil || !bytes.Equal(content, want) {
			t.Errorf("%s: %d bytes, %v", path, len(content), err)
		}
	}
	for _, path := range []string{"/no", "/file/no", "/dir/sub/name-99"} {
		if n, err := f.Lookup(path); n != nil || err != nil {
			t.Errorf("%s: %v, %v", path, n, err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	for name, change := range map[string]func(b []byte) []byte{
		"nothing":    func([]byte) []byte { return nil },
		"no magic":   func(b []byte) []byte { b[1024+0x38] = 0; return b },
		"encryption": func(b []byte) []byte { b[1024+0x62] = 1; return b },
		"block size": func(b []byte) []byte { b[1024+0x18] = 40; return b },
		"no groups":  func(b []byte) []byte { copy(b[1024+0x20:], []byte{0, 0, 0, 0}); return b },
		"cut":        func(b []byte) []byte { return b[:2048] },
	} {
		if _, err := Open(bytes.NewReader(change(small(t))), 0); !arm.IsCode(err, arm.CodeCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Whatever the bytes, reading ends, and with an error or files.
func FuzzWalk(f *testing.F) {
	image := small(f)
	f.Add(uint32(0x500), []byte{1})
	f.Add(uint32(0x2000), []byte{0xff, 0xff})
	f.Add(uint32(0x400), []byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		b := bytes.Clone(image)
		copy(b[int(at)%len(b):], patch)
		fs, err := Open(bytes.NewReader(b), 0)
		if err != nil {
			return
		}
		count := 0
		_ = fs.Walk(context.Background(), func(_ string, n *Node) error {
			if n.IsFile() && n.Size < 1<<20 {
				_, _ = io.Copy(io.Discard, fs.Content(n))
			}
			if count++; count > 1000 {
				return io.EOF
			}
			return nil
		})
	})
}
