// Package ext4 reads ext4 file systems of unknown origin without mounting them:
// every directory entry, the metadata of files and where their data lies. It
// trusts nothing it reads: all numbers are checked against the file system's size
// before they are used, and what one file system may cost is bounded.
//
// The layout is that of the kernel's Documentation/filesystems/ext4.
package ext4

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"goldsmith/internal/arm"
)

// magic is the superblock's.
const magic = 0xEF53

// Incompatible features that a reader must know.
const (
	featureFileType = 0x2
	featureRecover  = 0x4
	featureExtents  = 0x40
	feature64Bit    = 0x80
	featureFlexBG   = 0x200
	featureInline   = 0x8000
	featureCsumSeed = 0x2000
	featureLargeDir = 0x4000
	understood      = featureFileType | featureRecover | featureExtents | feature64Bit | featureFlexBG | featureCsumSeed | featureLargeDir
)

// maxWork bounds what reading one file system may cost, in units of about 100 bytes
// of memory and a few microseconds: some five million files.
const maxWork = 1 << 24

// rootInode is the number of the root directory.
const rootInode = 2

var le = binary.LittleEndian

// FS is an ext4 file system that lies in a disk. One goroutine may walk it at a
// time; the content of files may be read by several.
type FS struct {
	disk      io.ReaderAt
	start     int64 // of the file system in the disk, in bytes
	size      int64 // in bytes
	block     int64 // bytes
	inodes    uint32
	perGroup  uint32 // inodes
	inodeSize int64
	tables    []int64 // first block of each group's inode table
	work      int64   // what is left of maxWork
}

// Open opens the file system at start of a disk.
func Open(disk io.ReaderAt, start int64) (*FS, error) {
	b := make([]byte, 1024)
	if err := readAt(disk, b, start+1024); err != nil {
		return nil, fmt.Errorf("read the superblock: %w", err)
	}
	if le.Uint16(b[0x38:]) != magic {
		return nil, bad("it has no ext4 superblock")
	}
	incompatible := le.Uint32(b[0x60:])
	if unknown := incompatible &^ understood; unknown != 0 {
		return nil, bad("it has features (%#x) that this program does not read", unknown)
	}
	shift := le.Uint32(b[0x18:])
	if shift > 6 {
		return nil, bad("its block size is not possible")
	}
	f := &FS{disk: disk, start: start, block: 1024 << shift, inodes: le.Uint32(b[0x00:]), perGroup: le.Uint32(b[0x28:]), inodeSize: int64(le.Uint16(b[0x58:])), work: maxWork}
	if le.Uint32(b[0x4c:]) == 0 {
		f.inodeSize = 128
	}
	blocks := int64(le.Uint32(b[0x04:]))
	descriptor := int64(32)
	if incompatible&feature64Bit != 0 {
		blocks |= int64(le.Uint32(b[0x150:])) << 32
		if descriptor = int64(le.Uint16(b[0xfe:])); descriptor < 32 || descriptor > 1024 {
			return nil, bad("its group descriptors have %d bytes", descriptor)
		}
	}
	groupBlocks := int64(le.Uint32(b[0x20:]))
	first := int64(le.Uint32(b[0x14:]))
	if blocks <= 0 || blocks > 1<<40 || groupBlocks == 0 || f.perGroup == 0 || f.inodeSize < 128 || f.inodeSize > f.block || first > 1 {
		return nil, bad("its superblock's numbers are not possible")
	}
	f.size = blocks * f.block
	groups := (blocks - first + groupBlocks - 1) / groupBlocks
	if groups > 1<<20 || uint64(groups)*uint64(f.perGroup) < uint64(f.inodes) {
		return nil, bad("its superblock's numbers do not fit together")
	}
	if err := f.readTables((first+1)*f.block, groups, descriptor); err != nil {
		return nil, fmt.Errorf("read the group descriptors: %w", err)
	}
	return f, nil
}

// readTables reads from the descriptors of all groups, which lie at off, where their
// inodes are; in pieces, because a superblock can claim any number of them.
func (f *FS) readTables(off, groups, descriptor int64) error {
	const atOnce = 256
	piece := make([]byte, atOnce*descriptor)
	for i := int64(0); i < groups; i += atOnce {
		n := min(atOnce, groups-i)
		if err := f.read(piece[:n*descriptor], off+i*descriptor); err != nil {
			return err
		}
		for k := range n {
			d := piece[k*descriptor:]
			at := int64(le.Uint32(d[8:]))
			if descriptor >= 64 {
				at |= int64(le.Uint32(d[0x28:])) << 32
			}
			if at < 0 || at >= f.size/f.block {
				return bad("the inodes of group %d lie outside", i+k)
			}
			f.tables = append(f.tables, at)
		}
	}
	return nil
}

// spend takes from what the file system may cost.
func (f *FS) spend(units int) error {
	if f.work -= int64(units); f.work < 0 {
		return bad("it has more files and pieces of files than this program reads")
	}
	return nil
}

// bad is the error of a file system that does not hold together.
func bad(format string, args ...any) error {
	return arm.Errorf(arm.CodeCorrupt, "the ext4 file system cannot be read: "+format, args...)
}

// read reads at an offset of the file system.
func (f *FS) read(p []byte, off int64) error {
	if off < 0 || off > f.size-int64(len(p)) {
		return bad("it refers to byte %d of %d", off, f.size)
	}
	return readAt(f.disk, p, f.start+off)
}

func readAt(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if errors.Is(err, io.EOF) || err == nil {
		return bad("the disk ends before it does")
	}
	return err
}
