package build

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"goldsmith/internal/run"
)

// inflight are the steps that a run is about to run, claimed among all processes
// of the data directory: each is a byte of one file, locked by its run. The
// kernel gives them back however the process ends.
type inflight struct{ file *os.File }

// openInflight opens the file of claims.
func (e *Engine) openInflight() (*inflight, error) {
	f, err := os.OpenFile(filepath.Join(e.dir, "locks", "steps"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the steps in flight: %w", err)
	}
	return &inflight{f}, nil
}

// place is the byte that stands for a key.
func place(key string) (int64, error) {
	sum, err := hex.DecodeString(key)
	if err != nil || len(sum) < 8 {
		return 0, fmt.Errorf("%q is no layer key", key)
	}
	var n int64
	for _, c := range sum[:8] {
		n = n<<8 | int64(c)
	}
	return n & (1<<62 - 1), nil
}

// set locks (or with unix.F_UNLCK unlocks) the byte of a key; ok is false when
// somebody else has it.
func (f *inflight) set(key string, kind int16) (ok bool, err error) {
	at, err := place(key)
	if err != nil {
		return false, err
	}
	lock := unix.Flock_t{Type: kind, Whence: io.SeekStart, Start: at, Len: 1}
	err = unix.FcntlFlock(f.file.Fd(), unix.F_OFD_SETLK, &lock)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("claim a step: %w", err)
	}
	return true, nil
}

// claim locks all keys, or none: held is then the index of the last one that
// somebody else has. Keys are chained, so whoever has one has those before it
// that are still to run.
func (f *inflight) claim(keys []string) (ok bool, held int, err error) {
	for i, key := range keys {
		ok, err := f.set(key, unix.F_WRLCK)
		if err != nil {
			return false, 0, err
		}
		if ok {
			continue
		}
		held = i
		for j := i + 1; j < len(keys); j++ {
			free, err := f.set(keys[j], unix.F_WRLCK)
			if err != nil {
				return false, 0, err
			}
			if !free {
				held = j
			}
		}
		return false, held, f.release(keys)
	}
	return true, 0, nil
}

// release unlocks keys; those that are not locked stay as they are.
func (f *inflight) release(keys []string) error {
	var errs []error
	for _, key := range keys {
		_, err := f.set(key, unix.F_UNLCK)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// wait blocks until nobody has the key.
func (f *inflight) wait(ctx context.Context, key string) error {
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		ok, err := f.set(key, unix.F_WRLCK)
		if err != nil {
			return err
		}
		if ok {
			return f.release([]string{key})
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (f *inflight) close() error { return f.file.Close() }

// waitersDir holds a file for each run that waits for steps of another: the keys
// of its plan. Whoever runs these steps saves its memory where the plans part.
func (e *Engine) waitersDir() string { return filepath.Join(e.dir, "locks", "waiting") }

// claimSteps claims the steps that the run would run. While another run has some
// of them it waits for the last one that both share, and looks again.
func (b *builder) claimSteps(ctx context.Context, from int) (waited bool, err error) {
	if b.claims == nil {
		if b.claims, err = b.engine.openInflight(); err != nil {
			return false, err
		}
	}
	keys := b.keys.Steps[from:]
	ok, held, err := b.claims.claim(keys)
	if err != nil || ok {
		b.claimed = from
		return false, err
	}
	note := filepath.Join(b.engine.waitersDir(), b.active.id())
	if err := os.MkdirAll(b.engine.waitersDir(), 0o700); err != nil {
		return false, fmt.Errorf("note what the run waits for: %w", err)
	}
	undo := run.Undo{Kind: undoDir, Target: filepath.Join("locks", "waiting", b.active.id())}
	if err := b.undo.push(ctx, undo); err != nil {
		return false, err
	}
	text, err := json.Marshal(b.keys.Steps)
	if err != nil {
		return false, err
	}
	if err := os.WriteFile(note, text, 0o600); err != nil {
		return false, fmt.Errorf("note what the run waits for: %w", err)
	}
	b.decide("another build runs the same steps up to %d %q; waiting for it", from+held+1, b.plan.Steps[from+held].Name)
	if err := b.claims.wait(ctx, keys[held]); err != nil {
		return true, err
	}
	return true, errors.Join(os.Remove(note), b.undo.drop(ctx, undo))
}

// releaseSteps lets other builds have the steps up to done, which they can go on
// from now.
func (b *builder) releaseSteps(done int) error {
	if b.claims == nil || done <= b.claimed {
		return nil
	}
	err := b.claims.release(b.keys.Steps[b.claimed:done])
	b.claimed = done
	return err
}

// awaited reports whether a run waits for the boundary behind step i and parts
// from this one there.
func (b *builder) awaited(i int) bool {
	entries, err := os.ReadDir(b.engine.waitersDir())
	if err != nil {
		return false // nobody ever waited
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(b.engine.waitersDir(), entry.Name()))
		var keys []string
		if err != nil || json.Unmarshal(text, &keys) != nil || len(keys) <= i || keys[i] != b.keys.Steps[i] {
			continue
		}
		if i+1 == len(b.keys.Steps) || i+1 == len(keys) || keys[i+1] != b.keys.Steps[i+1] {
			return true
		}
	}
	return false
}
