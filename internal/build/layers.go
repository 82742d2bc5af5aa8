package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
	"goldsmith/internal/layer"
)

// CachedLayer is a layer as people see it.
type CachedLayer struct {
	ID       string    `json:"id"`
	What     string    `json:"what"` // "booted base", "step", "memory" or "failed step"
	Step     string    `json:"step,omitempty"`
	Base     string    `json:"base"` // content id of the base image
	Run      string    `json:"run"`  // that made it
	Parent   string    `json:"parent,omitempty"`
	Bytes    int64     `json:"bytes"`
	Changed  int64     `json:"changedBytes"` // of the disk, in whole chunks
	Findable bool      `json:"findable"`     // builds look it up
	Created  time.Time `json:"created"`
	Used     time.Time `json:"used"`
	Oldest   time.Time `json:"oldest,omitzero"` // when the oldest step up to here began
	Until    time.Time `json:"until,omitzero"`  // a failed step's state goes then
}

// Layers lists all layers, the longest unused first.
func (e *Engine) Layers(ctx context.Context) ([]CachedLayer, error) {
	all, err := e.layers.List(ctx, layer.Filter{})
	if err != nil {
		return nil, err
	}
	out := make([]CachedLayer, len(all))
	for i, r := range all {
		m, err := layer.ManifestOf(r)
		if err != nil {
			return nil, err
		}
		l := CachedLayer{
			ID: r.ID, What: "step", Step: m.Step, Base: r.Base, Run: r.Run, Parent: r.Parent, Bytes: r.Bytes,
			Findable: r.Key != "", Created: r.CreatedAt, Used: r.LastUsedAt, Oldest: m.Oldest,
		}
		for _, extent := range m.Changed {
			l.Changed += extent.Length
		}
		switch {
		case m.Failed != nil:
			l.What, l.Until = "failed step", m.Failed.Until
		case r.Kind == layer.Memory && m.Saved != nil && m.Saved.Whole:
			l.What = "memory"
		case r.Kind == layer.Memory:
			l.What = "booted base"
		}
		out[i] = l
	}
	return out, nil
}

// FindLayer finds a layer by the beginning of its id; CodeNotFound, or CodeUsage
// when several begin so.
func (e *Engine) FindLayer(ctx context.Context, prefix string) (CachedLayer, error) {
	all, err := e.Layers(ctx)
	if err != nil {
		return CachedLayer{}, err
	}
	var found []CachedLayer
	for _, l := range all {
		if len(prefix) > 0 && len(l.ID) >= len(prefix) && l.ID[:len(prefix)] == prefix {
			found = append(found, l)
		}
	}
	switch len(found) {
	case 0:
		return CachedLayer{}, arm.Errorf(arm.CodeNotFound, "no layer's id begins with %q", prefix)
	case 1:
		return found[0], nil
	}
	return CachedLayer{}, arm.Errorf(arm.CodeUsage, "the ids of %d layers begin with %q", len(found), prefix)
}

// PruneLayers removes layers that no run and no other layer needs until the limits
// hold: unused for longer than age (0 for any age), and beyond bytes in all (0 for
// no limit) the longest unused. What is kept of failed steps stays.
func (e *Engine) PruneLayers(ctx context.Context, age time.Duration, bytes int64) (removed int, freed int64, err error) {
	if err := e.dropExpired(ctx, time.Now()); err != nil {
		return 0, 0, err
	}
	if age == 0 && bytes == 0 {
		age = time.Nanosecond
	}
	return e.files.Collect(ctx, time.Now(), layer.Limits{MaxAge: age, MaxBytes: bytes, Orphans: orphanAge, Keep: keptFailure})
}

// Verified is what VerifyStored looked at and found damaged.
type Verified struct {
	Layers        int   `json:"layers"`
	Images        int   `json:"images"`
	Bytes         int64 `json:"bytes"` // of the layers
	DamagedLayers int   `json:"damagedLayers"`
	DamagedImages int   `json:"damagedImages"`
}

// VerifyStored reads every layer and image back. A damaged layer is not looked up
// again; a damaged chunk is set aside, and storing the same content heals it. Each
// finding is a warning to sink.
func (e *Engine) VerifyStored(ctx context.Context, sink event.Sink) (Verified, error) {
	var v Verified
	all, err := e.layers.List(ctx, layer.Filter{})
	if err != nil {
		return v, err
	}
	var errs []error
	for _, r := range all {
		if err := context.Cause(ctx); err != nil {
			return v, err
		}
		v.Layers, v.Bytes = v.Layers+1, v.Bytes+r.Bytes
		err := e.files.Verify(r)
		if err == nil {
			continue
		}
		if _, gone := e.layers.Get(ctx, r.ID); arm.IsCode(gone, arm.CodeNotFound) {
			continue // collected meanwhile
		}
		v.DamagedLayers++
		sink.Emit(event.Event{Kind: event.Warning, Text: err.Error() + "; it is made again when it is needed"})
		if err := e.layers.Forget(ctx, r.ID); err != nil && !arm.IsCode(err, arm.CodeNotFound) {
			errs = append(errs, err)
		}
	}
	images, err := e.images.List(ctx)
	if err != nil {
		return v, errors.Join(append(errs, err)...)
	}
	for _, digest := range images {
		v.Images++
		err := e.images.Verify(ctx, digest, nil)
		if cause := context.Cause(ctx); cause != nil {
			return v, cause
		}
		if err != nil && !arm.IsCode(err, arm.CodeNotFound) {
			v.DamagedImages++
			sink.Emit(event.Event{Kind: event.Warning, Text: fmt.Sprintf("image %.12s: %v", digest, err)})
		}
	}
	return v, errors.Join(errs...)
}

// verifyDaily reads everything that is stored back once a day, beside builds, and
// logs what it finds damaged.
func (e *Engine) verifyDaily(ctx context.Context) {
	stamp := filepath.Join(e.dir, "verified")
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if info, err := os.Stat(stamp); err == nil && time.Since(info.ModTime()) < garbageRhythm {
			continue
		}
		found, err := e.VerifyStored(ctx, event.SinkFunc(func(ev event.Event) {
			e.logger.WarnContext(ctx, ev.Text)
		}))
		if err != nil {
			e.complain(ctx, "verify what is stored", err)
			continue
		}
		e.logger.InfoContext(ctx, "verified what is stored", "layers", found.Layers, "images", found.Images,
			"damagedLayers", found.DamagedLayers, "damagedImages", found.DamagedImages)
		if err := os.WriteFile(stamp, nil, 0o600); err != nil {
			e.complain(ctx, "note the verification", err)
		}
	}
}
