package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	engine "goldsmith/internal/build"
	"goldsmith/internal/image"
	"goldsmith/internal/image/contents"
	"goldsmith/internal/image/format"
)

// comparison says how far a rival made what goldsmith makes of the same recipe:
// images that differ in what is installed are not comparable in time either.
type comparison struct {
	store *image.Store
	own   image.Digest
}

// newComparison takes goldsmith's image from a file.
func newComparison(ctx context.Context, dir, own string) (*comparison, error) {
	store, err := image.Open(filepath.Join(dir, "store"))
	if err != nil {
		return nil, err
	}
	digest, _, _, err := store.ImportFile(ctx, own, format.Limits{}, nil)
	return &comparison{store, digest}, err
}

// with reports in what the image of a rival differs.
func (c *comparison) with(ctx context.Context, r *report, name, file string) (err error) {
	digest, _, _, err := c.store.ImportFile(ctx, file, format.Limits{}, nil)
	if err != nil {
		return err
	}
	own, err := c.store.OpenImage(ctx, c.own)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, own.Close()) }()
	theirs, err := c.store.OpenImage(ctx, digest)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, theirs.Close()) }()
	found, err := contents.Compare(ctx, own, theirs, engine.IsVolatile)
	if err != nil {
		return fmt.Errorf("compare the image of %s: %w", name, err)
	}
	paths := ""
	for _, f := range found.Files[:min(len(found.Files), 8)] {
		paths += f.Path + " (" + f.What + "), "
	}
	r.add("rival", name+", packages that differ from goldsmith's image", "", "", float64(len(found.Packages)))
	r.add("rival", name+", files that differ", "", "of "+fmt.Sprint(found.FilesA)+": "+paths+"...", float64(len(found.Files)))
	return nil
}
