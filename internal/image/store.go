package image

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"goldsmith/internal/arm"
)

// Directories of a store.
const (
	chunksDir  = "chunks"  // ab/<digest>: stored chunks
	indexesDir = "indexes" // <digest>: indexes
	tmpDir     = "tmp"     // files being written
	pinsDir    = "pins"    // one locked file per reader or writer at work
	trashDir   = "trash"   // being removed, see discard
	corruptDir = "corrupt" // failed verification, kept for a look
)

// Store keeps images in a directory. Any number of processes can use one
// directory at the same time. A Store holds no open files and needs no closing.
type Store struct {
	dir     string
	workers int
	pool    sync.Pool // of *scratch
}

// Open opens the image store in dir, and makes it when it does not exist.
func Open(dir string) (*Store, error) {
	for _, sub := range []string{chunksDir, indexesDir, tmpDir, pinsDir, trashDir, corruptDir} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fileError(err, "opening the image store in %s", dir)
		}
	}
	s := &Store{dir: dir, workers: max(runtime.GOMAXPROCS(0), 2)}
	s.pool.New = func() any { return newScratch() }
	return s, nil
}

// Dir is the directory the store is in.
func (s *Store) Dir() string { return s.dir }

func (s *Store) chunkPath(d Digest) string {
	name := d.String()
	return filepath.Join(s.dir, chunksDir, name[:2], name)
}

func (s *Store) indexPath(d Digest) string {
	return filepath.Join(s.dir, indexesDir, d.String())
}

// scratch borrows a worker's memory; release gives it back.
func (s *Store) scratch() *scratch { return s.pool.Get().(*scratch) }

func (s *Store) release(w *scratch) { s.pool.Put(w) }

// fileError gives an error of the file system its code and says what was being
// done.
func fileError(err error, doing string, args ...any) error {
	what := fmt.Sprintf(doing, args...)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		return arm.Errorf(arm.CodeNoSpace, "%s: %w: free some space there, or use a data directory on a larger disk", what, err)
	}
	return arm.Errorf(arm.CodeInternal, "%s: %w", what, err)
}

// touch makes a stored chunk or index young, so that garbage collection spares
// it, and reports whether it was there and stays.
func touch(path string) bool {
	now := time.Now()
	if os.Chtimes(path, now, now) != nil {
		return false
	}
	// The file may have lost its name before it got its time, and be gone for good:
	// the system finds the file first and changes it then. If the name is there now,
	// garbage collection will find what it took away young and put it back.
	_, err := os.Lstat(path)
	return err == nil
}

// writeNew puts a file in its place under a temporary name and a rename, so
// that it is there whole or not at all. It returns the file's time, which no
// other writer of the same file shares.
func (s *Store) writeNew(path string, content []byte, sync bool) (modified time.Time, err error) {
	f, err := os.CreateTemp(filepath.Join(s.dir, tmpDir), "new-*")
	if err != nil {
		return time.Time{}, err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	if _, err = f.Write(content); err != nil {
		return time.Time{}, err
	}
	if sync {
		if err = f.Sync(); err != nil {
			return time.Time{}, err
		}
	}
	if err = f.Close(); err != nil {
		return time.Time{}, err
	}
	// The file system's own clock ticks too slowly to tell two writers apart.
	modified = time.Now()
	if err = os.Chtimes(f.Name(), modified, modified); err != nil {
		return time.Time{}, err
	}
	err = os.Rename(f.Name(), path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.Mkdir(filepath.Dir(path), 0o700); err == nil || errors.Is(err, fs.ErrExist) {
			err = os.Rename(f.Name(), path)
		}
	}
	return modified, err
}

// chunk reads chunk d into plain, which has ChunkSize bytes, and verifies it.
// The stored form it returns lies in w and is valid until w is used again.
func (s *Store) chunk(d Digest, plain []byte, w *scratch) (packed []byte, err error) {
	path := s.chunkPath(d)
	// A second look tells a damaged file from a disturbed reading of it.
	for range 2 {
		if packed, err = s.tryChunk(path, d, plain, w); !errors.Is(err, errDamaged) {
			break
		}
	}
	return packed, s.chunkError(err, d)
}

// proveChunk is chunk with the content hashed too.
func (s *Store) proveChunk(d Digest, w *scratch) (packed []byte, err error) {
	if packed, err = s.chunk(d, w.plain, w); err != nil {
		return nil, err
	}
	if got := DigestOf(w.plain); got != d {
		return nil, s.chunkError(fmt.Errorf("%w: its content has the digest %s", errDamaged, got), d)
	}
	return packed, nil
}

// chunkError tells what a failure to read chunk d means, and takes a damaged
// file out of use.
func (s *Store) chunkError(err error, d Digest) error {
	path := s.chunkPath(d)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrNotExist):
		return corrupt(path, "chunk "+d.String()+" is missing", nil)
	case errors.Is(err, errDamaged):
		s.quarantine(path)
		return corrupt(path, "chunk "+d.String()+" failed verification", err)
	}
	return fileError(err, "reading a chunk of the image store")
}

func (s *Store) tryChunk(path string, d Digest, plain []byte, w *scratch) ([]byte, error) {
	f, err := s.openKept(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	packed, err := w.readPacked(f)
	if err != nil {
		return nil, err
	}
	return packed, w.unpack(d, packed, plain)
}

// openKept opens a chunk, also in the moment between garbage collection taking
// it away and putting it back because somebody needs it.
func (s *Store) openKept(path string) (*os.File, error) {
	f, err := os.Open(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	if f, err := os.Open(s.trashPath(path)); err == nil {
		return f, nil
	}
	return os.Open(path)
}

// corrupt is the error of stored content that is not what it should be, with
// the way out of it.
func corrupt(path, what string, cause error) error {
	const wayOut = "import or build the image again, which stores it anew, or copy the image from another location"
	if cause == nil {
		return arm.Errorf(arm.CodeCorrupt, "image store: %s: %s", what, wayOut).At(path)
	}
	return arm.Errorf(arm.CodeCorrupt, "image store: %s: %w: %s", what, cause, wayOut).At(path)
}

// quarantine takes a damaged file out of use, without which its content could
// never be stored again.
func (s *Store) quarantine(path string) {
	_ = os.Rename(path, filepath.Join(s.dir, corruptDir, filepath.Base(path)))
}

// index reads and verifies the index of image d. It does not protect the image
// from garbage collection.
func (s *Store) index(d Digest) (*Index, error) {
	path := s.indexPath(d)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, arm.Errorf(arm.CodeNotFound, "image %s is not in the image store %s", d, s.dir)
	}
	if err != nil {
		return nil, fileError(err, "reading an image index")
	}
	if got := DigestOf(b); got != d {
		s.quarantine(path)
		return nil, corrupt(path, "the index of image "+d.String()+" failed verification", fmt.Errorf("%w: its content has the digest %s", errDamaged, got))
	}
	x, err := ParseIndex(b)
	if err != nil {
		return nil, err
	}
	return x, nil
}

// List returns the images of the store in no particular order.
func (s *Store) List(ctx context.Context) ([]Digest, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, indexesDir))
	if err != nil {
		return nil, fileError(err, "listing the image store")
	}
	var images []Digest
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, context.Cause(ctx)
		}
		if d, err := ParseDigest(e.Name()); err == nil {
			images = append(images, d)
		}
	}
	return images, nil
}
