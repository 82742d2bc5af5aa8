package layer

import (
	"context"
	"errors"
	"fmt"
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

// Create makes the directory of a new layer.
func (f *Files) Create(id string) error {
	if err := os.Mkdir(filepath.Join(f.dir, id), 0o700); err != nil {
		return fmt.Errorf("make layer %s: %w", id, err)
	}
	return nil
}

// Path is the path of one of a layer's files.
func (f *Files) Path(id, file string) string { return filepath.Join(f.dir, id, file) }

// Relative is how an overlay in one layer's directory names the disk of another.
func Relative(id string) string { return filepath.Join("..", id, DiskFile) }

// Commit seals a layer: its files become read-only, and then its
// record is inserted. A layer whose key another writer committed first is kept
// under no key: work already stands on it.
func (f *Files) Commit(ctx context.Context, r Record) (Record, error) {
	dir := filepath.Join(f.dir, r.ID)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return r, fmt.Errorf("seal layer %s: %w", r.ID, err)
	}
	r.Bytes = 0
	for _, e := range entries {
		mode := os.FileMode(0o444)
		if e.Name() == RAMFile {
			mode = 0o600 // QEMU opens it for writing, though it maps it privately
		}
		n, err := seal(filepath.Join(dir, e.Name()), mode)
		if err != nil {
			return r, fmt.Errorf("seal layer %s: %w", r.ID, err)
		}
		r.Bytes += n
	}
	stored, won, err := f.index.Insert(ctx, r)
	if err != nil {
		return r, fmt.Errorf("commit layer %s: %w", r.ID, err)
	}
	if !won {
		r.Key = ""
		if stored, _, err = f.index.Insert(ctx, r); err != nil {
			return r, fmt.Errorf("commit layer %s: %w", r.ID, err)
		}
	}
	return stored, nil
}

// seal gives a file its final mode and returns what it occupies, in bytes.
func seal(path string, mode os.FileMode) (int64, error) {
	if err := os.Chmod(path, mode); err != nil {
		return 0, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return Occupied(info), nil
}

// Occupied is what a file takes of its disk, in bytes; holes take nothing.
func Occupied(info fs.FileInfo) int64 {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return st.Blocks * 512
	}
	return info.Size()
}

// Intact reports whether the files that a record promises are there.
func (f *Files) Intact(r Record) error {
	names := []string{DiskFile}
	if r.Kind == Memory {
		names = append(names, RAMFile, StateFile)
	}
	for _, name := range names {
		if _, err := os.Stat(f.Path(r.ID, name)); err != nil {
			return arm.Errorf(arm.CodeCorrupt, "layer %s is damaged: %w", r.ID, err)
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

// Limits say what garbage collection keeps.
type Limits struct {
	MaxAge   time.Duration // a layer unused for longer goes; 0 keeps all ages
	MaxBytes int64         // beyond this the longest unused go; 0 for no limit
	// Orphans is how old a directory without a record must be to go: younger ones
	// may belong to a run that has not committed them yet.
	Orphans time.Duration
}

// Collect removes layers that no run pins and no layer stands on, until the
// limits hold, and directories that were never committed.
func (f *Files) Collect(ctx context.Context, now time.Time, l Limits) (removed int, freed int64, err error) {
	all, err := f.index.List(ctx, Filter{})
	if err != nil {
		return 0, 0, err
	}
	var total int64
	known := map[string]bool{}
	for _, r := range all {
		total += r.Bytes
		known[r.ID] = true
	}
	// A layer becomes collectable when the one above it goes, hence the rounds.
	for {
		free, err := f.index.List(ctx, Filter{Collectables: true})
		if err != nil {
			return removed, freed, err
		}
		gone := 0
		for _, r := range free { // the longest unused first
			tooOld := l.MaxAge > 0 && now.Sub(r.LastUsedAt) > l.MaxAge
			tooMuch := l.MaxBytes > 0 && total > l.MaxBytes
			if !tooOld && !tooMuch {
				continue
			}
			if rerr := f.Remove(ctx, r.ID); rerr != nil {
				if arm.IsCode(rerr, arm.CodeConflict) { // pinned meanwhile
					continue
				}
				return removed, freed, rerr
			}
			total -= r.Bytes
			freed += r.Bytes
			gone++
		}
		removed += gone
		if gone == 0 {
			break
		}
	}
	return removed, freed, f.sweep(now, known, l.Orphans)
}

// sweep removes directories without a record that are older than grace.
func (f *Files) sweep(now time.Time, known map[string]bool, grace time.Duration) error {
	entries, err := os.ReadDir(f.dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) || known[e.Name()] {
			continue
		}
		if err == nil && now.Sub(info.ModTime()) > grace {
			err = os.RemoveAll(filepath.Join(f.dir, e.Name()))
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
