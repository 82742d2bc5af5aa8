// Package vhd reads and writes the parts of the Virtual Hard Disk format that
// describe a disk (Microsoft, "Virtual Hard Disk Image Format Specification",
// 1.0). It performs no I/O.
package vhd

import (
	"encoding/binary"
	"fmt"
	"time"

	"goldsmith/internal/arm"
)

// FooterSize is the size of a footer in bytes.
const FooterSize = 512

// Alignment is what the size of a disk must be a multiple of to be accepted as
// a page blob image, in bytes.
const Alignment = 1 << 20

// Cookie starts every footer.
const Cookie = "conectix"

// Type is the kind of a virtual hard disk.
type Type uint32

// Types of virtual hard disks.
const (
	Fixed        Type = 2
	Dynamic      Type = 3
	Differencing Type = 4
)

// String is the type's name in the specification.
func (t Type) String() string {
	switch t {
	case Fixed:
		return "fixed"
	case Dynamic:
		return "dynamic"
	case Differencing:
		return "differencing"
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// Geometry is a disk's cylinders, heads and sectors per track.
type Geometry struct {
	Cylinders uint16
	Heads     uint8
	Sectors   uint8
}

// maxGeometry is the largest geometry the format can express. Readers that
// derive a disk's size from its geometry (QEMU does for creators it does not
// know) take the size in bytes instead when they see it, so every disk that is
// written carries it, whatever its size.
var maxGeometry = Geometry{Cylinders: 65535, Heads: 16, Sectors: 255}

// creator names this program in the footers it writes, with its version.
var (
	creatorApp     = [4]byte{'g', 'l', 'd', 's'}
	creatorVersion = uint32(0x00010000)
	creatorHost    = [4]byte{'W', 'i', '2', 'k'} // the format knows Windows and Macintosh only
)

const (
	featureReserved = 2 // always set
	formatVersion   = 0x00010000
	noDataOffset    = ^uint64(0)
)

// epoch is where the format's time stamps start.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// Footer describes a virtual hard disk.
type Footer struct {
	Type       Type
	Size       int64 // current size of the disk in bytes
	Geometry   Geometry
	Created    time.Time // whole seconds, from 2000 to 2136
	CreatorApp [4]byte
	UniqueID   [16]byte
	DataOffset uint64 // of the dynamic header; all ones in a fixed disk
}

// NewFixed is the footer of a fixed disk of size bytes, a multiple of
// Alignment.
func NewFixed(size int64, id [16]byte, created time.Time) (Footer, error) {
	if size <= 0 || size%Alignment != 0 {
		return Footer{}, arm.Errorf(arm.CodeInternal, "a fixed VHD of %d bytes is not a whole number of MiB: round the size up first", size)
	}
	return Footer{
		Type: Fixed, Size: size, Geometry: maxGeometry, Created: created,
		CreatorApp: creatorApp, UniqueID: id, DataOffset: noDataOffset,
	}, nil
}

// Bytes is the footer as it is written behind the disk's content.
func (f Footer) Bytes() []byte {
	b := make([]byte, FooterSize)
	copy(b, Cookie)
	be := binary.BigEndian
	be.PutUint32(b[8:], featureReserved)
	be.PutUint32(b[12:], formatVersion)
	be.PutUint64(b[16:], f.DataOffset)
	be.PutUint32(b[24:], uint32(f.Created.Unix()-epoch.Unix()))
	copy(b[28:], f.CreatorApp[:])
	be.PutUint32(b[32:], creatorVersion)
	copy(b[36:], creatorHost[:])
	be.PutUint64(b[40:], uint64(f.Size))
	be.PutUint64(b[48:], uint64(f.Size))
	be.PutUint16(b[56:], f.Geometry.Cylinders)
	b[58], b[59] = f.Geometry.Heads, f.Geometry.Sectors
	be.PutUint32(b[60:], uint32(f.Type))
	copy(b[68:], f.UniqueID[:])
	be.PutUint32(b[64:], checksum(b, 64))
	return b
}

// ParseFooter reads the footer at the start of b. Its errors are arm.Error
// CodeMalformedImage.
func ParseFooter(b []byte) (Footer, error) {
	if len(b) < FooterSize {
		return Footer{}, arm.Errorf(arm.CodeMalformedImage, "a VHD footer has %d bytes, not %d", FooterSize, len(b))
	}
	b = b[:FooterSize]
	be := binary.BigEndian
	if string(b[:8]) != Cookie {
		return Footer{}, arm.Errorf(arm.CodeMalformedImage, "no VHD footer: it would start with %q", Cookie)
	}
	if got, want := be.Uint32(b[64:]), checksum(b, 64); got != want {
		return Footer{}, arm.Errorf(arm.CodeMalformedImage, "the VHD footer's checksum is %#08x, its content has %#08x: the file is damaged", got, want)
	}
	if major := be.Uint32(b[12:]) >> 16; major != formatVersion>>16 {
		return Footer{}, arm.Errorf(arm.CodeMalformedImage, "VHD format version %d is not known", major)
	}
	size := be.Uint64(b[48:])
	if size == 0 || size > 1<<62 || size%512 != 0 {
		return Footer{}, arm.Errorf(arm.CodeMalformedImage, "the VHD footer gives a disk of %d bytes, which is not a disk's size", size)
	}
	f := Footer{
		Type:       Type(be.Uint32(b[60:])),
		Size:       int64(size),
		Geometry:   Geometry{be.Uint16(b[56:]), b[58], b[59]},
		Created:    epoch.Add(time.Duration(be.Uint32(b[24:])) * time.Second),
		DataOffset: be.Uint64(b[16:]),
	}
	copy(f.CreatorApp[:], b[28:])
	copy(f.UniqueID[:], b[68:])
	switch f.Type {
	case Fixed, Dynamic, Differencing:
		return f, nil
	}
	return Footer{}, arm.Errorf(arm.CodeMalformedImage, "VHD disk type %d is not known", uint32(f.Type))
}

// checksum is the one's complement of the sum of b's bytes, without the four
// of the checksum itself at offset at.
func checksum(b []byte, at int) uint32 {
	var sum uint32
	for i, c := range b {
		if i < at || i >= at+4 {
			sum += uint32(c)
		}
	}
	return ^sum
}
