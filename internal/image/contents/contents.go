// Package contents compares what two disk images hold: the packages that are
// installed, and every file by its metadata and content.
package contents

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/image"
	"goldsmith/internal/image/disk"
	"goldsmith/internal/image/ext4"
	"goldsmith/internal/image/structure"
)

// Report says how image B differs from image A.
type Report struct {
	Packages []PackageChange `json:"packages"`
	Files    []FileChange    `json:"files"`
	Ignored  int             `json:"ignored"` // files that differ and are not looked at
	SizeA    int64           `json:"sizeA"`   // bytes of the files of A
	SizeB    int64           `json:"sizeB"`
	FilesA   int             `json:"filesA"`
	FilesB   int             `json:"filesB"`
	// NotRead are the file systems that could not be compared, for people.
	NotRead []string `json:"notRead,omitempty"`
}

// Equal reports that nothing differs that was looked at.
func (r *Report) Equal() bool {
	return len(r.Packages) == 0 && len(r.Files) == 0 && len(r.NotRead) == 0
}

// PackageChange is a package that was added (A is ""), removed (B is "") or has
// another version.
type PackageChange struct {
	Name string `json:"name"`
	A    string `json:"a,omitempty"`
	B    string `json:"b,omitempty"`
}

// FileChange is a file that was added or removed, or what of it changed.
type FileChange struct {
	Path string `json:"path"`
	What string `json:"what"` // "added", "removed", or "content", "mode", "owner", "type", "target", separated by ", "
}

// tree is the files of one image by path.
type tree struct {
	image  *image.Image
	fs     map[string]*ext4.FS // by the prefix of paths
	files  map[string]*file    // by path
	broken []string
}

type file struct {
	fs   *ext4.FS
	node *ext4.Node
}

// Compare compares two images. ignore says of which paths a difference does not
// matter; nil is none.
func Compare(ctx context.Context, a, b *image.Image, ignore func(path string) bool) (*Report, error) {
	ta, err := read(ctx, a)
	if err != nil {
		return nil, err
	}
	tb, err := read(ctx, b)
	if err != nil {
		return nil, err
	}
	r := &Report{NotRead: ta.broken, FilesA: len(ta.files), FilesB: len(tb.files), SizeA: ta.size(), SizeB: tb.size()}
	for _, what := range tb.broken {
		if !slices.Contains(r.NotRead, what) {
			r.NotRead = append(r.NotRead, what)
		}
	}
	note := func(path, what string) {
		if ignore != nil && ignore(path) {
			r.Ignored++
			return
		}
		r.Files = append(r.Files, FileChange{path, what})
	}
	for path, fa := range ta.files {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		fb, ok := tb.files[path]
		if !ok {
			note(path, "removed")
			continue
		}
		what, err := compare(ctx, a, b, fa, fb)
		if err != nil {
			return nil, fmt.Errorf("compare %s: %w", path, err)
		}
		if what != "" {
			note(path, what)
		}
	}
	for path := range tb.files {
		if _, ok := ta.files[path]; !ok {
			note(path, "added")
		}
	}
	slices.SortFunc(r.Files, func(x, y FileChange) int { return strings.Compare(x.Path, y.Path) })
	pa, err := ta.packages()
	if err != nil {
		return nil, err
	}
	pb, err := tb.packages()
	if err != nil {
		return nil, err
	}
	r.Packages = comparePackages(pa, pb)
	return r, nil
}

// read lists the files of an image's ext4 file systems. That with /etc is the
// root; paths of others begin with their partition's number.
func read(ctx context.Context, m *image.Image) (*tree, error) {
	report, err := structure.Check(ctx, m, "")
	if err != nil {
		return nil, fmt.Errorf("read the partitions: %w", err)
	}
	t := &tree{image: m, fs: map[string]*ext4.FS{}, files: map[string]*file{}}
	for _, p := range report.Partitions {
		if !strings.HasPrefix(p.FileSystem, "ext") {
			continue
		}
		fs, err := ext4.Open(m, p.Range.Start)
		if err != nil {
			t.broken = append(t.broken, fmt.Sprintf("partition %d: %v", p.Number, err))
			continue
		}
		prefix := fmt.Sprintf("partition %d:", p.Number)
		if etc, err := fs.Lookup("/etc"); err == nil && etc != nil {
			prefix = ""
		}
		t.fs[prefix] = fs
		err = fs.Walk(ctx, func(path string, n *ext4.Node) error {
			t.files[prefix+path] = &file{fs, n}
			return nil
		})
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		if err != nil {
			t.broken = append(t.broken, fmt.Sprintf("partition %d: %v", p.Number, err))
		}
	}
	if len(t.fs) == 0 && len(t.broken) == 0 {
		return nil, arm.Errorf(arm.CodeNotSupported, "image %.12s has no ext4 file system: no other kind is compared", m.Digest())
	}
	return t, nil
}

func (t *tree) size() (bytes int64) {
	for _, f := range t.files {
		if f.node.IsFile() {
			bytes += f.node.Size
		}
	}
	return bytes
}

// compare says what of a file is different, "" for nothing. Times are not
// compared: they say when, not what.
func compare(ctx context.Context, a, b *image.Image, fa, fb *file) (string, error) {
	x, y := fa.node, fb.node
	if x.Mode&0xf000 != y.Mode&0xf000 {
		return "type", nil
	}
	var what []string
	if x.Perm() != y.Perm() {
		what = append(what, "mode")
	}
	if x.UID != y.UID || x.GID != y.GID {
		what = append(what, "owner")
	}
	if x.Device != y.Device || x.Link != y.Link {
		what = append(what, "target")
	}
	if x.IsFile() {
		same := x.Size == y.Size
		if same && !unmoved(a, b, x, y) {
			var err error
			if same, err = equal(ctx, fa, fb); err != nil {
				return "", err
			}
		}
		if !same {
			what = append(what, "content")
		}
	}
	return strings.Join(what, ", "), nil
}

// unmoved reports that both files lie at the same place in the same chunks.
func unmoved(a, b *image.Image, x, y *ext4.Node) bool {
	if !slices.Equal(x.Data, y.Data) || !slices.Equal(x.Logical, y.Logical) {
		return false
	}
	for _, e := range x.Data {
		if !a.Same(b, e.Start, e.Length) {
			return false
		}
	}
	return true
}

// equal compares the bytes of two files of one size. Where neither has data, both
// read as zeros: such holes can be far larger than a disk.
func equal(ctx context.Context, a, b *file) (bool, error) {
	x, y := a.fs.Content(a.node), b.fs.Content(b.node)
	bufferX, bufferY := make([]byte, 1<<20), make([]byte, 1<<20)
	for _, e := range disk.Union(append(logical(a.node), logical(b.node)...)) {
		for at, end := e.Start, min(e.Start+e.Length, a.node.Size); at < end; at += int64(len(bufferX)) {
			if err := context.Cause(ctx); err != nil {
				return false, err
			}
			n := min(end-at, int64(len(bufferX)))
			if _, err := x.ReadAt(bufferX[:n], at); err != nil && err != io.EOF {
				return false, err
			}
			if _, err := y.ReadAt(bufferY[:n], at); err != nil && err != io.EOF {
				return false, err
			}
			if !bytes.Equal(bufferX[:n], bufferY[:n]) {
				return false, nil
			}
		}
	}
	return true, nil
}

// logical are the parts of a file that have data.
func logical(n *ext4.Node) (parts []disk.Extent) {
	for i, e := range n.Data {
		parts = append(parts, disk.Extent{Start: n.Logical[i], Length: e.Length})
	}
	return parts
}

func comparePackages(a, b map[string]string) []PackageChange {
	var out []PackageChange
	for name, version := range a {
		if b[name] != version {
			out = append(out, PackageChange{name, version, b[name]})
		}
	}
	for name, version := range b {
		if _, ok := a[name]; !ok {
			out = append(out, PackageChange{name, "", version})
		}
	}
	slices.SortFunc(out, func(x, y PackageChange) int { return cmp.Compare(x.Name, y.Name) })
	return out
}
