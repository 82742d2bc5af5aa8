package linuxguest

import (
	"fmt"
	"io"
)

// archive writes a cpio archive of the kind that Linux takes as an initial RAM
// file system ("newc"; the kernel's
// Documentation/driver-api/early-userspace/buffer-format.rst). Errors stick until
// close.
type archive struct {
	w   io.Writer
	n   int // entries so far, for inode numbers
	err error
}

// File types of an entry's mode.
const (
	modeDir  = 0o040000
	modeFile = 0o100000
)

// dir adds a directory.
func (a *archive) dir(name string) { a.entry(name, modeDir|0o755, nil) }

// file adds a regular file with permissions perm.
func (a *archive) file(name string, perm uint32, content []byte) {
	a.entry(name, modeFile|perm, content)
}

// close ends the archive; it does not close the writer.
func (a *archive) close() error {
	a.entry("TRAILER!!!", 0, nil)
	return a.err
}

func (a *archive) entry(name string, mode uint32, content []byte) {
	a.n++
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%s\x00",
		a.n, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name)+1, 0, name)
	a.padded([]byte(header))
	a.padded(content)
}

// padded writes b and fills up to a multiple of four bytes.
func (a *archive) padded(b []byte) {
	if a.err == nil {
		_, a.err = a.w.Write(append(b[:len(b):len(b)], make([]byte, -len(b)&3)...))
	}
}
