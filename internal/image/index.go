package image

import (
	"encoding/binary"
	"sort"

	"goldsmith/internal/arm"
	"goldsmith/internal/image/disk"
)

// ChunkSize is the size of a chunk in bytes. A change of one byte costs the
// reading, storing and sending of one chunk, which asks for small ones: the
// scattered metadata that any boot touches (4.5 MB of writes in 20 pieces is
// typical) takes a quarter of the bytes that 1 MiB would. The file per chunk
// asks for large ones: at 256 KiB opening them is below a tenth of the time of
// an export.
const ChunkSize = 256 << 10

// The stored form of an index, all numbers big-endian: magic with a version,
// chunk size (4 bytes), virtual size (8), number of runs (4); per run its first
// chunk (8) and number of chunks (4); then all digests in order. There is one
// form for every content, because the digest of that form is the image's name.
const (
	indexMagic      = "gsindex\x01"
	indexHeaderSize = len(indexMagic) + 4 + 8 + 4
	indexRunSize    = 8 + 4
	maxVirtualSize  = 1 << 50
)

// Run is a series of neighbouring chunks that hold data.
type Run struct {
	First  int64 // number of the first chunk; chunk n starts at n*ChunkSize
	Chunks []Digest
}

func (r Run) end() int64 { return r.First + int64(len(r.Chunks)) }

// Index says what a disk holds: runs of chunks, in order, with at least one
// chunk of zeros between them. The last chunk is filled with zeros behind the
// end of the disk, so that it stays the same when the disk grows.
type Index struct {
	Size int64 // virtual size in bytes
	Runs []Run
}

// Chunk is the digest of chunk n, the zero Digest if it is all zeros.
func (x *Index) Chunk(n int64) Digest {
	i := sort.Search(len(x.Runs), func(i int) bool { return x.Runs[i].end() > n })
	if i == len(x.Runs) || n < x.Runs[i].First {
		return Digest{}
	}
	return x.Runs[i].Chunks[n-x.Runs[i].First]
}

// Len is the number of chunks that hold data.
func (x *Index) Len() int64 {
	var n int64
	for _, r := range x.Runs {
		n += int64(len(r.Chunks))
	}
	return n
}

// Extents are the ranges of the disk that chunks cover.
func (x *Index) Extents() []disk.Extent {
	extents := make([]disk.Extent, 0, len(x.Runs))
	for _, r := range x.Runs {
		start := r.First * ChunkSize
		extents = append(extents, disk.Extent{Start: start, Length: min(r.end()*ChunkSize, x.Size) - start})
	}
	return extents
}

// add appends a chunk behind all others; the zero Digest adds nothing.
func (x *Index) add(n int64, d Digest) {
	if d.IsZero() {
		return
	}
	if last := len(x.Runs) - 1; last >= 0 && x.Runs[last].end() == n {
		x.Runs[last].Chunks = append(x.Runs[last].Chunks, d)
		return
	}
	x.Runs = append(x.Runs, Run{First: n, Chunks: []Digest{d}})
}

// Encode is the stored form of the index.
func (x *Index) Encode() []byte {
	be := binary.BigEndian
	b := make([]byte, 0, int64(indexHeaderSize+len(x.Runs)*indexRunSize)+x.Len()*int64(len(Digest{})))
	b = append(b, indexMagic...)
	b = be.AppendUint32(b, ChunkSize)
	b = be.AppendUint64(b, uint64(x.Size))
	b = be.AppendUint32(b, uint32(len(x.Runs)))
	for _, r := range x.Runs {
		b = be.AppendUint64(b, uint64(r.First))
		b = be.AppendUint32(b, uint32(len(r.Chunks)))
	}
	for _, r := range x.Runs {
		for _, d := range r.Chunks {
			b = append(b, d[:]...)
		}
	}
	return b
}

// ParseIndex reads what Encode writes, and nothing else: whatever it accepts
// encodes to the same bytes. Its errors are arm.Error CodeCorrupt.
func ParseIndex(b []byte) (*Index, error) {
	fail := func(format string, args ...any) (*Index, error) {
		return nil, arm.Errorf(arm.CodeCorrupt, "image index: "+format, args...)
	}
	be := binary.BigEndian
	if len(b) < indexHeaderSize || string(b[:len(indexMagic)]) != indexMagic {
		return fail("it does not start like an index of this version")
	}
	b = b[len(indexMagic):]
	if size := be.Uint32(b); size != ChunkSize {
		return fail("its chunks have %d bytes, not %d", size, ChunkSize)
	}
	size, runs := be.Uint64(b[4:]), int64(be.Uint32(b[12:]))
	if size == 0 || size > maxVirtualSize || size%disk.SectorSize != 0 {
		return fail("%d bytes is not a disk's size", size)
	}
	b = b[16:]
	if int64(len(b)) < runs*indexRunSize {
		return fail("it is cut short")
	}
	x := &Index{Size: int64(size)}
	digests := b[runs*indexRunSize:]
	next, last := int64(0), (x.Size+ChunkSize-1)/ChunkSize
	for range runs {
		first, count := be.Uint64(b), int64(be.Uint32(b[8:]))
		b = b[indexRunSize:]
		if first > uint64(last) || int64(first) < next || count == 0 || int64(first)+count > last {
			return fail("its runs of chunks are not in order, or outside the disk")
		}
		if int64(len(digests)) < count*int64(len(Digest{})) {
			return fail("it is cut short")
		}
		run := Run{First: int64(first), Chunks: make([]Digest, count)}
		for i := range run.Chunks {
			copy(run.Chunks[i][:], digests)
			if digests = digests[len(Digest{}):]; run.Chunks[i].IsZero() {
				return fail("a chunk of data has no digest")
			}
		}
		x.Runs = append(x.Runs, run)
		next = run.end() + 1
	}
	if len(digests) > 0 {
		return fail("%d bytes follow its end", len(digests))
	}
	return x, nil
}

// chunkRanges are the numbers of the chunks that extents touch, as ranges.
func chunkRanges(extents []disk.Extent) []disk.Extent {
	ranges := make([]disk.Extent, 0, len(extents))
	for _, e := range extents {
		if e.Length > 0 {
			first := e.Start / ChunkSize
			ranges = append(ranges, disk.Extent{Start: first, Length: (e.End()-1)/ChunkSize + 1 - first})
		}
	}
	return disk.Union(ranges)
}
