package image

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"goldsmith/internal/arm"
)

// batchChunks is how many neighbouring chunks are handed on at once, because
// writing 1 MiB in one piece is cheaper than in four.
const batchChunks = 4

// batch is a series of neighbouring chunks of an image.
type batch struct {
	first  int64
	chunks []Digest
}

// stream reads and verifies all chunks of the image that hold data, by all
// workers at once and roughly in order, and calls use with them from several
// goroutines. plain starts at chunk n and is not to be kept.
func (m *Image) stream(ctx context.Context, progress Progress, use func(n int64, plain []byte) error) error {
	meter := newMeter(progress, m.index.Len()*ChunkSize)
	batches := make(chan batch)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(batches)
		for _, r := range m.index.Runs {
			for i := 0; i < len(r.Chunks); i += batchChunks {
				select {
				case batches <- batch{r.First + int64(i), r.Chunks[i:min(i+batchChunks, len(r.Chunks))]}:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
		}
		return nil
	})
	for range m.store.workers + 1 { // one of them may be waiting to write
		g.Go(func() error {
			w := m.store.scratch()
			defer m.store.release(w)
			buf := make([]byte, batchChunks*ChunkSize)
			for b := range batches {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				for i, d := range b.chunks {
					if _, err := m.store.chunk(d, buf[i*ChunkSize:(i+1)*ChunkSize], w); err != nil {
						return err
					}
				}
				plain := buf[:len(b.chunks)*ChunkSize]
				if err := use(b.first, plain); err != nil {
					return err
				}
				meter.add(int64(len(plain)))
			}
			return nil
		})
	}
	return g.Wait()
}

// Verify reads every chunk of image d and hashes its content. All damaged and missing ones are listed
// in the Details of an arm.Error CodeCorrupt.
func (s *Store) Verify(ctx context.Context, d Digest, progress Progress) error {
	m, err := s.OpenImage(ctx, d)
	if err != nil {
		return err
	}
	defer m.Close()
	found := make(chan *arm.Error)
	var damage []*arm.Error
	collected := make(chan struct{})
	go func() {
		defer close(collected)
		for e := range found {
			damage = append(damage, e)
		}
	}()
	err = m.verifyChunks(ctx, progress, found)
	close(found)
	<-collected
	if err != nil || len(damage) == 0 {
		return err
	}
	e := arm.Errorf(arm.CodeCorrupt, "image %s: %d of its chunks are damaged or missing: %w", d, len(damage), damage[0])
	e.Details = damage
	return e
}

// verifyChunks is stream for Verify: damage does not end it.
func (m *Image) verifyChunks(ctx context.Context, progress Progress, found chan<- *arm.Error) error {
	meter := newMeter(progress, m.index.Len()*ChunkSize)
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(m.store.workers)
	for d := range m.index.unique() {
		g.Go(func() error {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			w := m.store.scratch()
			defer m.store.release(w)
			_, err := m.store.proveChunk(d, w)
			var e *arm.Error
			if errors.As(err, &e) && e.Code == arm.CodeCorrupt {
				found <- e
				err = nil
			}
			meter.add(ChunkSize)
			return err
		})
	}
	return g.Wait()
}
