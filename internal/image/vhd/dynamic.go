package vhd

import (
	"encoding/binary"

	"goldsmith/internal/arm"
)

// HeaderSize is the size of a dynamic disk's header in bytes.
const HeaderSize = 1024

const headerCookie = "cxsparse"

// DynamicHeader describes how a dynamic disk keeps its blocks.
type DynamicHeader struct {
	TableOffset int64  // of the block allocation table, in bytes
	Entries     uint32 // of the block allocation table
	BlockSize   uint32 // bytes, a power of two
	HasParent   bool   // it names a parent disk
}

// ParseDynamic reads the dynamic header at the start of b. Its errors are
// arm.Error CodeMalformedImage.
func ParseDynamic(b []byte) (DynamicHeader, error) {
	if len(b) < HeaderSize {
		return DynamicHeader{}, arm.Errorf(arm.CodeMalformedImage, "a dynamic VHD header has %d bytes, not %d", HeaderSize, len(b))
	}
	b = b[:HeaderSize]
	be := binary.BigEndian
	if string(b[:8]) != headerCookie {
		return DynamicHeader{}, arm.Errorf(arm.CodeMalformedImage, "no dynamic VHD header where the footer points: it would start with %q", headerCookie)
	}
	if got, want := be.Uint32(b[36:]), checksum(b, 36); got != want {
		return DynamicHeader{}, arm.Errorf(arm.CodeMalformedImage, "the dynamic VHD header's checksum is %#08x, its content has %#08x: the file is damaged", got, want)
	}
	table := be.Uint64(b[16:])
	h := DynamicHeader{
		TableOffset: int64(table & (1<<63 - 1)),
		Entries:     be.Uint32(b[28:]),
		BlockSize:   be.Uint32(b[32:]),
	}
	if table >= 1<<62 {
		return DynamicHeader{}, arm.Errorf(arm.CodeMalformedImage, "the VHD block table is at the impossible offset %d", table)
	}
	if s := h.BlockSize; s < 512 || s > 256<<20 || s&(s-1) != 0 {
		return DynamicHeader{}, arm.Errorf(arm.CodeMalformedImage, "a VHD block size of %d bytes is not a power of two between 512 B and 256 MiB", s)
	}
	for _, c := range b[40:56] { // unique id of the parent
		h.HasParent = h.HasParent || c != 0
	}
	for _, c := range b[576:768] { // parent locators
		h.HasParent = h.HasParent || c != 0
	}
	return h, nil
}

// Check tells whether the header can describe a disk of size bytes in a file of
// fileSize bytes.
func (h DynamicHeader) Check(size, fileSize int64) error {
	blocks := (size + int64(h.BlockSize) - 1) / int64(h.BlockSize)
	if int64(h.Entries) < blocks {
		return arm.Errorf(arm.CodeMalformedImage, "the VHD block table has %d entries, but a disk of %d bytes needs %d", h.Entries, size, blocks)
	}
	if end := h.TableOffset + 4*int64(h.Entries); end > fileSize {
		return arm.Errorf(arm.CodeMalformedImage, "the VHD block table ends at %d, behind the end of the file at %d: the file is cut short", end, fileSize)
	}
	return nil
}
