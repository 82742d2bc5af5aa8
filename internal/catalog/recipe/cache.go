package recipe

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
)

// lockRetry is how often a waiting process asks for another's lock: the kernel
// offers no wait that a context could end.
const lockRetry = 200 * time.Millisecond

// Base is the recipe's disk in the directory dir, named by its Digest, made when
// it is not there. Several processes may ask at once: one makes it, the others
// wait. The file must not be changed.
func (r *Recipe) Base(ctx context.Context, dir string, o Options) (path string, err error) {
	digest, err := r.Digest(ctx, o)
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, digest+".raw")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", arm.Errorf(arm.CodeInternal, "cannot make the cache of base images: %w", err)
	}
	lock := flock.New(filepath.Join(dir, digest+".lock"))
	if held, err := lock.TryLock(); err != nil {
		return "", arm.Errorf(arm.CodeInternal, "cannot lock the cache of base images: %w", err)
	} else if !held {
		if o.Events != nil {
			o.Events.Emit(event.Event{Kind: event.Info, Text: r.name + ": waiting for another process that makes it"})
		}
		if _, err := lock.TryLockContext(ctx, lockRetry); err != nil {
			return "", asArm(ctx, "waiting for another process", err)
		}
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, err // the other process made it
	}
	return path, r.Make(ctx, path, o)
}
