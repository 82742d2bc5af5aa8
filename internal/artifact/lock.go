package artifact

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/gofrs/flock"
)

// lockRetry is how often a waiter looks again: flock(2) cannot be waited for
// and cancelled at once.
const lockRetry = 200 * time.Millisecond

// Lock is a lock between processes, held on a file that exists while the lock
// is held or waited for.
type Lock struct{ file *flock.Flock }

// TakeLock takes the lock named path, calling waiting once if another holds it.
// The kernel releases the lock of a process that dies. The error is the
// context's when that ends first.
func TakeLock(ctx context.Context, path string, waiting func()) (*Lock, error) {
	for {
		file := flock.New(path)
		ok, err := file.TryLock()
		if err == nil && !ok {
			if waiting != nil {
				waiting()
				waiting = nil
			}
			_, err = file.TryLockContext(ctx, lockRetry)
		}
		if err != nil {
			return nil, errors.Join(err, file.Close())
		}
		// The file is removed while held, so what was locked must still be what
		// path names.
		held, err := file.Stat()
		named, statErr := os.Stat(path)
		if err == nil && statErr == nil && os.SameFile(held, named) {
			return &Lock{file: file}, nil
		}
		if err := errors.Join(err, file.Close()); err != nil {
			return nil, err
		}
	}
}

// TryLock is TakeLock without waiting; nil when another holds the lock.
func TryLock(path string) (*Lock, error) {
	file := flock.New(path)
	if ok, err := file.TryLock(); err != nil || !ok {
		return nil, errors.Join(err, file.Close())
	}
	return &Lock{file: file}, nil
}

// Release lets go and removes the file.
func (l *Lock) Release() error { return errors.Join(os.Remove(l.file.Path()), l.file.Close()) }

// releaseKeeping lets go but keeps the file.
func (l *Lock) releaseKeeping() error { return l.file.Close() }
