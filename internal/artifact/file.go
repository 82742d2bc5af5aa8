package artifact

import (
	"errors"
	"io/fs"
	"os"
	"syscall"

	"goldsmith/internal/arm"
)

// openFile opens a regular file, in a mirror's directory without leaving it.
func openFile(loc location, max int64) (*content, error) {
	// O_NONBLOCK: opening a FIFO must not hang.
	const flags = os.O_RDONLY | syscall.O_NONBLOCK
	var f *os.File
	var err error
	if loc.root == "" {
		f, err = os.OpenFile(loc.path, flags, 0)
	} else {
		root, rootErr := os.OpenRoot(loc.root)
		if rootErr != nil {
			return nil, arm.Errorf(arm.CodeFetchFailed, "the mirror directory cannot be opened: %w", rootErr)
		}
		f, err = root.OpenFile(loc.path, flags, 0)
		err = errors.Join(err, root.Close())
	}
	if errors.Is(err, fs.ErrNotExist) && loc.root != "" {
		return nil, arm.Errorf(arm.CodeFetchFailed, "the mirror directory %s does not hold it: %w", loc.root, err)
	}
	if err != nil {
		return nil, arm.Errorf(arm.CodeFetchFailed, "the file cannot be opened: %w", err)
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = arm.Errorf(arm.CodeFetchFailed, "%s is not a regular file", loc.path)
	case info.Size() > max:
		err = tooLarge(info.Size(), max)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &content{
		Reader:   &limited{r: f, left: max, max: max},
		size:     info.Size(),
		modified: info.ModTime(),
		close:    func() { _ = f.Close() },
	}, nil
}
