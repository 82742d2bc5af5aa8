package image

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/uuid"
)

// pin holds back garbage collection: while it is held, by this or another
// process, nothing that became young since the pin was made is removed. Its
// holder touches what it relies on. The lock goes with the process, so a crash
// leaves no pin behind.
type pin struct {
	path string
	lock *flock.Flock
}

func (s *Store) pin() (*pin, error) {
	// The file is locked before it gets its name among the pins, so that it is
	// never seen there without its owner.
	name := uuid.NewString()
	temporary := filepath.Join(s.dir, tmpDir, "pin-"+name)
	p := &pin{path: filepath.Join(s.dir, pinsDir, name), lock: flock.New(temporary)}
	locked, err := p.lock.TryLock()
	if err == nil && !locked {
		err = errors.New("it is locked by somebody else")
	}
	if err == nil {
		err = os.Rename(temporary, p.path)
	}
	if err != nil {
		p.lock.Close()
		os.Remove(temporary)
		return nil, fileError(err, "protecting an image from garbage collection")
	}
	return p, nil
}

func (p *pin) release() {
	os.Remove(p.path)
	p.lock.Close()
}

// oldestPin is when the oldest pin was made that is still held, now if there is
// none. Pins whose owners are gone are removed.
func (s *Store) oldestPin(now time.Time) (time.Time, error) {
	dir := filepath.Join(s.dir, pinsDir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return time.Time{}, fileError(err, "listing the image store's users")
	}
	oldest := now
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return time.Time{}, fileError(err, "listing the image store's users")
		}
		path := filepath.Join(dir, e.Name())
		lock := flock.New(path, flock.SetFlag(os.O_RDWR)) // without creating it
		locked, err := lock.TryLock()
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return time.Time{}, fileError(err, "looking at a user of the image store")
		case locked:
			os.Remove(path)
		case info.ModTime().Before(oldest):
			oldest = info.ModTime()
		}
		lock.Close()
	}
	return oldest, nil
}
