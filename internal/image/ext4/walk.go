package ext4

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
)

// maxDepth and maxDir bound what a directory tree may ask of memory: its depth,
// and the bytes of one directory.
const (
	maxDepth = 256
	maxDir   = 256 << 20
)

// Walk calls visit for every file below the root, the root ("/") included, in the
// order of their paths. A file with several names is visited under each.
func (f *FS) Walk(ctx context.Context, visit func(path string, n *Node) error) error {
	root, err := f.node(rootInode)
	if err != nil {
		return err
	}
	if !root.IsDir() {
		return bad("its root is no directory")
	}
	return f.walk(ctx, "/", root, 0, map[uint32]bool{}, visit)
}

// walk visits n at p, depth directories below the root. seen has the inodes of the
// directories that were visited: each has one name.
func (f *FS) walk(ctx context.Context, p string, n *Node, depth int, seen map[uint32]bool, visit func(string, *Node) error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := f.spend(2 + (len(p)+len(n.Link))/64); err != nil {
		return err
	}
	if err := visit(p, n); err != nil || !n.IsDir() {
		return err
	}
	if seen[n.Number] {
		return bad("the directory %s is also elsewhere, or contains itself", p)
	}
	if depth == maxDepth {
		return bad("%d directories lead to %s", depth, p)
	}
	seen[n.Number] = true
	entries, err := f.entries(n)
	if err != nil {
		return fmt.Errorf("%s: %w", p, err)
	}
	for _, e := range entries {
		child, err := f.node(e.inode)
		if err != nil {
			return fmt.Errorf("%s: %w", path.Join(p, e.name), err)
		}
		if err := f.walk(ctx, path.Join(p, e.name), child, depth+1, seen, visit); err != nil {
			return err
		}
	}
	return nil
}

// entry is one name in a directory.
type entry struct {
	name  string
	inode uint32
}

// entries lists a directory by name. Indexed directories keep their index in what
// looks like unused entries.
func (f *FS) entries(n *Node) ([]entry, error) {
	if n.Size > maxDir {
		return nil, bad("a directory has %d bytes", n.Size)
	}
	if err := f.spend(int(n.Size / 256)); err != nil {
		return nil, err
	}
	b := make([]byte, n.Size)
	if _, err := f.Content(n).ReadAt(b, 0); err != nil && n.Size > 0 {
		return nil, err
	}
	var all []entry
	for at := int64(0); at < n.Size; {
		block := b[at:min(at+f.block, n.Size)]
		at += f.block
		for len(block) >= 8 {
			inode, length, name := le.Uint32(block), int(le.Uint16(block[4:])), int(block[6])
			if length == 0 && f.block == 65536 {
				length = 65536
			}
			if length < 8 || length > len(block) || 8+name > length {
				return nil, bad("a directory entry does not fit its block")
			}
			text := string(block[8 : 8+name])
			if inode != 0 && name > 0 && text != "." && text != ".." {
				if strings.ContainsAny(text, "/\x00") {
					return nil, bad("a directory has an entry of the name %q", text)
				}
				all = append(all, entry{text, inode})
			}
			block = block[length:]
		}
	}
	slices.SortFunc(all, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

// Lookup is the file at an absolute path, nil when there is none. Symbolic links
// are not followed.
func (f *FS) Lookup(p string) (*Node, error) {
	n, err := f.node(rootInode)
	for _, name := range strings.FieldsFunc(p, func(r rune) bool { return r == '/' }) {
		if err != nil || !n.IsDir() {
			return nil, err
		}
		entries, lerr := f.entries(n)
		if lerr != nil {
			return nil, lerr
		}
		i, ok := slices.BinarySearchFunc(entries, name, func(e entry, name string) int { return strings.Compare(e.name, name) })
		if !ok {
			return nil, nil
		}
		n, err = f.node(entries[i].inode)
	}
	return n, err
}
