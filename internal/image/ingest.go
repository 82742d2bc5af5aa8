package image

import (
	"context"
	"errors"
	"slices"

	"golang.org/x/sync/errgroup"

	"goldsmith/internal/arm"
	"goldsmith/internal/image/disk"
)

// Stats tell what storing an image took.
type Stats struct {
	Chunks      int64 `json:"chunks"`      // chunks that hold data
	Inherited   int64 `json:"inherited"`   // of those, taken from the base without reading
	Read        int64 `json:"read"`        // bytes read of the disk
	Stored      int64 `json:"stored"`      // chunks the store did not have
	StoredBytes int64 `json:"storedBytes"` // bytes those take
}

// Import stores the content of a disk and returns the image. On error nothing
// of it is left in the store. The image is kept for the grace period of GC; by
// then the caller must count it among the live ones.
func (s *Store) Import(ctx context.Context, src disk.Reader, progress Progress) (Digest, Stats, error) {
	return s.ingest(ctx, nil, nil, src, progress)
}

// Capture stores the content of a disk that was made from the image base by
// changing no more than the extents changed (and growing). Only the chunks they
// touch are read; the rest is inherited from base. It keeps what Import
// promises.
func (s *Store) Capture(ctx context.Context, base Digest, changed []disk.Extent, src disk.Reader, progress Progress) (Digest, Stats, error) {
	img, err := s.OpenImage(ctx, base) // protects its chunks until this image has them
	if err != nil {
		return Digest{}, Stats{}, err
	}
	defer img.Close()
	if src.Size() < img.Size() {
		return Digest{}, Stats{}, arm.Errorf(arm.CodeNotSupported, "the disk has %d bytes, less than the %d of the image it was made from: shrinking is not possible", src.Size(), img.Size())
	}
	return s.ingest(ctx, img.index, chunkRanges(changed), src, progress)
}

// ingest stores a disk. Without a base all chunks that hold data are read, with
// one those of the ranges touched.
func (s *Store) ingest(ctx context.Context, base *Index, touched []disk.Extent, src disk.Reader, progress Progress) (_ Digest, stats Stats, err error) {
	size := src.Size()
	if size <= 0 || size > maxVirtualSize || size%disk.SectorSize != 0 {
		return Digest{}, Stats{}, arm.Errorf(arm.CodeMalformedImage, "a disk of %d bytes cannot be stored: it is empty, too large, or not a whole number of sectors", size)
	}
	extents, err := src.Extents(ctx)
	if err != nil {
		return Digest{}, Stats{}, err
	}
	read := chunkRanges(extents)
	var inherited []Run
	if base != nil {
		// What was touched and has no data now is zeros: neither read nor inherited.
		read = disk.Subtract(touched, disk.Subtract(touched, read))
		inherited = base.without(touched)
	}
	t, err := s.begin()
	if err != nil {
		return Digest{}, Stats{}, err
	}
	defer func() { t.end(err) }()

	chunks, err := t.readChunks(ctx, read, src, newMeter(progress, disk.Total(read)*ChunkSize))
	if err != nil {
		return Digest{}, Stats{}, err
	}
	x := assemble(size, inherited, read, chunks)
	d, err := t.publish(ctx, x)
	if err != nil {
		return Digest{}, Stats{}, err
	}
	for _, r := range inherited {
		stats.Inherited += int64(len(r.Chunks))
	}
	stats.Chunks, stats.Read = x.Len(), disk.Total(read)*ChunkSize
	stats.Stored, stats.StoredBytes = int64(len(t.created)), t.bytes
	return d, stats, nil
}

// readChunks reads and stores the chunks of the ranges read, by all workers at
// once, and returns their digests in order, the zero Digest for zeros.
func (t *session) readChunks(ctx context.Context, read []disk.Extent, src disk.Reader, m *meter) ([]Digest, error) {
	digests := make([]Digest, disk.Total(read))
	type job struct{ position, chunk int64 }
	jobs := make(chan job)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(jobs)
		position := int64(0)
		for _, r := range read {
			for n := r.Start; n < r.End(); n++ {
				select {
				case jobs <- job{position, n}:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
				position++
			}
		}
		return nil
	})
	for range t.store.workers {
		g.Go(func() error {
			w := t.store.scratch()
			defer t.store.release(w)
			for j := range jobs {
				if ctx.Err() != nil { // also when the reading of a slow disk ends at last
					return context.Cause(ctx)
				}
				d, err := t.readChunk(src, j.chunk, w)
				if err != nil {
					return err
				}
				digests[j.position] = d
				m.add(ChunkSize)
			}
			return nil
		})
	}
	return digests, g.Wait()
}

// readChunk reads and stores one chunk.
func (t *session) readChunk(src disk.Reader, n int64, w *scratch) (Digest, error) {
	off := n * ChunkSize
	length := min(ChunkSize, src.Size()-off)
	if err := disk.ReadFull(src, w.plain[:length], off); err != nil {
		var coded *arm.Error
		if errors.As(err, &coded) {
			return Digest{}, err
		}
		return Digest{}, fileError(err, "reading the disk at %d", off)
	}
	clear(w.plain[length:])
	if disk.IsZero(w.plain) {
		return Digest{}, nil
	}
	d := DigestOf(w.plain)
	if t.has(d) {
		return d, nil
	}
	packed, err := w.pack(d, w.plain)
	if err != nil {
		return Digest{}, err
	}
	return d, t.write(d, packed)
}

// without are the runs of the index less the chunks of ranges.
func (x *Index) without(ranges []disk.Extent) []Run {
	all := make([]disk.Extent, 0, len(x.Runs))
	for _, r := range x.Runs {
		all = append(all, disk.Extent{Start: r.First, Length: int64(len(r.Chunks))})
	}
	var kept []Run
	i := 0
	for _, e := range disk.Subtract(all, ranges) {
		for x.Runs[i].end() <= e.Start {
			i++
		}
		r := x.Runs[i]
		kept = append(kept, Run{First: e.Start, Chunks: r.Chunks[e.Start-r.First : e.End()-r.First]})
	}
	return kept
}

// assemble makes the index of a disk from inherited runs and the digests of the
// chunks read, which do not overlap.
func assemble(size int64, inherited []Run, read []disk.Extent, digests []Digest) *Index {
	runs := slices.Clone(inherited)
	for _, r := range read {
		runs = append(runs, Run{First: r.Start, Chunks: digests[:r.Length]})
		digests = digests[r.Length:]
	}
	slices.SortFunc(runs, func(a, b Run) int {
		if a.First < b.First {
			return -1
		}
		return 1
	})
	x := &Index{Size: size}
	for _, r := range runs {
		for i, d := range r.Chunks {
			x.add(r.First+int64(i), d)
		}
	}
	return x
}
