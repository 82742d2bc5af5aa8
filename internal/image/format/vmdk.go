package format

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"math"
	"strings"

	"goldsmith/internal/image/disk"
)

// The VMDK sparse extent ("VMware Virtual Disk Format 5.0"). Only a file that
// is complete in itself is accepted.
const (
	vmdkMagic         = "KDMV"
	vmdkHeaderSize    = 512
	vmdkDescriptor    = 512       // where a tool looks for the descriptor, whatever the header says
	vmdkDescriptorMax = 20 * 512  // and how much of it
	vmdkMaxDescriptor = 128 << 10 // largest that is read
	vmdkFlagCompress  = 1 << 16
	vmdkFooterBack    = 1024 // the footer's distance from the end of the file
	vmdkMaxInflation  = 1100
	vmdkMaxTable      = 512 // entries of a grain table
	vmdkMaxDirectory  = 64 << 20
)

type vmdkHeader struct {
	flags, tableEntries                uint32
	capacity, grain                    uint64 // in sectors
	descriptor, descriptorSize, grain0 uint64 // in sectors; grain0: the grain directory
}

func parseVMDKHeader(b []byte) vmdkHeader {
	le := binary.LittleEndian
	return vmdkHeader{
		flags: le.Uint32(b[8:]), capacity: le.Uint64(b[12:]), grain: le.Uint64(b[20:]),
		descriptor: le.Uint64(b[28:]), descriptorSize: le.Uint64(b[36:]),
		tableEntries: le.Uint32(b[44:]), grain0: le.Uint64(b[56:]),
	}
}

func inspectVMDK(ctx context.Context, r io.ReaderAt, fileSize int64) (Info, error) {
	b := make([]byte, vmdkHeaderSize)
	if err := disk.ReadFull(r, b, 0); err != nil {
		return Info{}, malformed("reading the VMDK header: %w", err)
	}
	h := parseVMDKHeader(b)
	// A capacity of 0 makes tools read the descriptor as one that names files.
	if h.capacity == 0 || h.capacity > math.MaxInt64/1024 {
		return Info{}, malformed("%d sectors is not a VMDK's size", h.capacity)
	}
	if h.grain < 1 || h.grain > 1<<16 || h.grain&(h.grain-1) != 0 {
		return Info{}, malformed("VMDK grains of %d sectors are not a power of two up to 32 MiB", h.grain)
	}
	if h.tableEntries < 1 || h.tableEntries > vmdkMaxTable {
		return Info{}, malformed("VMDK grain tables of %d entries are not known", h.tableEntries)
	}
	detail, err := checkVMDKDescriptor(r, h, fileSize)
	if err != nil {
		return Info{}, err
	}
	if h.grain0 == math.MaxUint64 { // the directory is told by a footer
		if fileSize < vmdkFooterBack+vmdkHeaderSize {
			return Info{}, malformed("the VMDK's footer is missing: the file is cut short")
		}
		if err := disk.ReadFull(r, b, fileSize-vmdkFooterBack); err != nil || string(b[:4]) != vmdkMagic {
			return Info{}, malformed("the VMDK's footer is missing: the file is cut short")
		}
		footer := parseVMDKHeader(b)
		if footer.capacity != h.capacity || footer.grain != h.grain || footer.tableEntries != h.tableEntries {
			return Info{}, malformed("the VMDK's footer contradicts its header")
		}
		h.grain0 = footer.grain0
	}
	if err := checkVMDKGrains(ctx, r, h, fileSize); err != nil {
		return Info{}, err
	}
	return Info{Format: VMDK, Size: int64(h.capacity) * disk.SectorSize, Detail: detail}, nil
}

// checkVMDKDescriptor makes sure that the embedded descriptor describes this
// file alone, and returns the disk's type.
func checkVMDKDescriptor(r io.ReaderAt, h vmdkHeader, fileSize int64) (string, error) {
	fixed := make([]byte, max(0, min(vmdkDescriptorMax, fileSize-vmdkDescriptor)))
	if err := disk.ReadFull(r, fixed, vmdkDescriptor); err != nil {
		return "", malformed("reading the VMDK descriptor: %w", err)
	}
	size := int64(h.descriptorSize) * disk.SectorSize
	if h.descriptor == 0 || h.descriptorSize == 0 || h.descriptorSize > vmdkMaxDescriptor/disk.SectorSize ||
		h.descriptor > uint64(fileSize)/disk.SectorSize || int64(h.descriptor)*disk.SectorSize+size > fileSize {
		return "", malformed("the VMDK descriptor (%d sectors at sector %d) is missing or outside the file", h.descriptorSize, h.descriptor)
	}
	text := make([]byte, size)
	if err := disk.ReadFull(r, text, int64(h.descriptor)*disk.SectorSize); err != nil {
		return "", malformed("reading the VMDK descriptor: %w", err)
	}
	for _, t := range [][]byte{fixed, text} {
		if bytes.Contains(bytes.ToLower(t), []byte("parentfilenamehint")) {
			return "", malformed("it is a VMDK over a parent disk; consolidate it first")
		}
	}
	if i := bytes.IndexByte(text, 0); i >= 0 {
		text = text[:i]
	}
	kind, extents := "", 0
	for line := range strings.SplitSeq(string(text), "\n") {
		line = strings.TrimSpace(line)
		if key, value, ok := strings.Cut(line, "="); ok {
			value = strings.Trim(strings.TrimSpace(value), `"`)
			switch strings.ToLower(strings.TrimSpace(key)) {
			case "createtype":
				kind = value
			case "parentcid":
				if !strings.EqualFold(value, "ffffffff") {
					return "", malformed("it is a VMDK over a parent disk; consolidate it first")
				}
			}
			continue
		}
		if f := strings.Fields(line); len(f) >= 3 && (f[0] == "RW" || f[0] == "RDONLY" || f[0] == "NOACCESS") {
			if extents++; f[2] != "SPARSE" {
				return "", malformed("the VMDK descriptor names an extent of type %q, whose data is in another file; export the disk as one file", f[2])
			}
		}
	}
	if kind != "monolithicSparse" && kind != "streamOptimized" {
		return "", malformed("a VMDK of type %q is not complete in one file; export it as monolithicSparse or streamOptimized", kind)
	}
	if extents != 1 {
		return "", malformed("the VMDK descriptor names %d extents, not one; export the disk as one file", extents)
	}
	return kind, nil
}

// checkVMDKGrains checks that all tables lie in the file and do not promise
// more than it can hold.
func checkVMDKGrains(ctx context.Context, r io.ReaderAt, h vmdkHeader, fileSize int64) error {
	perTable := h.grain * uint64(h.tableEntries)
	tables := int64((h.capacity + perTable - 1) / perTable)
	if tables*4 > vmdkMaxDirectory {
		return malformed("a VMDK grain directory of %d entries is too large", tables)
	}
	inFile := func(sector uint64, bytes int64) bool {
		return sector > 0 && sector <= uint64(fileSize)/disk.SectorSize && int64(sector)*disk.SectorSize+bytes <= fileSize
	}
	if !inFile(h.grain0, tables*4) {
		return malformed("the VMDK grain directory at sector %d is outside the file", h.grain0)
	}
	var grains, used int64
	grain := int64(h.grain) * disk.SectorSize
	err := eachEntry(ctx, r, int64(h.grain0)*disk.SectorSize, tables, 4, func(_ int64, b []byte) error {
		at := uint64(binary.LittleEndian.Uint32(b))
		if at == 0 {
			return nil
		}
		size := int64(h.tableEntries) * 4
		if used += size; used > fileSize || !inFile(at, size) {
			return malformed("the VMDK grain table at sector %d is outside the file or used twice", at)
		}
		return eachEntry(ctx, r, int64(at)*disk.SectorSize, int64(h.tableEntries), 4, func(_ int64, b []byte) error {
			switch at := uint64(binary.LittleEndian.Uint32(b)); {
			case at <= 1: // a hole, or a grain of zeros
			case !inFile(at, 1):
				return malformed("the VMDK grain at sector %d is outside the file", at)
			default:
				grains++
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	room := fileSize
	if h.flags&vmdkFlagCompress != 0 {
		room *= vmdkMaxInflation
	}
	if grains > room/grain+1 {
		return overbooked(grains, grain, fileSize)
	}
	return nil
}
