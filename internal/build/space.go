package build

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// maxReserve bounds what the cache leaves free of a large file system, in bytes; it is
// what a first build of a small image takes.
const maxReserve = 8 << 30

// Space is what a file system has, in bytes.
type Space struct {
	Free int64 // for this process
	All  int64
}

// spaceOf is the space of the file system that dir is on.
func spaceOf(dir string) (Space, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return Space{}, fmt.Errorf("look at the free space of %s: %w", dir, err)
	}
	return Space{Free: int64(fs.Bavail) * fs.Bsize, All: int64(fs.Blocks) * fs.Bsize}, nil
}

// lacking is how many bytes are missing from what the cache leaves free for everything
// else: a twentieth of the file system, and maxReserve at most.
func (s Space) lacking() int64 {
	return max(0, min(s.All/20, maxReserve)-s.Free)
}
