package catalog

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/artifact"
	"goldsmith/internal/event"
)

// AddOptions describe an added image.
type AddOptions struct {
	// Digest is the SHA-256 or SHA-512 that the file must have, as ParseDigest
	// reads it; "" takes any.
	Digest string
	// Generation is 1 (BIOS) or 2 (UEFI); 0 is 2 when the disk has an EFI system
	// partition, else 1.
	Generation int
	// OS defaults to Linux.
	OS OS
	// Title is shown in lists.
	Title string
	// Replace takes the place of an entry with the same URN.
	Replace bool
}

// Add imports the disk image at from, a path or an http(s) URL, under the exact
// version of u. A name that exists is CodeConflict unless o.Replace is set.
// Whatever goes wrong, nothing is added.
func (c *Catalog) Add(ctx context.Context, u URN, from string, o AddOptions, sink event.Sink) (added Entry, err error) {
	sink = orDiscard(sink)
	if o.OS == "" {
		o.OS = Linux
	}
	e := Entry{URN: u, Title: o.Title, Generation: o.Generation, OS: o.OS}
	if u.IsLatest() {
		return Entry{}, arm.Errorf(arm.CodeUsage, "an image is added under an exact version, such as 1.0.0, not %q", u.Version)
	}
	if e.Source, err = sourceOf(from); err != nil {
		return Entry{}, err
	}
	if e.Digest, err = artifact.ParseDigest(o.Digest); err != nil {
		return Entry{}, err
	}
	check := e
	if check.Generation == 0 {
		check.Generation = 1
	}
	if err := check.Check(); err != nil {
		return Entry{}, err
	}
	waiting := func() {
		sink.Emit(event.Event{Kind: event.Info, Target: u.String(), Text: "waiting for another process that adds " + u.String()})
	}
	err = c.locked(ctx, "add "+u.Key(), waiting, func() error {
		if err := c.free(ctx, u, o.Replace); err != nil {
			return err
		}
		added, err = c.bring(ctx, e, from, sink)
		if err != nil {
			return err
		}
		return c.o.Registry.Put(ctx, added)
	})
	if err != nil {
		return Entry{}, err
	}
	return added, nil
}

// free fails with CodeConflict when u is taken.
func (c *Catalog) free(ctx context.Context, u URN, replace bool) error {
	old, err := c.o.Registry.Get(ctx, u)
	switch {
	case arm.IsCode(err, arm.CodeNotFound):
		return nil
	case err != nil || replace:
		return err
	}
	return arm.Errorf(arm.CodeConflict, "%s is in the catalog already, from %s; choose another version or remove it first", u, old.Source)
}

// bring verifies and imports what from names. e.Source has no secrets, so from
// is what is fetched.
func (c *Catalog) bring(ctx context.Context, e Entry, from string, sink event.Sink) (Entry, error) {
	file, done := e.Source.File, func() error { return nil }
	if e.Source.URL != "" {
		if e.Digest.IsZero() && !strings.HasPrefix(strings.ToLower(from), "https:") {
			sink.Emit(event.Event{Kind: event.Warning, Target: e.URN.String(),
				Text: "the image comes over plain http without an expected digest: anybody on the way can change it; give --sha256"})
		}
		d, err := c.o.Fetcher.Download(ctx, artifact.Download{URI: from, Dir: c.downloads(), Digest: e.Digest, Sink: sink})
		if err != nil {
			return Entry{}, err
		}
		file, done = d.Path, d.Close
	}
	got, err := c.identify(ctx, e, file, sink)
	return got, errors.Join(err, done())
}

// identify checks the file's digest, imports it and fills in what e lacks.
func (c *Catalog) identify(ctx context.Context, e Entry, file string, sink event.Sink) (Entry, error) {
	if e.Source.File != "" && !e.Digest.IsZero() {
		if err := e.Digest.CheckFile(ctx, file); err != nil {
			return Entry{}, err
		}
	}
	if e.Source.File != "" || e.Digest.IsZero() {
		d, err := artifact.FileDigest(ctx, file)
		if err != nil {
			return Entry{}, err
		}
		e.Digest = d
	}
	image, info, err := c.o.Importer.Import(ctx, file, sink)
	if err != nil {
		return Entry{}, fmt.Errorf("%s: %w", e.Source, err)
	}
	if e.Generation == 0 {
		e.Generation = 1
		if info.HasESP {
			e.Generation = 2
		}
	}
	return c.imported(e, image, info), nil
}

// sourceOf is the source that from names, without secrets.
func sourceOf(from string) (Source, error) {
	if scheme, _, ok := strings.Cut(from, "://"); ok {
		if !isWeb(scheme) {
			return Source{}, arm.Errorf(arm.CodeUsage, "%q is neither a path nor an http or https URL", artifact.Redact(from))
		}
		if _, err := url.Parse(from); err != nil {
			return Source{}, arm.Errorf(arm.CodeUsage, "%q is not a URL", artifact.Redact(from))
		}
		return Source{URL: artifact.Redact(from)}, nil
	}
	if from == "" {
		return Source{}, arm.Errorf(arm.CodeUsage, "no file or URL is given")
	}
	path, err := filepath.Abs(from)
	if err != nil {
		return Source{}, arm.Errorf(arm.CodeUsage, "%q cannot be located: %w", from, err)
	}
	return Source{File: path}, nil
}
