package image

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"goldsmith/internal/arm"
)

// stream reads and verifies all chunks of the image that hold data, by all
// workers at once and roughly in order, and calls use with each from several
// goroutines. use must not keep plain.
func (m *Image) stream(ctx context.Context, progress Progress, use func(n int64, plain []byte) error) error {
	meter := newMeter(progress, m.index.Len()*ChunkSize)
	type job struct {
		n int64
		d Digest
	}
	jobs := make(chan job)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(jobs)
		for _, r := range m.index.Runs {
			for i, d := range r.Chunks {
				select {
				case jobs <- job{r.First + int64(i), d}:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
		}
		return nil
	})
	for range m.store.workers {
		g.Go(func() error {
			w, err := m.store.scratch()
			if err != nil {
				return err
			}
			defer m.store.pool.Put(w)
			for j := range jobs {
				plain, err := m.store.chunk(j.d, w)
				if err != nil {
					return err
				}
				if err := use(j.n, plain); err != nil {
					return err
				}
				meter.add(ChunkSize)
			}
			return nil
		})
	}
	return g.Wait()
}

// Verify reads every chunk of image d. All damaged and missing ones are listed
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
			w, err := m.store.scratch()
			if err != nil {
				return err
			}
			defer m.store.pool.Put(w)
			_, err = m.store.chunk(d, w)
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
