// Package disk is the vocabulary that image formats and the image store share:
// extents, and a disk whose content can be read at any offset.
package disk

import (
	"context"
	"io"
	"slices"
)

// SectorSize is the unit, in bytes, that every disk's size is a multiple of.
const SectorSize = 512

// Extent is a range of a disk in bytes. Start is at least 0, Length above 0.
type Extent struct {
	Start  int64 `json:"start"`
	Length int64 `json:"length"`
}

// End is the offset of the first byte after e.
func (e Extent) End() int64 { return e.Start + e.Length }

// Reader is the content of a disk. It is safe for concurrent use.
type Reader interface {
	// ReadAt fills p whenever [off, off+len(p)) lies within the disk; at the end
	// of the disk it may return io.EOF beside the full count.
	io.ReaderAt
	// Size is the disk's virtual size in bytes, a multiple of SectorSize.
	Size() int64
	// Extents are the ranges that can hold anything but zeros, as Union returns
	// them. A range outside them reads as zeros.
	Extents(ctx context.Context) ([]Extent, error)
}

// Union returns the ranges that extents cover, sorted, without overlap and with
// touching neighbours joined. Extents of no length are dropped. extents itself
// is not changed.
func Union(extents []Extent) []Extent {
	sorted := make([]Extent, 0, len(extents))
	for _, e := range extents {
		if e.Length > 0 {
			sorted = append(sorted, e)
		}
	}
	slices.SortFunc(sorted, func(a, b Extent) int {
		switch {
		case a.Start < b.Start:
			return -1
		case a.Start > b.Start:
			return 1
		}
		return 0
	})
	joined := sorted[:0]
	for _, e := range sorted {
		if n := len(joined); n > 0 && e.Start <= joined[n-1].End() {
			if grown := e.End() - joined[n-1].Start; grown > joined[n-1].Length {
				joined[n-1].Length = grown
			}
			continue
		}
		joined = append(joined, e)
	}
	return joined
}

// Total is the number of bytes that extents hold together.
func Total(extents []Extent) int64 {
	var sum int64
	for _, e := range extents {
		sum += e.Length
	}
	return sum
}

// RoundUp rounds n up to a multiple of unit, which must be above 0.
func RoundUp(n, unit int64) int64 { return (n + unit - 1) / unit * unit }

// ReadFull reads len(p) bytes of r at off, which must lie within the disk, and
// accepts the io.EOF that an io.ReaderAt may return at the end.
func ReadFull(r io.ReaderAt, p []byte, off int64) error {
	n, err := r.ReadAt(p, off)
	if n == len(p) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// Subtract returns the parts of a that no extent of b covers. Both must be as
// Union returns them, and so is the result.
func Subtract(a, b []Extent) []Extent {
	var rest []Extent
	for _, e := range a {
		for len(b) > 0 && b[0].End() <= e.Start {
			b = b[1:]
		}
		start := e.Start
		for _, cut := range b {
			if cut.Start >= e.End() {
				break
			}
			if cut.Start > start {
				rest = append(rest, Extent{Start: start, Length: cut.Start - start})
			}
			start = cut.End()
		}
		if start < e.End() {
			rest = append(rest, Extent{Start: start, Length: e.End() - start})
		}
	}
	return rest
}
