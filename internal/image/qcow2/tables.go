package qcow2

import (
	"context"
	"encoding/binary"
	"io"
	"os"

	"goldsmith/internal/arm"
	"goldsmith/internal/image/disk"
)

// Bits of L1 and L2 entries.
const (
	offsetMask     = 0x00fffffffffffe00
	copiedBit      = 1 << 63
	compressedBit  = 1 << 62
	zeroBit        = 1 << 0
	descriptorMask = compressedBit - 1
)

// maxInflation is how many bytes one compressed byte can become at most, by
// which a file that promises more is known to be a bomb. Deflate reaches 1032.
const maxInflation = 1100

// maxExtents bounds the memory that the tables of one file can ask for (48 MiB).
const maxExtents = 1 << 20

// Map tells what one qcow2 file holds, without its backing file.
type Map struct {
	// Allocated are the ranges whose content this file decides: data, and zeros
	// that hide the backing file.
	Allocated []disk.Extent
	// Data is the part of Allocated that can hold anything but zeros.
	Data []disk.Extent
	// Compressed is the number of bytes of Data that are stored compressed.
	Compressed int64
}

// ReadMap reads the tables of the file whose header is h. Every table and data
// cluster must lie within the file's fileSize bytes, and the clusters together
// cannot be larger than the file allows; anything else is an arm.Error
// CodeMalformedImage. Images with extended L2 entries are CodeNotSupported.
func ReadMap(ctx context.Context, r io.ReaderAt, h Header, fileSize int64) (Map, error) {
	if h.ExtendedL2 {
		return Map{}, arm.Errorf(arm.CodeNotSupported, "qcow2 image: extended L2 entries are not read here; convert it with qemu-img convert -O qcow2")
	}
	var (
		m        Map
		standard int64 // bytes of uncompressed clusters
		tables   int64 // bytes of L2 tables
		l2       = make([]byte, h.ClusterSize)
		l1       = make([]byte, h.l1Entries*8)
		perL2    = h.l2Entries() * h.ClusterSize
	)
	if err := disk.ReadFull(r, l1, h.l1Offset); err != nil {
		return Map{}, malformed("reading the L1 table: %w", err)
	}
	for i := range h.l1Entries {
		if err := ctx.Err(); err != nil {
			return Map{}, context.Cause(ctx)
		}
		table := int64(binary.BigEndian.Uint64(l1[i*8:]) & offsetMask)
		if table == 0 {
			continue
		}
		if table%h.ClusterSize != 0 || table+h.ClusterSize > fileSize {
			return Map{}, malformed("the L2 table at %d is outside the file or not at the start of a cluster", table)
		}
		if tables += h.ClusterSize; tables > fileSize {
			return Map{}, malformed("its L1 table names the same L2 tables over and over")
		}
		if err := disk.ReadFull(r, l2, table); err != nil {
			return Map{}, malformed("reading the L2 table at %d: %w", table, err)
		}
		for j := range h.l2Entries() {
			start := i*perL2 + j*h.ClusterSize
			entry := binary.BigEndian.Uint64(l2[j*8:])
			if start >= h.Size {
				break
			}
			if entry&(descriptorMask|compressedBit) == 0 {
				continue
			}
			cluster := disk.Extent{Start: start, Length: min(h.ClusterSize, h.Size-start)}
			m.Allocated = extend(m.Allocated, cluster)
			switch {
			case entry&compressedBit != 0:
				if err := h.checkCompressed(entry, fileSize); err != nil {
					return Map{}, err
				}
				m.Compressed += h.ClusterSize
				m.Data = extend(m.Data, cluster)
			case entry&zeroBit != 0 && h.Version >= 3:
			default:
				host := int64(entry & offsetMask)
				if host == 0 || host%h.ClusterSize != 0 || host >= fileSize {
					return Map{}, malformed("the data cluster of %d points at %d, which is outside the file or not at the start of a cluster", start, host)
				}
				standard += h.ClusterSize
				m.Data = extend(m.Data, cluster)
			}
		}
		// Distinct clusters cannot be larger than the file that holds them, so
		// these sums find tables that name one cluster over and over.
		switch {
		case standard > disk.RoundUp(fileSize, h.ClusterSize):
			return Map{}, malformed("its tables name %d bytes of data in a file of %d bytes: clusters are used more than once", standard, fileSize)
		case m.Compressed/maxInflation > fileSize:
			return Map{}, malformed("its tables promise %d bytes of compressed data in a file of %d bytes, more than compression can do", m.Compressed, fileSize)
		case len(m.Allocated) > maxExtents:
			return Map{}, malformed("it is in more than %d pieces; convert it with qemu-img convert -O qcow2", maxExtents)
		}
	}
	return m, nil
}

// checkCompressed checks that the compressed cluster of an L2 entry starts
// within the file.
func (h Header) checkCompressed(entry uint64, fileSize int64) error {
	bits := 62
	for size := h.ClusterSize; size > 256; size /= 2 { // 62 - (cluster_bits - 8)
		bits--
	}
	host := int64(entry & (1<<bits - 1))
	if host < h.ClusterSize || host >= fileSize {
		return malformed("a compressed cluster at %d is outside the file", host)
	}
	return nil
}

// extend appends e to extents, or to their last where both touch.
func extend(extents []disk.Extent, e disk.Extent) []disk.Extent {
	if n := len(extents); n > 0 && extents[n-1].End() == e.Start {
		extents[n-1].Length += e.Length
		return extents
	}
	return append(extents, e)
}

// Allocated returns the ranges whose content the qcow2 file at path decides
// itself, data and zeros alike, without looking at its backing file: what a
// layer changed. The result is as disk.Union returns it.
func Allocated(ctx context.Context, path string) ([]disk.Extent, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "opening the disk layer: %w", err).At(path)
	}
	defer f.Close()
	_, m, err := readFile(ctx, f)
	if err != nil {
		return nil, at(err, path)
	}
	return m.Allocated, nil
}

// readFile parses the header and the tables of an open file.
func readFile(ctx context.Context, f *os.File) (Header, Map, error) {
	info, err := f.Stat()
	if err != nil {
		return Header{}, Map{}, arm.Errorf(arm.CodeInternal, "looking at the qcow2 image: %w", err)
	}
	h, err := ParseHeader(f, info.Size())
	if err != nil {
		return Header{}, Map{}, err
	}
	m, err := ReadMap(ctx, f, h, info.Size())
	return h, m, err
}

// at gives an arm.Error without a target the path it is about.
func at(err error, path string) error {
	if e, ok := err.(*arm.Error); ok && e.Target == "" {
		return e.At(path)
	}
	return err
}
