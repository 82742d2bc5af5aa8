// Package qcow2 writes QEMU's copy-on-write disk images, tells which parts of a
// disk one image file holds, checks files of unknown origin, and reads chains of
// them. The format is that of QEMU's docs/interop/qcow2.txt, versions 2 and 3.
package qcow2

import (
	"encoding/binary"
	"errors"
	"io"

	"goldsmith/internal/arm"
	"goldsmith/internal/image/disk"
)

// Magic starts every qcow2 file.
const Magic = "QFI\xfb"

// Bounds that QEMU sets too, so that no file it would refuse is accepted.
const (
	minClusterBits   = 9
	maxClusterBits   = 21
	maxL1Bytes       = 32 << 20
	maxRefcountBytes = 8 << 20
	maxSnapshots     = 65536
	maxBackingName   = 1023
	maxSize          = 1 << 60
)

// Bits of the incompatible features of a version 3 header.
const (
	featureDirty        = 1 << 0 // reference counts may be wrong; reading is safe
	featureCorrupt      = 1 << 1
	featureExternalData = 1 << 2
	featureCompression  = 1 << 3 // the header names a compression type
	featureExtendedL2   = 1 << 4 // entries of 16 bytes, with a bitmap
	knownFeatures       = featureDirty | featureCorrupt | featureExternalData | featureCompression | featureExtendedL2
)

// Types of header extensions.
const (
	extensionEnd           = 0
	extensionBackingFormat = 0xe2792aca
	extensionExternalData  = 0x44415441
	extensionEncryption    = 0x0537be77
)

// Compression types.
const (
	compressionDeflate = 0
	compressionZstd    = 1
)

// Header is what a qcow2 file says about itself. Offsets and sizes are in bytes
// and lie within the file.
type Header struct {
	Version       int
	Size          int64 // virtual size, rounded up to whole sectors
	ClusterSize   int64
	Backing       string // as written in the file; "" for none
	BackingFormat string // "" when the file does not say
	ExtendedL2    bool
	Zstd          bool // its compressed clusters are zstd, not deflate

	l1Offset  int64
	l1Entries int64 // those that the virtual size needs
}

// l2Entries is the number of clusters that one L2 table maps.
func (h Header) l2Entries() int64 {
	if h.ExtendedL2 {
		return h.ClusterSize / 16
	}
	return h.ClusterSize / 8
}

func malformed(format string, args ...any) error {
	return arm.Errorf(arm.CodeMalformedImage, "qcow2 image: "+format, args...)
}

// ParseHeader reads the header of a qcow2 file of fileSize bytes and checks
// everything that a reader of the file will trust: table bounds, features,
// encryption, external data. A backing file is reported, not followed. Its
// errors are arm.Error CodeMalformedImage.
func ParseHeader(r io.ReaderAt, fileSize int64) (Header, error) {
	var b [112]byte
	n, err := r.ReadAt(b[:], 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return Header{}, malformed("reading the header: %w", err)
	}
	be := binary.BigEndian
	if n < 72 || string(b[:4]) != Magic {
		return Header{}, malformed("no header: it would start with %q", Magic)
	}
	h := Header{Version: int(be.Uint32(b[4:]))}
	if h.Version != 2 && h.Version != 3 {
		return Header{}, malformed("version %d is not known; convert it to version 3 with qemu-img", h.Version)
	}
	bits := be.Uint32(b[20:])
	if bits < minClusterBits || bits > maxClusterBits {
		return Header{}, malformed("clusters of 2^%d bytes are outside 512 B to 2 MiB", bits)
	}
	h.ClusterSize = 1 << bits
	size := be.Uint64(b[24:])
	if size == 0 || size > maxSize {
		return Header{}, malformed("%d bytes is not a disk's size", size)
	}
	h.Size = disk.RoundUp(int64(size), disk.SectorSize)
	if method := be.Uint32(b[32:]); method != 0 {
		return Header{}, malformed("it is encrypted (method %d); decrypt it first", method)
	}
	headerLength := int64(72)
	if h.Version == 3 {
		if headerLength, err = h.parseVersion3(b[:n]); err != nil {
			return Header{}, err
		}
	}
	if err := h.parseTables(b[:], fileSize); err != nil {
		return Header{}, err
	}
	backing, length := be.Uint64(b[8:]), be.Uint32(b[16:])
	end := h.ClusterSize
	if backing != 0 {
		if length == 0 || length > maxBackingName || backing < uint64(headerLength) || backing+uint64(length) > uint64(h.ClusterSize) {
			return Header{}, malformed("the name of its backing file (%d bytes at %d) is outside the first cluster", length, backing)
		}
		name := make([]byte, length)
		if err := disk.ReadFull(r, name, int64(backing)); err != nil {
			return Header{}, malformed("reading the name of its backing file: %w", err)
		}
		h.Backing, end = string(name), int64(backing)
	}
	if err := h.parseExtensions(r, headerLength, min(end, fileSize)); err != nil {
		return Header{}, err
	}
	return h, nil
}

// parseVersion3 reads the fields that version 3 added and returns the header's
// length.
func (h *Header) parseVersion3(b []byte) (int64, error) {
	be := binary.BigEndian
	if len(b) < 104 {
		return 0, malformed("the header is cut short")
	}
	features := be.Uint64(b[72:])
	switch {
	case features&^knownFeatures != 0:
		return 0, malformed("incompatible features %#x are not known", features&^uint64(knownFeatures))
	case features&featureCorrupt != 0:
		return 0, malformed("it is marked corrupt; repair it with qemu-img check -r all")
	case features&featureExternalData != 0:
		return 0, malformed("its data is in another file; convert it to a self-contained image with qemu-img")
	}
	h.ExtendedL2 = features&featureExtendedL2 != 0
	if h.ExtendedL2 && h.ClusterSize < 16<<10 {
		return 0, malformed("extended L2 entries need clusters of at least 16 KiB")
	}
	if order := be.Uint32(b[96:]); order > 6 {
		return 0, malformed("reference counts of 2^%d bits are not known", order)
	}
	length := int64(be.Uint32(b[100:]))
	if length < 104 || length%8 != 0 || length > h.ClusterSize {
		return 0, malformed("a header of %d bytes is impossible", length)
	}
	if features&featureCompression != 0 {
		if length < 112 || len(b) < 112 {
			return 0, malformed("the header is too short for its compression type")
		}
		switch b[104] {
		case compressionDeflate:
		case compressionZstd:
			h.Zstd = true
		default:
			return 0, malformed("compression type %d is not known", b[104])
		}
	}
	return length, nil
}

// parseTables checks the places of the L1 table, the reference counts and the
// snapshots in a file of fileSize bytes.
func (h *Header) parseTables(b []byte, fileSize int64) error {
	be := binary.BigEndian
	within := func(what string, offset uint64, length int64) error {
		switch {
		case offset%uint64(h.ClusterSize) != 0:
			return malformed("the %s at %d is not at the start of a cluster", what, offset)
		case offset > uint64(fileSize) || int64(offset)+length > fileSize:
			return malformed("the %s (%d bytes at %d) reaches behind the end of the file at %d: the file is cut short or hostile", what, length, offset, fileSize)
		}
		return nil
	}
	perL2 := h.ClusterSize * h.l2Entries()
	h.l1Entries = (h.Size + perL2 - 1) / perL2
	entries := int64(be.Uint32(b[36:]))
	if entries*8 > maxL1Bytes {
		return malformed("an L1 table of %d entries is larger than 32 MiB", entries)
	}
	if entries < h.l1Entries {
		return malformed("an L1 table of %d entries cannot map %d bytes, which need %d", entries, h.Size, h.l1Entries)
	}
	if err := within("L1 table", be.Uint64(b[40:]), entries*8); err != nil {
		return err
	}
	h.l1Offset = int64(be.Uint64(b[40:]))
	if h.l1Offset == 0 {
		return malformed("the L1 table lies over the header")
	}
	refcounts := int64(be.Uint32(b[56:])) * h.ClusterSize
	if refcounts > maxRefcountBytes {
		return malformed("a reference count table of %d bytes is larger than 8 MiB", refcounts)
	}
	if err := within("reference count table", be.Uint64(b[48:]), refcounts); err != nil {
		return err
	}
	snapshots := int64(be.Uint32(b[60:]))
	if snapshots > maxSnapshots {
		return malformed("%d snapshots are more than %d", snapshots, maxSnapshots)
	}
	if snapshots > 0 {
		return within("snapshot table", be.Uint64(b[64:]), snapshots*40)
	}
	return nil
}

// parseExtensions reads the header extensions between start and end.
func (h *Header) parseExtensions(r io.ReaderAt, start, end int64) error {
	var head [8]byte
	for off := start; off+8 <= end; {
		if err := disk.ReadFull(r, head[:], off); err != nil {
			return malformed("reading the header extension at %d: %w", off, err)
		}
		kind, length := binary.BigEndian.Uint32(head[:]), int64(binary.BigEndian.Uint32(head[4:]))
		off += 8
		if kind == extensionEnd {
			return nil
		}
		if off+length > end {
			return malformed("the header extension %#x at %d is longer than the header", kind, off-8)
		}
		switch kind {
		case extensionExternalData:
			return malformed("its data is in another file; convert it to a self-contained image with qemu-img")
		case extensionEncryption:
			return malformed("it is encrypted; decrypt it first")
		case extensionBackingFormat:
			if length > 32 {
				return malformed("the name of the backing file's format has %d bytes", length)
			}
			format := make([]byte, length)
			if err := disk.ReadFull(r, format, off); err != nil {
				return malformed("reading the backing file's format: %w", err)
			}
			h.BackingFormat = string(format)
		}
		off += disk.RoundUp(length, 8)
	}
	return nil
}
