package recipe

import (
	"context"
	"errors"
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

// maxAge is how old a kept disk may be: an older one lacks a week of security
// updates and is made anew.
const maxAge = 7 * 24 * time.Hour

// fresh reports whether the disk at path is there and young enough.
func fresh(path string) bool {
	info, err := os.Stat(path)
	return err == nil && time.Since(info.ModTime()) < maxAge
}

// Base is the recipe's disk in the directory dir, named by its Digest, made when
// it is not there or older than a week. Several processes may ask at once: one makes it, the others
// wait. The file must not be changed.
func (r *Recipe) Base(ctx context.Context, dir string, o Options) (path string, err error) {
	digest, err := r.Digest(ctx, o)
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, digest+".raw")
	if fresh(path) {
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
	if fresh(path) {
		return path, nil // the other process made it
	}
	return path, r.Make(ctx, path, o)
}
