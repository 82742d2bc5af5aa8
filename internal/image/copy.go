package image

import (
	"context"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"
)

// Missing are the chunks of image d that the store to does not have, and how
// many bytes sending them takes.
func (s *Store) Missing(ctx context.Context, d Digest, to *Store) (chunks []Digest, bytes int64, err error) {
	m, err := s.OpenImage(ctx, d)
	if err != nil {
		return nil, 0, err
	}
	defer m.Close()
	for chunk := range m.index.unique() {
		if ctx.Err() != nil {
			return nil, 0, context.Cause(ctx)
		}
		if intact(to.chunkPath(chunk)) {
			continue
		}
		info, err := os.Stat(s.chunkPath(chunk))
		if err != nil {
			return nil, 0, fileError(err, "looking at a chunk of the image store")
		}
		chunks, bytes = append(chunks, chunk), bytes+info.Size()
	}
	return chunks, bytes, nil
}

// Copy brings image d to the store to, sending only the chunks it lacks, each
// verified on the way. Stats.StoredBytes are the bytes sent. On error nothing
// of it is left there.
func (s *Store) Copy(ctx context.Context, d Digest, to *Store, progress Progress) (stats Stats, err error) {
	if same(s.dir, to.dir) {
		x, err := s.index(d)
		if err != nil {
			return Stats{}, err
		}
		return Stats{Chunks: x.Len()}, nil
	}
	m, err := s.OpenImage(ctx, d)
	if err != nil {
		return Stats{}, err
	}
	defer m.Close()
	t, err := to.begin()
	if err != nil {
		return Stats{}, err
	}
	defer func() { t.end(err) }()
	unique := m.index.unique()
	meter := newMeter(progress, int64(len(unique))*ChunkSize)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(s.workers)
	for chunk := range unique {
		g.Go(func() error {
			if gctx.Err() != nil {
				return context.Cause(gctx)
			}
			if err := s.send(t, chunk); err != nil {
				return err
			}
			meter.add(ChunkSize)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return Stats{}, err
	}
	if _, err := t.publish(ctx, m.index); err != nil {
		return Stats{}, err
	}
	return Stats{
		Chunks: m.index.Len(), Read: int64(len(t.created)) * ChunkSize,
		Stored: int64(len(t.created)), StoredBytes: t.bytes,
	}, nil
}

// send brings one chunk to the store of the session t.
func (s *Store) send(t *session, chunk Digest) error {
	if t.has(chunk) {
		return nil
	}
	w := s.scratch()
	defer s.release(w)
	packed, err := s.proveChunk(chunk, w)
	if err != nil {
		return err
	}
	return t.write(chunk, packed)
}

// same reports whether two paths are one directory.
func same(a, b string) bool {
	if filepath.Clean(a) == filepath.Clean(b) {
		return true
	}
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}
