package image

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// fewChunks is up to how many new chunks each is forced to the disk by itself.
// Above, the file system is told to write everything at once, which is faster
// for many but has to wait for whatever else is unwritten.
const fewChunks = 128

// session is one writing of an image: it holds a pin, writes every chunk once,
// and takes back what it wrote if it fails.
type session struct {
	store *Store
	pin   *pin

	mu      sync.Mutex
	seen    map[Digest]bool
	created map[Digest]time.Time // chunks this session wrote, with their time
	bytes   int64                // stored bytes of those
}

func (s *Store) begin() (*session, error) {
	p, err := s.pin()
	if err != nil {
		return nil, err
	}
	return &session{store: s, pin: p, seen: map[Digest]bool{}, created: map[Digest]time.Time{}}, nil
}

// has reports whether the store holds chunk d already, in which case it stays.
func (t *session) has(d Digest) bool {
	t.mu.Lock()
	seen := t.seen[d]
	t.seen[d] = true
	t.mu.Unlock()
	if seen { // written, or being written by another worker of this session
		return true
	}
	path := t.store.chunkPath(d)
	return intact(path) && touch(path)
}

// write stores chunk d in its packed form. has must have been asked before.
func (t *session) write(d Digest, packed []byte) error {
	modified, err := t.store.writeNew(t.store.chunkPath(d), packed, false)
	if err != nil {
		return fileError(err, "storing a chunk in the image store %s", t.store.dir)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.created[d] = modified
	t.bytes += int64(len(packed))
	return nil
}

// publish makes the image complete: first its chunks are safe from a power
// failure, then its index appears.
func (t *session) publish(ctx context.Context, x *Index) (Digest, error) {
	encoded := x.Encode()
	d := DigestOf(encoded)
	if err := t.syncChunks(ctx); err != nil {
		return Digest{}, err
	}
	path := t.store.indexPath(d)
	if old, err := os.ReadFile(path); err == nil && DigestOf(old) == d && touch(path) {
		return d, nil
	}
	if _, err := t.store.writeNew(path, encoded, true); err != nil {
		return Digest{}, fileError(err, "storing an image index in the image store %s", t.store.dir)
	}
	if err := syncPath(filepath.Dir(path), (*os.File).Sync); err != nil {
		return Digest{}, fileError(err, "storing an image index in the image store %s", t.store.dir)
	}
	return d, nil
}

// syncChunks forces what the session wrote to the disk.
func (t *session) syncChunks(ctx context.Context) error {
	if len(t.created) == 0 {
		return nil
	}
	if len(t.created) > fewChunks {
		err := syncPath(t.store.dir, func(f *os.File) error { return unix.Syncfs(int(f.Fd())) })
		if err != nil {
			return fileError(err, "writing the image store %s to the disk", t.store.dir)
		}
		return nil
	}
	dirs := map[string]bool{filepath.Join(t.store.dir, chunksDir): true}
	for d := range t.created {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		path := t.store.chunkPath(d)
		dirs[filepath.Dir(path)] = true
		if err := syncPath(path, (*os.File).Sync); err != nil {
			return fileError(err, "writing a chunk of the image store to the disk")
		}
	}
	for dir := range dirs {
		if err := syncPath(dir, (*os.File).Sync); err != nil {
			return fileError(err, "writing the image store %s to the disk", t.store.dir)
		}
	}
	return nil
}

func syncPath(path string, sync func(*os.File) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return sync(f)
}

// end releases the session. After a failure the chunks it wrote are removed,
// except those that another writer has come to rely on meanwhile.
func (t *session) end(err error) {
	if err != nil {
		for d, modified := range t.created {
			t.store.discard(t.store.chunkPath(d), func(now time.Time) bool { return now.Equal(modified) })
		}
	}
	t.pin.release()
}

func (s *Store) trashPath(path string) string {
	return filepath.Join(s.dir, trashDir, filepath.Base(path))
}

// discard removes a file if removable agrees with the time it has, and returns
// the file's size. A writer that needs the file touches it by its name: before
// the rename here, which makes it too young to go, or after, which fails and
// makes that writer store it again. So nothing goes that somebody counts on.
func (s *Store) discard(path string, removable func(modified time.Time) bool) (size int64, gone bool) {
	info, err := os.Stat(path)
	if err != nil || !removable(info.ModTime()) {
		return 0, false
	}
	trash := s.trashPath(path)
	if os.Rename(path, trash) != nil {
		return 0, false
	}
	if info, err = os.Stat(trash); err != nil || !removable(info.ModTime()) {
		_ = os.Rename(trash, path)
		return 0, false
	}
	return info.Size(), os.Remove(trash) == nil
}
