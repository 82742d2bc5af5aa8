package layer

import (
	"context"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
)

// Names of the files of a layer's directory. A disk layer has only DiskFile.
const (
	DiskFile  = "disk.qcow2" // overlay over the layer below, or over the base disk
	RAMFile   = "ram"        // guest memory, mapped privately by every restore
	StateFile = "state"      // device state
	VarsFile  = "vars.fd"    // UEFI variables
)

// Files is the directory of layers: one directory per layer, named by its id,
// that never moves, so that overlays may name the layer below by relative path.
type Files struct {
	dir   string
	index Index
}

// NewFiles is the layers under dir, which is made for its owner alone (layers hold
// what builds brought in), with their records in index.
func NewFiles(dir string, index Index) (*Files, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the layer directory: %w", err)
	}
	return &Files{dir: dir, index: index}, nil
}

// NewID is the id of a layer yet to be made.
func NewID() string { return uuid.NewString() }

// Create makes the directory of a new layer. The directory of all layers may have
// been deleted since it was opened: they are a cache.
func (f *Files) Create(id string) error {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return fmt.Errorf("make the layer directory: %w", err)
	}
	if err := os.Mkdir(filepath.Join(f.dir, id), 0o700); err != nil {
		return fmt.Errorf("make layer %s: %w", id, err)
	}
	return nil
}

// Path is the path of one of a layer's files.
func (f *Files) Path(id, file string) string { return filepath.Join(f.dir, id, file) }

// Relative is how an overlay in one layer's directory names the disk of another.
func Relative(id string) string { return filepath.Join("..", id, DiskFile) }

// Commit seals a layer: its files become read-only, what they hold is noted in
// its manifest, and then its record is inserted. A layer of the same key that was
// committed before since gives its key up: the caller has decided not to use it.
// One whose key another writer committed meanwhile is kept under no key: work
// already stands on it.
func (f *Files) Commit(ctx context.Context, r Record, m Manifest, since time.Time) (Record, error) {
	dir := filepath.Join(f.dir, r.ID)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return r, fmt.Errorf("seal layer %s: %w", r.ID, err)
	}
	r.Bytes, m.Files = 0, map[string]File{}
	for _, e := range entries {
		occupied, file, err := seal(dir, e.Name())
		if err != nil {
			return r, fmt.Errorf("seal layer %s: %w", r.ID, err)
		}
		r.Bytes += occupied
		m.Files[e.Name()] = file
	}
	if r.Manifest, err = m.Encode(); err != nil {
		return r, fmt.Errorf("encode the manifest of a layer: %w", err)
	}
	stored, won, err := f.index.Insert(ctx, r)
	if err == nil && !won && stored.CreatedAt.Before(since) {
		if err = f.index.Forget(ctx, stored.ID); err == nil || arm.IsCode(err, arm.CodeNotFound) {
			stored, won, err = f.index.Insert(ctx, r)
		}
	}
	if err == nil && !won {
		r.Key = ""
		stored, _, err = f.index.Insert(ctx, r)
	}
	if err != nil {
		return r, fmt.Errorf("commit layer %s: %w", r.ID, err)
	}
	return stored, nil
}

// seal gives a file its final mode and returns what it occupies, in bytes, and
// what it must still be later.
func seal(dir, name string) (occupied int64, file File, err error) {
	path := filepath.Join(dir, name)
	mode := os.FileMode(0o444)
	if name == RAMFile {
		mode = 0o600 // QEMU opens it for writing, though it maps it privately
	}
	if err := os.Chmod(path, mode); err != nil {
		return 0, file, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, file, err
	}
	file.Bytes = info.Size()
	if name != RAMFile { // large, and mostly never read
		if file.Sum, err = checksum(path); err != nil {
			return 0, file, err
		}
	}
	return Occupied(info), file, nil
}

// castagnoli is the polynomial that processors have an instruction for.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// checksum is the CRC-32C of a file's content. It finds damage, not forgery:
// whoever can write here owns the builds.
func checksum(path string) (string, error) {
	in, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer in.Close()
	sum := crc32.New(castagnoli)
	if _, err := io.CopyBuffer(struct{ io.Writer }{sum}, in, make([]byte, 1<<20)); err != nil {
		return "", err
	}
	return fmt.Sprintf("%08x", sum.Sum32()), nil
}

// Occupied is what a file takes of its disk, in bytes; holes take nothing.
func Occupied(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}

// Intact reports whether the files that a record promises are there, in full
// length.
func (f *Files) Intact(r Record) error { return f.check(r, false) }

// Verify is Intact with a look at every byte that has a checksum.
func (f *Files) Verify(r Record) error { return f.check(r, true) }

func (f *Files) check(r Record, content bool) error {
	m, err := ManifestOf(r)
	if err != nil {
		return err
	}
	if len(m.Files) == 0 {
		return arm.Errorf(arm.CodeCorrupt, "layer %s cannot be checked: its manifest names no files, as those of earlier versions do", r.ID)
	}
	for name, want := range m.Files {
		path := f.Path(r.ID, name)
		info, err := os.Stat(path)
		if err != nil {
			return arm.Errorf(arm.CodeCorrupt, "layer %s is damaged: %w", r.ID, err)
		}
		if info.Size() != want.Bytes {
			return arm.Errorf(arm.CodeCorrupt, "layer %s is damaged: %s has %d bytes instead of %d", r.ID, name, info.Size(), want.Bytes)
		}
		if !content || want.Sum == "" {
			continue
		}
		sum, err := checksum(path)
		if err != nil {
			return arm.Errorf(arm.CodeCorrupt, "layer %s is damaged: %w", r.ID, err)
		}
		if sum != want.Sum {
			return arm.Errorf(arm.CodeCorrupt, "layer %s is damaged: the content of %s is not what was sealed", r.ID, name)
		}
	}
	return nil
}

// Remove deletes a layer that nothing needs: its record, then its files.
func (f *Files) Remove(ctx context.Context, id string) error {
	if err := f.index.Delete(ctx, id); err != nil && !arm.IsCode(err, arm.CodeNotFound) {
		return err
	}
	return os.RemoveAll(filepath.Join(f.dir, id))
}
