package catalog

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sort"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/artifact"
	"goldsmith/internal/event"
)

// DiskInfo is what an import found out about a disk file.
type DiskInfo struct {
	VirtualSize int64  // bytes
	HasESP      bool   // has an EFI system partition
	Format      string // qcow2, raw, vpc, vhdx, vmdk
}

// Importer brings disk files into the image store. It inspects their headers,
// which are hostile, before anything else reads them.
type Importer interface {
	// Import stores the content of the disk image in file and returns its index
	// digest. Importing the same content again is harmless.
	Import(ctx context.Context, file string, sink event.Sink) (imageDigest string, info DiskInfo, err error)
	// Has reports whether the image is still in the store.
	Has(ctx context.Context, imageDigest string) (bool, error)
}

// Maker makes a disk image instead of downloading it.
type Maker interface {
	// Make writes a disk image to the file out, which does not exist, or leaves
	// nothing there.
	Make(ctx context.Context, out string, sink event.Sink) error
}

// MakerFunc makes a function a Maker.
type MakerFunc func(ctx context.Context, out string, sink event.Sink) error

// Make calls f.
func (f MakerFunc) Make(ctx context.Context, out string, sink event.Sink) error {
	return f(ctx, out, sink)
}

// DefaultMaxAge is how long "latest" is taken from the last look upstream.
const DefaultMaxAge = 24 * time.Hour

// Options of New.
type Options struct {
	Registry Registry
	Fetcher  *artifact.Fetcher
	Importer Importer
	Makers   map[string]Maker // by Source.Recipe
	// Dir keeps unfinished downloads, scratch files and locks; shared by all
	// processes of one data directory.
	Dir string
	// MaxAge is how old the last look upstream may be when "latest" is resolved;
	// 0 is DefaultMaxAge, negative looks every time.
	MaxAge time.Duration
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Shipped replaces the entries that come with the program, for tests.
	Shipped []Entry
}

// Catalog combines the shipped entries with a Registry. It is safe for
// concurrent use, and several processes may share a registry and a directory.
type Catalog struct {
	o       Options
	shipped []Entry
}

// New makes a Catalog.
func New(o Options) (*Catalog, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.MaxAge == 0 {
		o.MaxAge = DefaultMaxAge
	}
	c := &Catalog{o: o, shipped: o.Shipped}
	if c.shipped == nil {
		var err error
		if c.shipped, err = Shipped(); err != nil {
			return nil, err
		}
	}
	for _, sub := range []string{c.downloads(), c.scratch(), c.locks()} {
		if err := os.MkdirAll(sub, 0o700); err != nil {
			return nil, arm.Errorf(arm.CodeInternal, "the catalog's directory cannot be used: %w", err).At(sub)
		}
	}
	return c, nil
}

func (c *Catalog) downloads() string { return filepath.Join(c.o.Dir, "downloads") }
func (c *Catalog) scratch() string   { return filepath.Join(c.o.Dir, "scratch") }
func (c *Catalog) locks() string     { return filepath.Join(c.o.Dir, "locks") }

// List returns the shipped entries, version "latest", and the stored ones,
// ordered by name, "latest" first and then newest first.
func (c *Catalog) List(ctx context.Context) ([]Entry, error) {
	stored, err := c.o.Registry.List(ctx)
	if err != nil {
		return nil, err
	}
	all := append(append([]Entry(nil), c.shipped...), stored...)
	sort.SliceStable(all, func(i, j int) bool {
		a, b := all[i], all[j]
		if !a.sameImage(b.URN) {
			return URN{a.Publisher, a.Offer, a.SKU, ""}.Key() < URN{b.Publisher, b.Offer, b.SKU, ""}.Key()
		}
		if a.IsLatest() != b.IsLatest() {
			return a.IsLatest()
		}
		return CompareVersions(a.Version, b.Version) > 0
	})
	return all, nil
}

// Get returns what is known of u without asking anybody: for "latest" the newest
// stored entry, else the shipped one. CodeNotFound lists near names.
func (c *Catalog) Get(ctx context.Context, u URN) (Entry, error) {
	stored, err := c.stored(ctx, u)
	if err != nil {
		return Entry{}, err
	}
	if e, ok := pick(stored, u); ok {
		return e, nil
	}
	if e, ok := c.shippedAs(u); ok && u.IsLatest() {
		return e, nil
	}
	return Entry{}, c.notFound(ctx, u, stored)
}

// Remove forgets a stored image; "latest" is the newest stored one. The content
// goes with the image store's next collection. It returns what was removed.
func (c *Catalog) Remove(ctx context.Context, u URN) (Entry, error) {
	stored, err := c.stored(ctx, u)
	if err != nil {
		return Entry{}, err
	}
	e, ok := pick(stored, u)
	if !ok {
		if _, shipped := c.shippedAs(u); shipped && u.IsLatest() {
			return Entry{}, arm.Errorf(arm.CodeNotAllowed, "%s comes with the program and no version of it is stored; there is nothing to remove", u.Image())
		}
		return Entry{}, c.notFound(ctx, u, stored)
	}
	return e, c.o.Registry.Delete(ctx, e.URN)
}

// Prune removes interrupted downloads nobody continued within age.
func (c *Catalog) Prune(age time.Duration) error {
	return artifact.PruneDownloads(c.downloads(), age)
}

// stored lists the stored versions of u's image, lowest first.
func (c *Catalog) stored(ctx context.Context, u URN) ([]Entry, error) {
	all, err := c.o.Registry.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []Entry
	for _, e := range all {
		if e.sameImage(u) {
			out = append(out, e)
		}
	}
	sort.SliceStable(out, func(i, j int) bool { return CompareVersions(out[i].Version, out[j].Version) < 0 })
	return out, nil
}

// pick finds u among the stored versions of its image.
func pick(stored []Entry, u URN) (Entry, bool) {
	for i := len(stored) - 1; i >= 0; i-- {
		if u.IsLatest() || CompareVersions(stored[i].Version, u.Version) == 0 {
			return stored[i], true
		}
	}
	return Entry{}, false
}

func (c *Catalog) shippedAs(u URN) (Entry, bool) {
	for _, e := range c.shipped {
		if e.sameImage(u) {
			return e, true
		}
	}
	return Entry{}, false
}

// locked runs f while this process alone works on what key names.
func (c *Catalog) locked(ctx context.Context, key string, waiting func(), f func() error) error {
	lock, err := artifact.TakeLock(ctx, filepath.Join(c.locks(), lockName(key)), waiting)
	if err != nil {
		if ctx.Err() != nil {
			return arm.Errorf(arm.CodeCanceled, "waiting for another process was cancelled: %w", ctx.Err()).At(key)
		}
		return arm.Errorf(arm.CodeInternal, "the lock cannot be taken: %w", err).At(c.locks())
	}
	return errors.Join(f(), lock.Release())
}
