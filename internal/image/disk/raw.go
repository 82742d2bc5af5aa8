package disk

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// Raw is a raw disk image in a file, possibly followed by bytes that are not
// part of the disk (the footer of a fixed VHD).
type Raw struct {
	file *os.File
	data int64 // bytes of the file that are disk content
	size int64 // data rounded up to whole sectors
}

var _ Reader = (*Raw)(nil)

// OpenRaw opens the raw disk image at path for reading. A size that is not a
// multiple of SectorSize is rounded up; the rest reads as zeros.
func OpenRaw(path string) (*Raw, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("opening the raw disk image: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("opening the raw disk image: %w", err)
	}
	if !info.Mode().IsRegular() {
		f.Close()
		return nil, fmt.Errorf("opening the raw disk image: %s is not a regular file", path)
	}
	return NewRaw(f, info.Size()), nil
}

// NewRaw reads the first size bytes of f as a disk. Closing the disk closes f.
func NewRaw(f *os.File, size int64) *Raw {
	return &Raw{file: f, data: size, size: RoundUp(size, SectorSize)}
}

// Size is the size of the disk in bytes.
func (r *Raw) Size() int64 { return r.size }

// Close closes the file.
func (r *Raw) Close() error { return r.file.Close() }

// ReadAt implements io.ReaderAt.
func (r *Raw) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 || off >= r.size {
		return 0, io.EOF
	}
	var end error
	if rest := r.size - off; int64(len(p)) > rest {
		p, end = p[:rest], io.EOF
	}
	inFile := p[:max(0, min(int64(len(p)), r.data-off))]
	if n, err := r.file.ReadAt(inFile, off); n < len(inFile) {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("reading %s at %d: the file became shorter: %w", r.file.Name(), off, io.ErrUnexpectedEOF)
		}
		return n, err
	}
	clear(p[len(inFile):])
	return len(p), end
}

// Extents are the parts of the file that its file system has allocated. The
// whole disk is one extent where the file system cannot tell.
func (r *Raw) Extents(ctx context.Context) ([]Extent, error) {
	var extents []Extent
	for off := int64(0); off < r.data; {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		start, err := unix.Seek(int(r.file.Fd()), off, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO): // only a hole is left
			return extents, nil
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
			return []Extent{{Start: 0, Length: r.size}}, nil
		case err != nil:
			return nil, fmt.Errorf("looking for data in %s: %w", r.file.Name(), err)
		}
		if start >= r.data {
			return extents, nil
		}
		end, err := unix.Seek(int(r.file.Fd()), start, unix.SEEK_HOLE)
		if err != nil {
			return nil, fmt.Errorf("looking for holes in %s: %w", r.file.Name(), err)
		}
		end = min(end, r.data)
		if end <= start { // the file is being cut while it is read
			return nil, fmt.Errorf("reading %s: %w", r.file.Name(), io.ErrUnexpectedEOF)
		}
		extents = append(extents, Extent{Start: start, Length: end - start})
		off = end
	}
	return extents, nil
}
