package queue

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"

	"goldsmith/internal/arm"
	"goldsmith/internal/run"
)

// Locks tell on one host which runs have a living owner: an owner holds the file
// lock of its run, and the kernel gives it back when the owner dies, however it
// dies. Dir has one directory per run.
type Locks struct {
	Dir string
}

// RunLock is the held lock of one run.
type RunLock struct {
	ID   string // the run's id
	file *flock.Flock
}

// dir is the directory of a run.
func (l Locks) dir(id string) string { return filepath.Join(l.Dir, id) }

// Hold takes the lock of a run, and makes the run's directory when it is
// missing. It does not wait: CodeConflict when somebody else holds it.
func (l Locks) Hold(id string) (*RunLock, error) {
	if !run.ValidID(id) {
		return nil, arm.Errorf(arm.CodeInternal, "%q is not a run id", id)
	}
	if err := os.MkdirAll(l.dir(id), 0o700); err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "make the run's directory: %w", err).At(id)
	}
	path := filepath.Join(l.dir(id), "lock")
	for {
		file := flock.New(path, flock.SetPermissions(0o600))
		ok, err := file.TryLock()
		if err != nil {
			return nil, arm.Errorf(arm.CodeInternal, "lock the run: %w", errors.Join(err, file.Close())).At(id)
		}
		if !ok {
			_ = file.Close() // nothing is held, so there is nothing to lose
			return nil, arm.Errorf(arm.CodeConflict, "the run is worked by another process").At(id)
		}
		// The directory may have been removed and made anew meanwhile; a lock on a
		// file without a name excludes nobody.
		same, err := isFileAt(file, path)
		if same {
			return &RunLock{ID: id, file: file}, nil
		}
		err = errors.Join(err, file.Close())
		if err != nil {
			return nil, arm.Errorf(arm.CodeInternal, "lock the run: %w", err).At(id)
		}
	}
}

func isFileAt(file *flock.Flock, path string) (bool, error) {
	locked, err := file.Stat()
	if err != nil {
		return false, err
	}
	named, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(locked, named), err
}

// Release gives the lock back. Releasing twice is releasing once.
func (l *RunLock) Release() error {
	if err := l.file.Close(); err != nil {
		return arm.Errorf(arm.CodeInternal, "unlock the run: %w", err).At(l.ID)
	}
	return nil
}
