package ext4

import (
	"fmt"
	"io"
	"io/fs"
	"slices"

	"goldsmith/internal/image/disk"
)

// Types of files, as in the upper bits of a mode.
const (
	typeMask = 0xf000
	typeDir  = 0x4000
	typeFile = 0x8000
	typeLink = 0xa000
)

// maxLink is how long the target of a symbolic link may be: PATH_MAX.
const maxLink = 4096

// Flags of inodes.
const (
	flagExtents = 0x80000
	flagInline  = 0x10000000
)

// Node is one file, directory or special file.
type Node struct {
	Number   uint32
	Mode     uint16 // type and permissions, as stat has them
	UID, GID uint32
	Size     int64
	MTime    int64         // seconds since 1970
	Device   uint32        // of device files
	Link     string        // target of a symbolic link
	Data     []disk.Extent // where the content lies on the disk, in order; nil for what has none
	Logical  []int64       // the offset in the file of each of Data
}

// IsDir reports a directory.
func (n *Node) IsDir() bool { return n.Mode&typeMask == typeDir }

// IsFile reports a regular file.
func (n *Node) IsFile() bool { return n.Mode&typeMask == typeFile }

// IsLink reports a symbolic link.
func (n *Node) IsLink() bool { return n.Mode&typeMask == typeLink }

// Perm are n's permission bits.
func (n *Node) Perm() fs.FileMode { return fs.FileMode(n.Mode & 0o7777) }

// node reads inode number.
func (f *FS) node(number uint32) (*Node, error) {
	if number == 0 || number > f.inodes {
		return nil, bad("it refers to inode %d of %d", number, f.inodes)
	}
	group, index := (number-1)/f.perGroup, (number-1)%f.perGroup
	if int(group) >= len(f.tables) {
		return nil, bad("inode %d is in a group that is not there", number)
	}
	b := make([]byte, f.inodeSize)
	if err := f.read(b, f.tables[group]*f.block+int64(index)*f.inodeSize); err != nil {
		return nil, fmt.Errorf("inode %d: %w", number, err)
	}
	n := &Node{
		Number: number,
		Mode:   le.Uint16(b[0:]),
		UID:    uint32(le.Uint16(b[2:])) | uint32(le.Uint16(b[0x78:]))<<16,
		GID:    uint32(le.Uint16(b[0x18:])) | uint32(le.Uint16(b[0x7a:]))<<16,
		Size:   int64(le.Uint32(b[4:])) | int64(le.Uint32(b[0x6c:]))<<32,
		MTime:  int64(int32(le.Uint32(b[0x10:]))),
	}
	flags, place := le.Uint32(b[0x20:]), b[0x28:0x28+60]
	switch {
	case n.Size < 0 || n.Size > 1<<44:
		return nil, bad("inode %d has a size that is not possible", number)
	case flags&flagInline != 0:
		return nil, bad("inode %d holds its data itself, which this program does not read", number)
	case n.IsLink() && n.Size < 60 && flags&flagExtents == 0:
		n.Link = string(place[:n.Size])
		return n, nil
	case !n.IsDir() && !n.IsFile() && !n.IsLink():
		n.Device = le.Uint32(place) | le.Uint32(place[4:])
		n.Size = 0
		return n, nil
	case n.Size == 0:
		return n, nil
	case flags&flagExtents == 0:
		return nil, bad("inode %d has a block map of ext3, which this program does not read", number)
	}
	if err := f.extents(n, place, 5); err != nil {
		return nil, fmt.Errorf("inode %d: %w", number, err)
	}
	if n.IsLink() {
		if n.Size > maxLink {
			return nil, bad("inode %d is a link of %d bytes", number, n.Size)
		}
		target := make([]byte, n.Size)
		if _, err := f.Content(n).ReadAt(target, 0); err != nil && err != io.EOF {
			return nil, err
		}
		n.Link = string(target)
	}
	return n, nil
}

// extents reads the tree of extents whose node is b. depth bounds its height, and
// the work that is left its width: its nodes could be the same block.
func (f *FS) extents(n *Node, b []byte, depth int) error {
	if len(b) < 12 || le.Uint16(b) != 0xf30a {
		return bad("its extents have no header")
	}
	entries, level := int(le.Uint16(b[2:])), le.Uint16(b[6:])
	if 12+entries*12 > len(b) || depth == 0 {
		return bad("its extents do not fit")
	}
	if err := f.spend(1 + entries); err != nil {
		return err
	}
	for i := range entries {
		e := b[12+i*12:]
		if level > 0 {
			if err := f.spend(8); err != nil {
				return err
			}
			child := make([]byte, f.block)
			at := int64(le.Uint32(e[4:])) | int64(le.Uint16(e[8:]))<<32
			if at > f.size/f.block {
				return bad("its extents lie outside")
			}
			if err := f.read(child, at*f.block); err != nil {
				return err
			}
			if le.Uint16(child[6:]) >= level {
				return bad("its extents form a loop")
			}
			if err := f.extents(n, child, depth-1); err != nil {
				return err
			}
			continue
		}
		length := int64(le.Uint16(e[4:]))
		if length > 32768 {
			continue // allocated, never written: zeros
		}
		block := int64(le.Uint32(e[8:])) | int64(le.Uint16(e[6:]))<<32
		if length == 0 || block > f.size/f.block-length {
			return bad("an extent lies outside")
		}
		logical := int64(le.Uint32(e)) * f.block
		if k := len(n.Logical); k > 0 && logical < n.Logical[k-1]+n.Data[k-1].Length {
			return bad("its extents overlap")
		}
		n.Data = append(n.Data, disk.Extent{Start: f.start + block*f.block, Length: length * f.block})
		n.Logical = append(n.Logical, logical)
	}
	return nil
}

// Content reads the content of a file.
func (f *FS) Content(n *Node) *io.SectionReader {
	return io.NewSectionReader(content{f, n}, 0, n.Size)
}

// content is a file's bytes with its holes.
type content struct {
	fs *FS
	n  *Node
}

// ReadAt implements io.ReaderAt.
func (c content) ReadAt(p []byte, off int64) (int, error) {
	if off >= c.n.Size {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), c.n.Size-off)]
	clear(p)
	i, _ := slices.BinarySearch(c.n.Logical, off+1)
	for i = max(i-1, 0); i < len(c.n.Data); i++ {
		first, length := c.n.Logical[i], c.n.Data[i].Length
		if first >= off+int64(len(p)) {
			break
		}
		from, to := max(first, off), min(first+length, off+int64(len(p)))
		if from >= to {
			continue
		}
		if err := readAt(c.fs.disk, p[from-off:to-off], c.n.Data[i].Start+from-first); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}
