package image

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"goldsmith/internal/arm"
)

// Collected tells what garbage collection removed.
type Collected struct {
	Images int64 `json:"images"`
	Chunks int64 `json:"chunks"`
	Bytes  int64 `json:"bytes"`
}

// GC removes images that are not live and chunks that no image has. It runs
// beside readers and writers of any process: whatever was stored, found or
// opened less than grace ago stays, and so does whatever became so since the
// oldest reader or writer at work began. Callers that record an image after
// storing it must do so within grace. Only one collection runs at a time; a
// second is an arm.Error CodeConflict.
func (s *Store) GC(ctx context.Context, live []Digest, grace time.Duration) (Collected, error) {
	lock := flock.New(filepath.Join(s.dir, "gc.lock"))
	locked, err := lock.TryLock()
	if err != nil {
		return Collected{}, fileError(err, "collecting garbage in the image store")
	}
	defer lock.Close()
	if !locked {
		return Collected{}, arm.Errorf(arm.CodeConflict, "the garbage of the image store %s is already being collected", s.dir)
	}
	if err := s.recoverTrash(); err != nil {
		return Collected{}, err
	}
	now := time.Now()
	oldest, err := s.oldestPin(now)
	if err != nil {
		return Collected{}, err
	}
	cutoff := now.Add(-grace)
	if oldest.Before(cutoff) {
		cutoff = oldest
	}
	c := collector{store: s, old: func(t time.Time) bool { return t.Before(cutoff) }}
	if err := c.images(ctx, live); err != nil {
		return c.done, err
	}
	if err := c.chunks(ctx); err != nil {
		return c.done, err
	}
	return c.done, c.leftovers(ctx)
}

// collector is one run of GC.
type collector struct {
	store *Store
	old   func(modified time.Time) bool
	done  Collected
}

// images removes the indexes of dead images.
func (c *collector) images(ctx context.Context, live []Digest) error {
	alive := make(map[Digest]bool, len(live))
	for _, d := range live {
		alive[d] = true
	}
	images, err := c.store.List(ctx)
	if err != nil {
		return err
	}
	for _, d := range images {
		if alive[d] {
			continue
		}
		if size, gone := c.store.discard(c.store.indexPath(d), c.old); gone {
			c.done.Images++
			c.done.Bytes += size
		}
	}
	return nil
}

// chunks removes the chunks that none of the remaining images has. It does
// nothing if an index cannot be read, because its chunks are not known then.
func (c *collector) chunks(ctx context.Context) error {
	images, err := c.store.List(ctx)
	if err != nil {
		return err
	}
	needed := map[Digest]struct{}{}
	for _, d := range images {
		x, err := c.store.index(d)
		if err != nil {
			return err
		}
		for _, r := range x.Runs {
			for _, chunk := range r.Chunks {
				needed[chunk] = struct{}{}
			}
		}
	}
	root := filepath.Join(c.store.dir, chunksDir)
	return eachFile(ctx, root, func(path string, _ fs.DirEntry) error {
		d, err := ParseDigest(filepath.Base(path))
		if err != nil {
			return nil // not ours
		}
		if _, ok := needed[d]; ok {
			return nil
		}
		if size, gone := c.store.discard(path, c.old); gone {
			c.done.Chunks++
			c.done.Bytes += size
		}
		return nil
	})
}

// leftovers removes what killed writers left, and damaged files.
func (c *collector) leftovers(ctx context.Context) error {
	for _, dir := range []string{tmpDir, corruptDir} {
		err := eachFile(ctx, filepath.Join(c.store.dir, dir), func(path string, e fs.DirEntry) error {
			info, err := e.Info()
			if err == nil && c.old(info.ModTime()) && os.Remove(path) == nil {
				c.done.Bytes += info.Size()
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// recoverTrash puts back what a collection that was killed had taken away; if
// it is garbage it will be found again.
func (s *Store) recoverTrash() error {
	dir := filepath.Join(s.dir, trashDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fileError(err, "collecting garbage in the image store")
	}
	for _, e := range entries {
		d, err := ParseDigest(e.Name())
		if err != nil {
			continue
		}
		trash := filepath.Join(dir, e.Name())
		path := s.chunkPath(d)
		if !intact(trash) {
			if b, err := os.ReadFile(trash); err != nil || DigestOf(b) != d {
				_ = os.Remove(trash)
				continue
			}
			path = s.indexPath(d)
		}
		// Never over a file of that name, which is as good and may be younger.
		err = os.Link(trash, path)
		if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, fs.ErrNotExist) {
			return fileError(err, "putting back what an interrupted garbage collection took away")
		}
		_ = os.Remove(trash)
	}
	return nil
}

// eachFile calls do for every file under root. What vanishes meanwhile is
// passed over.
func eachFile(ctx context.Context, root string, do func(path string, e fs.DirEntry) error) error {
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fileError(err, "walking the image store")
		}
		if e.IsDir() {
			return nil
		}
		return do(path, e)
	})
}
