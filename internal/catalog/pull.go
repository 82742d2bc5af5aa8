package catalog

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"goldsmith/internal/arm"
	"goldsmith/internal/artifact"
	"goldsmith/internal/event"
)

// Ensure resolves u as Resolve does and makes sure that the image is in the
// store: the result has an exact version and an ImageDigest. One process at a
// time fetches an image; others wait for it. An interrupted download is
// continued by the next call; nothing else half-done stays.
func (c *Catalog) Ensure(ctx context.Context, u URN, sink event.Sink) (Entry, error) {
	return c.ensure(ctx, u, orDiscard(sink), false)
}

// Pull is Ensure after asking upstream for the latest version, whatever is
// stored.
func (c *Catalog) Pull(ctx context.Context, u URN, sink event.Sink) (Entry, error) {
	return c.ensure(ctx, u, orDiscard(sink), true)
}

func (c *Catalog) ensure(ctx context.Context, u URN, sink event.Sink, fresh bool) (Entry, error) {
	e, err := c.resolve(ctx, u, sink, fresh)
	if err != nil {
		return Entry{}, err
	}
	got, err := c.acquire(ctx, e, sink)
	if !arm.IsCode(err, arm.CodeDigestMismatch) || e.Source.DigestList == "" {
		return got, err
	}
	// Upstream may have moved on between its list and its image.
	again, resolveErr := c.resolve(ctx, u, sink, true)
	if resolveErr != nil || again.Digest == e.Digest {
		return Entry{}, err
	}
	return c.acquire(ctx, again, sink)
}

// acquire brings the image of a resolved entry into the store.
func (c *Catalog) acquire(ctx context.Context, e Entry, sink event.Sink) (got Entry, err error) {
	if ok, err := c.here(ctx, e); err != nil || ok {
		return e, err
	}
	waiting := func() {
		sink.Emit(event.Event{Kind: event.Info, Target: e.URN.String(), Text: "waiting for another process that fetches " + e.Source.String()})
	}
	err = c.locked(ctx, e.lockKey(), waiting, func() error {
		same, ok, err := c.sameContent(ctx, e)
		if err != nil {
			return err
		}
		if !ok {
			if same, err = c.fetch(ctx, e, sink); err != nil {
				return err
			}
		}
		got = same
		return c.o.Registry.Put(ctx, got)
	})
	if err != nil {
		return Entry{}, err
	}
	return got, nil
}

// here reports whether e's image is in the store.
func (c *Catalog) here(ctx context.Context, e Entry) (bool, error) {
	if e.ImageDigest == "" {
		return false, nil
	}
	return c.o.Importer.Has(ctx, e.ImageDigest)
}

// sameContent completes e from a stored entry with the same content, if its
// image is still there. Another process may have stored it meanwhile.
func (c *Catalog) sameContent(ctx context.Context, e Entry) (Entry, bool, error) {
	all, err := c.o.Registry.List(ctx)
	if err != nil {
		return Entry{}, false, err
	}
	for _, s := range all {
		same := s.Digest == e.Digest
		if e.Digest.IsZero() { // a recipe
			same = s.sameImage(e.URN)
		}
		if !same {
			continue
		}
		if ok, err := c.here(ctx, s); err != nil {
			return Entry{}, false, err
		} else if !ok {
			continue
		}
		if e.Digest.IsZero() {
			return s, true, nil
		}
		return c.imported(e, s.ImageDigest, DiskInfo{VirtualSize: s.Size, Format: s.Format}), true, nil
	}
	return Entry{}, false, nil
}

func (c *Catalog) imported(e Entry, imageDigest string, info DiskInfo) Entry {
	e.ImageDigest, e.Size, e.Format = imageDigest, info.VirtualSize, info.Format
	e.AddedAt = c.o.Now().UTC()
	return e
}

// fetch downloads, copies or makes e's disk and imports it.
func (c *Catalog) fetch(ctx context.Context, e Entry, sink event.Sink) (Entry, error) {
	file, done, err := c.disk(ctx, e, sink)
	if err != nil {
		return Entry{}, err
	}
	image, info, err := c.o.Importer.Import(ctx, file, sink)
	if err := errors.Join(err, done()); err != nil {
		return Entry{}, fmt.Errorf("%s: %w", e.URN, err)
	}
	return c.imported(e, image, info), nil
}

// disk puts e's disk into a file; done removes what must not stay.
func (c *Catalog) disk(ctx context.Context, e Entry, sink event.Sink) (file string, done func() error, err error) {
	switch {
	case e.Source.Recipe != "":
		return c.make(ctx, e, sink)
	case e.Source.File != "":
		d, err := artifact.FileDigest(ctx, e.Source.File)
		if err != nil {
			return "", nil, err
		}
		if d != e.Digest {
			return "", nil, arm.Errorf(arm.CodeDigestMismatch, "the file changed since it was added: it has %s, not %s; add it again", d, e.Digest).At(e.Source.File)
		}
		return e.Source.File, func() error { return nil }, nil
	}
	d, err := c.o.Fetcher.Download(ctx, artifact.Download{URI: e.Source.URL, Dir: c.downloads(), Digest: e.Digest, Sink: sink})
	if err != nil {
		return "", nil, err
	}
	return d.Path, d.Close, nil
}

// lockKey names what only one process brings in at a time. It is by content where
// that is known: the two generations of an image are one download.
func (e Entry) lockKey() string {
	if e.Digest.IsZero() {
		return "image " + URN{e.Publisher, e.Offer, e.SKU, ""}.Key()
	}
	return "content " + e.Digest.String()
}

// Sweep removes what processes that died while they made an image left behind.
// What another process is making stays.
func (c *Catalog) Sweep() error {
	var errs []error
	for _, e := range c.shipped {
		if e.Source.Recipe == "" {
			continue
		}
		out := c.made(e)
		if _, err := os.Lstat(out); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		lock, err := artifact.TryLock(filepath.Join(c.locks(), lockName(e.lockKey())))
		if err != nil || lock == nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, os.Remove(out), lock.Release())
	}
	return errors.Join(errs...)
}

// made is the scratch file that the recipe of e writes.
func (c *Catalog) made(e Entry) string {
	return filepath.Join(c.scratch(), lockName(e.Source.Recipe)+".raw")
}

// make runs a recipe. The caller holds the image's lock, so the scratch file is
// this process's alone and a leftover is a dead one's.
func (c *Catalog) make(ctx context.Context, e Entry, sink event.Sink) (string, func() error, error) {
	maker, ok := c.o.Makers[e.Source.Recipe]
	if !ok {
		return "", nil, arm.Errorf(arm.CodeNotSupported, "recipe %q is not part of this program", e.Source.Recipe).At(e.URN.String())
	}
	out := c.made(e)
	remove := func() error {
		if err := os.Remove(out); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return arm.Errorf(arm.CodeInternal, "a scratch file cannot be removed: %w", err)
		}
		return nil
	}
	if err := remove(); err != nil {
		return "", nil, err
	}
	if err := maker.Make(ctx, out, sink); err != nil {
		return "", nil, errors.Join(err, remove())
	}
	return out, remove, nil
}

// lockName is a file name for any key.
func lockName(key string) string {
	sum := sha256.Sum256([]byte(key))
	return hex.EncodeToString(sum[:12])
}
