package build

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dustin/go-humanize"

	"goldsmith/internal/event"
	"goldsmith/internal/image"
)

// region is a location's name as it is compared: "West US 2" is "westus2".
func region(name string) string { return strings.ToLower(strings.ReplaceAll(name, " ", "")) }

// openLocations opens the image stores of the locations that have one of their own.
func openLocations(dirs map[string]string) (map[string]*image.Store, error) {
	stores := map[string]*image.Store{}
	for name, dir := range dirs {
		s, err := image.Open(dir)
		if err != nil {
			return nil, fmt.Errorf("open location %s: %w", name, err)
		}
		stores[region(name)] = s
	}
	return stores, nil
}

// replicator brings images to the locations of one run's targets. Locations without
// a store of their own are in the data directory, where the content is already.
type replicator struct {
	engine *Engine
	sink   event.Sink
}

// Replicate implements distribute.Replicator.
func (r replicator) Replicate(ctx context.Context, digest, location string) error {
	to, ok := r.engine.locations[region(location)]
	if !ok {
		return nil
	}
	d, err := image.ParseDigest(digest)
	if err != nil {
		return err
	}
	what := "replicate to " + location
	stats, err := r.engine.images.Copy(ctx, d, to, func(done, total int64) {
		r.sink.Emit(event.Event{Kind: event.Progress, Text: what, Done: done, Total: total})
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	r.sink.Emit(event.Event{Kind: event.Info, Text: fmt.Sprintf("replicated to %s: %d of %d chunks were missing there, %s sent",
		location, stats.Stored, stats.Chunks, humanize.Bytes(uint64(stats.StoredBytes)))})
	return nil
}

// collectLocations removes images that nothing refers to from the locations.
func (e *Engine) collectLocations(ctx context.Context, live []image.Digest) (images, bytes int64, err error) {
	var errs []error
	for _, s := range e.locations {
		gone, err := s.GC(ctx, live, orphanAge)
		images, bytes = images+gone.Images, bytes+gone.Bytes
		errs = append(errs, err)
	}
	return images, bytes, errors.Join(errs...)
}
