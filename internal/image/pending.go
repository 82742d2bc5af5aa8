package image

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	"golang.org/x/sys/unix"
)

// pendingFile is a file that gets its name only when it is complete. Until then
// it has none where the file system can do that, so that a killed process leaves
// nothing behind, unless it is killed in the moment in which it replaces a file.
type pendingFile struct {
	*os.File
	path string // where it will be
	temp string // its temporary name, "" for none
}

// newPending begins a file that will be at path. Its permissions are what the
// umask leaves of rw-rw-rw-.
func newPending(path string) (*pendingFile, error) {
	f, err := nameless(filepath.Dir(path), 0o666)
	if err == nil {
		return &pendingFile{File: f, path: path}, nil
	}
	if !errors.Is(err, errors.ErrUnsupported) {
		return nil, err
	}
	temp := temporaryName(path)
	f, err = os.OpenFile(temp, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	return &pendingFile{File: f, path: path, temp: temp}, nil
}

// nameless makes a file without a name in dir. errors.ErrUnsupported tells that
// the file system cannot.
func nameless(dir string, perm os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(dir, os.O_RDWR|unix.O_TMPFILE, perm)
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EISDIR) || errors.Is(err, unix.EINVAL) {
		return nil, fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return f, err
}

// newTemporary makes a file in dir for use by this process and its children,
// which is gone when they have closed it.
func newTemporary(dir string) (*os.File, error) {
	f, err := nameless(dir, 0o600)
	if !errors.Is(err, errors.ErrUnsupported) {
		return f, err
	}
	if f, err = os.CreateTemp(dir, "image-*"); err != nil {
		return nil, err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func temporaryName(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+uuid.NewString()+".tmp")
}

// commit gives the file its name, replacing what has it, and closes it. durable
// forces it to the disk first. On error nothing is left.
func (p *pendingFile) commit(durable bool) (err error) {
	defer func() {
		if err != nil {
			p.discard()
		}
	}()
	if durable {
		if err := p.Sync(); err != nil {
			return err
		}
	}
	if p.temp == "" {
		err = p.link(p.path)
		if errors.Is(err, os.ErrExist) {
			// A link cannot replace a file, a rename can.
			temp := temporaryName(p.path)
			if err = p.link(temp); err == nil {
				p.temp = temp
			}
		}
		if err != nil {
			return err
		}
	}
	if p.temp != "" {
		if err := os.Rename(p.temp, p.path); err != nil {
			return err
		}
		p.temp = ""
	}
	if durable {
		if err := syncPath(filepath.Dir(p.path), (*os.File).Sync); err != nil {
			return err
		}
	}
	return p.Close()
}

// link gives a file without a name one that nobody has.
func (p *pendingFile) link(name string) error {
	if err := unix.Linkat(unix.AT_FDCWD, fmt.Sprintf("/proc/self/fd/%d", p.Fd()), unix.AT_FDCWD, name, unix.AT_SYMLINK_FOLLOW); err != nil {
		return &os.LinkError{Op: "link", Old: "a new file", New: name, Err: err}
	}
	return nil
}

// discard drops the file. It does nothing to a committed one.
func (p *pendingFile) discard() {
	if p.temp != "" {
		os.Remove(p.temp)
	}
	p.Close()
}
