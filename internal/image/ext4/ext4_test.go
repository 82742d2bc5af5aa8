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

// inodeAt is where an inode of a file system that begins at 0 lies.
func (f *FS) inodeAt(number uint32) int64 {
	return f.tables[(number-1)/f.perGroup]*f.block + int64((number-1)%f.perGroup)*f.inodeSize
}

// What a file system says of itself can ask for more than any disk holds.
func TestHostileNumbers(t *testing.T) {
	number := func(path string) uint32 {
		f, err := Open(bytes.NewReader(small(t)), 0)
		if err != nil {
			t.Fatal(err)
		}
		n, err := f.Lookup(path)
		if err != nil || n == nil {
			t.Fatalf("%s: %v, %v", path, n, err)
		}
		return n.Number
	}
	const blockMap = 0x28 // of an inode: the root of its extents
	header := func(entries, level uint16) []byte {
		b := le.AppendUint16(nil, 0xf30a)
		b = le.AppendUint16(b, entries)
		b = le.AppendUint16(b, entries)
		b = le.AppendUint16(b, level)
		return le.AppendUint32(b, 0)
	}
	for name, tc := range map[string]struct {
		change func(f *FS, b []byte)
		want   string
	}{
		"a directory in two places": {func(_ *FS, b []byte) {
			// The entry of /file names the inode of /dir.
			at := bytes.Index(b, append([]byte{4, 1}, "file"...)) - 6
			le.PutUint32(b[at:], number("/dir"))
		}, "is also elsewhere"},
		"a directory in itself": {func(_ *FS, b []byte) {
			at := bytes.Index(b, append([]byte{3, 2}, "sub"...)) - 6
			le.PutUint32(b[at:], number("/dir"))
		}, "is also elsewhere"},
		"extents that share their tree": {func(f *FS, b []byte) {
			// Four levels, each of which names one block of the next in all its entries:
			// 4*84*84*84*84 ways to the bottom, where there is nothing.
			large := f.inodeAt(number("/dir/large"))
			free := int64(len(b)) - 4*f.block
			index := func(to int64, entries int, level uint16, child int64) {
				copy(b[to:], header(uint16(entries), level))
				for i := range entries {
					e := b[to+12+int64(i)*12:]
					le.PutUint32(e[4:], uint32(child/f.block))
					le.PutUint16(e[8:], 0)
				}
			}
			index(large+blockMap, 4, 4, free)
			for i := range int64(3) {
				index(free+i*f.block, int(f.block-12)/12, uint16(3-i), free+(i+1)*f.block)
			}
			copy(b[free+3*f.block:], header(0, 0))
		}, "more files and pieces"},
		"an extent beyond what a number holds": {func(f *FS, b []byte) {
			e := b[f.inodeAt(number("/dir/large"))+blockMap+12:]
			le.PutUint16(e[6:], 0xffff)
		}, "lies outside"},
		"groups without end": {func(_ *FS, b []byte) {
			le.PutUint32(b[1024+0x04:], 0xffffffff)
			le.PutUint32(b[1024+0x20:], 8192)
		}, "lie outside"},
		"a link of gigabytes": {func(f *FS, b []byte) {
			le.PutUint32(b[f.inodeAt(number("/longlink"))+4:], 1<<30)
		}, "is a link of"},
	} {
		t.Run(name, func(t *testing.T) {
			b := small(t)
			f, err := Open(bytes.NewReader(b), 0)
			if err != nil {
				t.Fatal(err)
			}
			tc.change(f, b)
			if f, err = Open(bytes.NewReader(b), 0); err == nil {
				f.work = 1 << 18 // to see the end of it soon
				err = f.Walk(t.Context(), func(string, *Node) error { return nil })
			}
			if !arm.IsCode(err, arm.CodeCorrupt) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

// Whatever the bytes, reading ends, and with an error or files.
func FuzzWalk(f *testing.F) {
	image := small(f)
	f.Add(uint32(0x500), []byte{1}, uint32(0), []byte{})
	f.Add(uint32(0x2000), []byte{0xff, 0xff}, uint32(0x400), []byte{1})
	f.Add(uint32(0x400), []byte{0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}, uint32(0x428), []byte{0xff})
	f.Fuzz(func(t *testing.T, at uint32, patch []byte, alsoAt uint32, also []byte) {
		b := bytes.Clone(image)
		copy(b[int(at)%len(b):], patch)
		copy(b[int(alsoAt)%len(b):], also)
		fs, err := Open(bytes.NewReader(b), 0)
		if err != nil {
			return
		}
		fs.work = 1 << 16 // a run of the fuzzer is to be short
		err = fs.Walk(context.Background(), func(_ string, n *Node) error {
			for i, e := range n.Data {
				if e.Start < fs.start || e.Length <= 0 || e.Start+e.Length > fs.start+fs.size || n.Logical[i] < 0 {
					t.Errorf("inode %d has data at %+v of %d bytes", n.Number, e, fs.size)
				}
			}
			if n.IsFile() && n.Size < 1<<16 {
				if _, err := io.Copy(io.Discard, fs.Content(n)); err != nil && !arm.IsCode(err, arm.CodeCorrupt) {
					t.Errorf("inode %d: %v", n.Number, err)
				}
			}
			return nil
		})
		if err != nil && !arm.IsCode(err, arm.CodeCorrupt) {
			t.Errorf("an error of no kind: %v", err)
		}
		for _, path := range []string{"/dir/large", "/etc"} {
			if _, err := fs.Lookup(path); err != nil && !arm.IsCode(err, arm.CodeCorrupt) {
				t.Errorf("an error of no kind: %v", err)
			}
		}
	})
}
