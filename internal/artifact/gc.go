package artifact

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
)

// GC removes blobs that live does not claim and that were neither stored nor
// revalidated within grace. grace covers the time between a Freeze and the
// record that makes its digest live; an hour is plenty. Revalidation records
// whose blob is gone go too.
func (s *Store) GC(ctx context.Context, live func(sha256 string) bool, grace time.Duration) (swept Swept, err error) {
	if err := s.sweepOrphans(); err != nil {
		return swept, err
	}
	lock := flock.New(filepath.Join(s.dir, "lock"))
	if err := lock.Lock(); err != nil {
		return swept, storageError(s.dir, err)
	}
	defer lock.Close()
	before := time.Now().Add(-grace)
	err = filepath.WalkDir(filepath.Join(s.dir, "sha256"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil || live(d.Name()) || info.ModTime().After(before) {
			return err
		}
		swept.Blobs++
		swept.Bytes += info.Size()
		return os.Remove(path)
	})
	return swept, storageError(s.dir, errors.Join(err, s.sweepRecords()))
}

// sweepOrphans removes temporary files whose writer is gone: nobody holds their
// lock. A store that is being swept by another process is left to it.
func (s *Store) sweepOrphans() error {
	lock := flock.New(filepath.Join(s.dir, "lock"))
	ok, err := lock.TryLock()
	if err != nil {
		return storageError(s.dir, err)
	}
	if !ok {
		return nil
	}
	defer lock.Close()
	return storageError(s.dir, removeUnlocked(filepath.Join(s.dir, "tmp", "*")))
}

// removeUnlocked removes the files matching pattern that nobody has locked.
func removeUnlocked(pattern string) error {
	files, err := filepath.Glob(pattern)
	for _, file := range files {
		held := flock.New(file, flock.SetFlag(os.O_RDWR))
		ok, lockErr := held.TryLock()
		if lockErr == nil && ok {
			lockErr = os.Remove(file)
		}
		_ = held.Close()
		if lockErr != nil && !errors.Is(lockErr, fs.ErrNotExist) {
			err = errors.Join(err, lockErr)
		}
	}
	return err
}

// sweepRecords removes revalidation records without their blob.
func (s *Store) sweepRecords() error {
	files, err := filepath.Glob(filepath.Join(s.dir, "http", "*.json"))
	for _, file := range files {
		r, ok := readRecord(file)
		if ok {
			if _, statErr := os.Stat(s.path(r.SHA256)); statErr == nil {
				continue
			}
		}
		if rmErr := os.Remove(file); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			err = errors.Join(err, rmErr)
		}
	}
	return err
}
