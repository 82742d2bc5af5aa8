package disk

import (
	"bytes"
	"context"
	"io"
)

// memoryBlock is the granularity at which a Memory disk reports its zeros.
const memoryBlock = 4096

// Memory is a disk held in memory, for small disks that are made rather than
// read: seeds, tests, fakes.
type Memory []byte

var _ Reader = Memory(nil)

// Size is the length of the memory; it should be a multiple of SectorSize.
func (m Memory) Size() int64 { return int64(len(m)) }

// ReadAt implements io.ReaderAt.
func (m Memory) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m).ReadAt(p, off)
}

// WriteAt implements io.WriterAt within the memory.
func (m Memory) WriteAt(p []byte, off int64) (int, error) {
	if off < 0 || off+int64(len(p)) > int64(len(m)) {
		return 0, io.ErrShortWrite
	}
	return copy(m[off:], p), nil
}

// Extents are the 4 KiB blocks that hold anything but zeros, joined.
func (m Memory) Extents(context.Context) ([]Extent, error) {
	var extents []Extent
	for off := 0; off < len(m); off += memoryBlock {
		block := m[off:min(off+memoryBlock, len(m))]
		if !IsZero(block) {
			extents = append(extents, Extent{Start: int64(off), Length: int64(len(block))})
		}
	}
	return Union(extents), nil
}
