package format

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"io"
	"math"

	"goldsmith/internal/image/disk"
)

// The VHDX format (Microsoft, [MS-VHDX]).
const (
	vhdxMagic          = "vhdxfile"
	vhdxHeaderAt       = 64 << 10 // the first of two, 64 KiB apart
	vhdxHeaderSize     = 4 << 10
	vhdxRegionsAt      = 192 << 10 // the first of two, 64 KiB apart
	vhdxRegionsSize    = 64 << 10
	vhdxMaxRegions     = 2047
	vhdxMaxItems       = 2047
	vhdxPayloadPresent = 6 // state of a block that the file holds whole
)

// guid is a GUID in its little-endian form.
type guid [16]byte

func vhdxGUID(a uint32, b, c uint16, rest [8]byte) (g guid) {
	binary.LittleEndian.PutUint32(g[0:], a)
	binary.LittleEndian.PutUint16(g[4:], b)
	binary.LittleEndian.PutUint16(g[6:], c)
	copy(g[8:], rest[:])
	return g
}

var (
	vhdxBAT            = vhdxGUID(0x2dc27766, 0xf623, 0x4200, [8]byte{0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08})
	vhdxMetadata       = vhdxGUID(0x8b7ca206, 0x4790, 0x4b9a, [8]byte{0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e})
	vhdxFileParameters = vhdxGUID(0xcaa16737, 0xfa36, 0x4d43, [8]byte{0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b})
	vhdxDiskSize       = vhdxGUID(0x2fa54224, 0xcd1b, 0x4876, [8]byte{0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8})
	vhdxSectorSize     = vhdxGUID(0x8141bf1d, 0xa96f, 0x4709, [8]byte{0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f})
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// vhdxChecked reads a structure of size bytes at off and reports whether its
// signature and checksum are right.
func vhdxChecked(r io.ReaderAt, off int64, size int, signature string) ([]byte, bool) {
	b := make([]byte, size)
	if disk.ReadFull(r, b, off) != nil || string(b[:4]) != signature {
		return nil, false
	}
	want := binary.LittleEndian.Uint32(b[4:])
	clear(b[4:8])
	return b, crc32.Checksum(b, castagnoli) == want
}

func inspectVHDX(ctx context.Context, r io.ReaderAt, fileSize int64) (Info, error) {
	le := binary.LittleEndian
	var header []byte
	for i := range int64(2) { // the valid one with the higher sequence number counts
		b, ok := vhdxChecked(r, vhdxHeaderAt*(i+1), vhdxHeaderSize, "head")
		if ok && (header == nil || le.Uint64(b[8:]) > le.Uint64(header[8:])) {
			header = b
		}
	}
	if header == nil {
		return Info{}, malformed("neither of the VHDX headers is intact: the file is damaged")
	}
	if guid(header[48:64]) != (guid{}) {
		return Info{}, malformed("the VHDX was not closed cleanly and has changes in its log; open it once where it was made, or repair it with qemu-img check -r all")
	}
	regions, ok := vhdxChecked(r, vhdxRegionsAt, vhdxRegionsSize, "regi")
	if !ok {
		if regions, ok = vhdxChecked(r, vhdxRegionsAt+vhdxRegionsSize, vhdxRegionsSize, "regi"); !ok {
			return Info{}, malformed("neither of the VHDX region tables is intact: the file is damaged")
		}
	}
	var bat, metadata disk.Extent
	count := le.Uint32(regions[8:])
	if count > vhdxMaxRegions {
		return Info{}, malformed("%d VHDX regions are more than %d", count, vhdxMaxRegions)
	}
	for i := range count {
		e := regions[16+32*i:]
		offset, length := le.Uint64(e[16:]), int64(le.Uint32(e[24:]))
		if offset > uint64(fileSize) || int64(offset)+length > fileSize {
			return Info{}, malformed("a VHDX region (%d bytes at %d) is outside the file", length, offset)
		}
		region := disk.Extent{Start: int64(offset), Length: length}
		switch guid(e[:16]) {
		case vhdxBAT:
			bat = region
		case vhdxMetadata:
			metadata = region
		default:
			if le.Uint32(e[28:])&1 != 0 {
				return Info{}, malformed("the VHDX needs a region that is not known")
			}
		}
	}
	if bat.Length == 0 || metadata.Length == 0 {
		return Info{}, malformed("the VHDX lacks its block table or its metadata")
	}
	p, err := vhdxParameters(r, metadata)
	if err != nil {
		return Info{}, err
	}
	if err := p.checkBlocks(ctx, r, bat, fileSize); err != nil {
		return Info{}, err
	}
	return Info{Format: VHDX, Size: p.size}, nil
}

// vhdxDisk is what the metadata of a VHDX says.
type vhdxDisk struct {
	size, block, sector int64
}

func vhdxParameters(r io.ReaderAt, metadata disk.Extent) (vhdxDisk, error) {
	le := binary.LittleEndian
	head := make([]byte, 32)
	if metadata.Length < vhdxRegionsSize {
		return vhdxDisk{}, malformed("the VHDX metadata is only %d bytes", metadata.Length)
	}
	if err := disk.ReadFull(r, head, metadata.Start); err != nil || string(head[:8]) != "metadata" {
		return vhdxDisk{}, malformed("the VHDX metadata does not start like metadata: the file is damaged")
	}
	count := int64(le.Uint16(head[10:]))
	if count > vhdxMaxItems {
		return vhdxDisk{}, malformed("%d VHDX metadata items are more than %d", count, vhdxMaxItems)
	}
	table := make([]byte, 32*count)
	if err := disk.ReadFull(r, table, metadata.Start+32); err != nil {
		return vhdxDisk{}, malformed("reading the VHDX metadata: %w", err)
	}
	var d vhdxDisk
	for i := range count {
		e := table[32*i:]
		offset, length := int64(le.Uint32(e[16:])), int64(le.Uint32(e[20:]))
		value := make([]byte, 8)
		kind := guid(e[:16])
		switch kind {
		case vhdxFileParameters, vhdxDiskSize, vhdxSectorSize:
			want := int64(8)
			if kind == vhdxSectorSize {
				want = 4
			}
			if length < want || offset+want > metadata.Length {
				return vhdxDisk{}, malformed("a VHDX metadata item is cut short")
			}
			if err := disk.ReadFull(r, value[:want], metadata.Start+offset); err != nil {
				return vhdxDisk{}, malformed("reading the VHDX metadata: %w", err)
			}
		}
		switch kind {
		case vhdxFileParameters:
			d.block = int64(le.Uint32(value))
			if le.Uint32(value[4:])&2 != 0 {
				return vhdxDisk{}, malformed("it is a differencing VHDX over another file; merge it with its parent first")
			}
		case vhdxDiskSize:
			if size := le.Uint64(value); size <= math.MaxInt64/2 {
				d.size = int64(size)
			}
		case vhdxSectorSize:
			d.sector = int64(le.Uint32(value))
		}
	}
	switch {
	case d.block < 1<<20 || d.block > 256<<20 || d.block&(d.block-1) != 0:
		return vhdxDisk{}, malformed("a VHDX block size of %d bytes is not a power of two between 1 and 256 MiB", d.block)
	case d.sector != 512 && d.sector != 4096:
		return vhdxDisk{}, malformed("VHDX sectors of %d bytes are neither 512 nor 4096", d.sector)
	case d.size == 0 || d.size%d.sector != 0 || d.size > 64<<40:
		return vhdxDisk{}, malformed("%d bytes is not a VHDX disk's size", d.size)
	}
	return d, nil
}

// checkBlocks checks that the block table fits the disk and promises no more
// than the file can hold.
func (d vhdxDisk) checkBlocks(ctx context.Context, r io.ReaderAt, bat disk.Extent, fileSize int64) error {
	blocks := (d.size + d.block - 1) / d.block
	ratio := d.sector << 23 / d.block // payload blocks between two bitmap blocks
	entries := blocks + (blocks-1)/ratio
	if entries*8 > bat.Length {
		return malformed("the VHDX block table has %d bytes, but the disk needs %d", bat.Length, entries*8)
	}
	present := int64(0)
	err := eachEntry(ctx, r, bat.Start, entries, 8, func(i int64, b []byte) error {
		if i%(ratio+1) != ratio && b[0]&7 == vhdxPayloadPresent {
			present++
		}
		return nil
	})
	if err != nil {
		return err
	}
	if present > fileSize/d.block+1 {
		return overbooked(present, d.block, fileSize)
	}
	return nil
}
