package layer

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"goldsmith/internal/arm"
)

// Limits say what garbage collection keeps.
type Limits struct {
	MaxAge   time.Duration // a layer unused for longer goes; 0 keeps all ages
	MaxBytes int64         // beyond this the longest unused go; 0 for no limit
	// Room is how many bytes are to become free in any case, of the longest unused.
	Room int64
	// Keep spares a layer whatever its age; nil spares none.
	Keep func(Record) bool
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
			tooMuch := l.MaxBytes > 0 && total > l.MaxBytes || freed < l.Room
			_, lost := os.Stat(f.Path(r.ID, "")) // somebody deleted its files
			if (!tooOld && !tooMuch && lost == nil) || (l.Keep != nil && l.Keep(r)) {
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
