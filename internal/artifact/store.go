package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/gofrs/flock"

	"goldsmith/internal/arm"
)

// Store keeps frozen content by its SHA-256 in one directory:
//
//	sha256/ab/abcd…   content, read-only
//	tmp/              content being written, each file locked by its writer
//	http/             what revalidates a URI
//	lock              shared by writers while they commit, exclusive for sweeping
//
// Several processes may use one directory at once.
type Store struct{ dir string }

// Blob is one stored content.
type Blob struct {
	SHA256 string // lower-case hex
	Size   int64  // bytes
	Path   string // absolute; never changes while the blob lives
}

// Swept is what a GC removed.
type Swept struct {
	Blobs int
	Bytes int64
}

// OpenStore opens the store in dir, making it if needed, and removes what
// writers that died left behind.
func OpenStore(dir string) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, arm.Errorf(arm.CodeUsage, "the artifact directory cannot be located: %w", err).At(dir)
	}
	for _, sub := range []string{"sha256", "tmp", "http"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, storageError(dir, err)
		}
	}
	s := &Store{dir: dir}
	return s, s.sweepOrphans()
}

// Put reads r to its end and stores it. With want set, content of another
// SHA-256 is CodeDigestMismatch and nothing is kept. name says in errors what r
// is. An error of r is returned as it came.
func (s *Store) Put(ctx context.Context, name string, r io.Reader, want string) (blob Blob, err error) {
	tmp, release, err := s.create()
	if err != nil {
		return Blob{}, err
	}
	defer release()
	h := sha256.New()
	w := &storing{w: tmp, dir: s.dir}
	size, err := io.Copy(io.MultiWriter(w, h), &cancelable{ctx: ctx, r: r})
	if err != nil {
		return Blob{}, err
	}
	got := hex.EncodeToString(h.Sum(nil))
	if want != "" && got != want {
		return Blob{}, mismatch(name, "sha256", got, want)
	}
	if err := errors.Join(tmp.Chmod(0o444), tmp.Sync()); err != nil {
		return Blob{}, storageError(s.dir, err)
	}
	blob = Blob{SHA256: got, Size: size, Path: s.path(got)}
	return blob, s.shared(func() error { return commit(tmp.Name(), blob.Path) })
}

// commit moves a finished file to its place, surviving a power cut.
func commit(tmp, path string) error {
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	now := time.Now() // GC's grace counts from here, not from the first byte
	if err := os.Chtimes(tmp, now, now); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := syncDir(d); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// create makes a temporary file that no sweep takes while this process holds it.
// release ends that and removes the file unless it was committed.
func (s *Store) create() (tmp *os.File, release func(), err error) {
	var lock *flock.Flock
	err = s.shared(func() error {
		if tmp, err = os.CreateTemp(filepath.Join(s.dir, "tmp"), "put-"); err != nil {
			return err
		}
		lock = flock.New(tmp.Name(), flock.SetFlag(os.O_RDWR))
		if err := lock.Lock(); err != nil {
			return errors.Join(err, tmp.Close(), os.Remove(tmp.Name()))
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return tmp, func() {
		// After a commit the name is gone; otherwise the next sweep gets what
		// cannot be removed here.
		_ = os.Remove(tmp.Name())
		_ = lock.Close()
		_ = tmp.Close()
	}, nil
}

// shared runs f while no sweep runs. It does not wait on other writers.
func (s *Store) shared(f func() error) error {
	lock := flock.New(filepath.Join(s.dir, "lock"))
	if err := lock.RLock(); err != nil {
		return storageError(s.dir, err)
	}
	defer lock.Close()
	if err := f(); err != nil {
		return storageError(s.dir, err)
	}
	return nil
}

var hexDigest = regexp.MustCompile(`^[0-9a-f]{64}$`)

func (s *Store) path(digest string) string {
	return filepath.Join(s.dir, "sha256", digest[:2], digest)
}

// Open verifies the content with the given SHA-256 and returns it, positioned at
// its start. Missing content is CodeNotFound, changed content CodeCorrupt.
func (s *Store) Open(digest string) (*os.File, error) {
	if !hexDigest.MatchString(digest) {
		return nil, arm.Errorf(arm.CodeNotFound, "%q is not a lower-case sha256", digest)
	}
	f, err := os.Open(s.path(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, arm.Errorf(arm.CodeNotFound, "artifact sha256 %s is not in the store; submit the build again to fetch it: %w", digest, err)
	}
	if err != nil {
		return nil, storageError(s.dir, err)
	}
	err = Digest{Algorithm: "sha256", Hex: digest}.Check(s.path(digest), f)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		return nil, arm.Errorf(arm.CodeCorrupt, "a stored artifact is damaged; submit the build again to replace it: %w", err)
	}
	return f, nil
}

// touch verifies digest and renews its grace.
func (s *Store) touch(digest string) (blob Blob, err error) {
	err = s.shared(func() error {
		f, err := s.Open(digest)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		blob = Blob{SHA256: digest, Size: info.Size(), Path: s.path(digest)}
		now := time.Now()
		return os.Chtimes(blob.Path, now, now)
	})
	return blob, err
}

// storing marks write errors, so that they are not taken for read errors.
type storing struct {
	w   io.Writer
	dir string
}

func (s *storing) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil {
		err = storageError(s.dir, err)
	}
	return n, err
}

// storageError codes an error of the local disk.
func storageError(dir string, err error) error {
	var e *arm.Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return arm.Errorf(arm.CodeNoSpace, "the disk is full; free some space or move the data directory: %w", err).At(dir)
	}
	return arm.Errorf(arm.CodeInternal, "the directory cannot be used: %w", err).At(dir)
}

// cancelable ends a copy between two reads when ctx is done.
type cancelable struct {
	ctx context.Context
	r   io.Reader
}

func (c *cancelable) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, arm.Errorf(arm.CodeCanceled, "reading was cancelled: %w", err)
	}
	n, err := c.r.Read(p)
	if err != nil && err != io.EOF {
		err = fmt.Errorf("reading failed: %w", err)
	}
	return n, err
}
