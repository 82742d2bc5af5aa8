package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/blob"
	"goldsmith/internal/image"
	"goldsmith/internal/layer"
	"goldsmith/internal/run"
)

// What garbage collection keeps although nothing refers to it. Every age is far
// beyond the longest run (16 h), so that no run loses what it stands on.
const (
	garbageAge    = 7 * 24 * time.Hour // layers, base disks and downloads unused for longer go
	garbageBytes  = 64 << 30           // beyond this the layers longest unused go
	orphanAge     = 24 * time.Hour     // scratch and content that was never recorded
	garbageRhythm = 24 * time.Hour     // how often builds collect by themselves
)

// Collected is what garbage collection removed.
type Collected struct {
	Layers    int   `json:"layers"`
	Disks     int   `json:"disks"`     // rendered base disks, made again when needed
	Proxies   int   `json:"proxyVMs"`  // saved proxy VMs, made again when needed
	Images    int64 `json:"images"`    // stored images that nothing refers to
	Artifacts int   `json:"artifacts"` // frozen scripts and files
	Content   int   `json:"content"`   // of blobs: blocks that were never committed, and leftovers
	Bytes     int64 `json:"bytes"`     // what all of it occupied
}

// Collect removes what nothing needs any more: layers beyond their age, base
// disks that can be rendered again, images and artifacts that no resource, no
// catalog entry and no run refers to. It runs beside builds.
func (e *Engine) Collect(ctx context.Context) (Collected, error) {
	return e.CollectWithin(ctx, GarbageLimits{})
}

// GarbageLimits say what of the cache garbage collection keeps; zero is the
// default of each.
type GarbageLimits struct {
	MaxAge   time.Duration // layers, base disks and finished images unused for longer go; 0 is a week
	MaxBytes int64         // beyond this the layers longest unused go; 0 is 64 GiB
}

// CollectWithin is Collect with other limits.
func (e *Engine) CollectWithin(ctx context.Context, limits GarbageLimits) (Collected, error) {
	age := orDefault(limits.MaxAge, garbageAge)
	if limits.MaxBytes == 0 {
		limits.MaxBytes = garbageBytes
	}
	var c Collected
	var errs []error
	errs = append(errs, wrap("remove the states of failed steps", e.dropExpired(ctx, time.Now())))
	n, bytes, err := e.files.Collect(ctx, time.Now(), layer.Limits{MaxAge: age, MaxBytes: limits.MaxBytes, Orphans: orphanAge, Keep: keptFailure})
	c.Layers, c.Bytes = n, bytes
	errs = append(errs, wrap("collect layers", err))

	n, bytes, err = e.collectDisks(time.Now(), max(age, orphanAge))
	c.Disks, c.Bytes = n, c.Bytes+bytes
	errs = append(errs, wrap("collect base disks", err))

	n, bytes, err = e.collectProxies(ctx, time.Now(), max(age, orphanAge))
	c.Proxies, c.Bytes = n, c.Bytes+bytes
	errs = append(errs, wrap("collect saved proxy vms", err))

	n, bytes, err = e.blobs.Collect(ctx, time.Now(), blob.StagedAge)
	c.Content, c.Bytes = n, c.Bytes+bytes
	errs = append(errs, wrap("collect content of blobs", err))

	// Unless every reference is known, nothing that may be referred to goes.
	images, artifacts, err := e.references(ctx)
	if err != nil {
		return c, errors.Join(append(errs, wrap("find what is referred to", err))...)
	}
	errs = append(errs, wrap("forget finished images", e.forgetResults(ctx, time.Now(), age)))
	gone, err := e.images.GC(ctx, images, orphanAge)
	c.Images, c.Bytes = gone.Images, c.Bytes+gone.Bytes
	errs = append(errs, wrap("collect images", err))

	n64, bytes, err := e.collectLocations(ctx, images)
	c.Images, c.Bytes = c.Images+n64, c.Bytes+bytes
	errs = append(errs, wrap("collect images of locations", err))

	swept, err := e.frozen.GC(ctx, func(sha256 string) bool { return artifacts[sha256] }, orphanAge)
	c.Artifacts, c.Bytes = swept.Blobs, c.Bytes+swept.Bytes
	errs = append(errs, wrap("collect artifacts", err), wrap("collect downloads", e.catalog.Prune(garbageAge)))
	return c, errors.Join(errs...)
}

// keptFailure reports that a layer is the state of a failed step.
func keptFailure(r layer.Record) bool {
	m, err := layer.ManifestOf(r)
	return err == nil && m.Failed != nil
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// collectDue collects when nobody has for a day, and layers as soon as they take more
// than they may or the disk is nearly full. Its trouble is no build's.
func (e *Engine) collectDue(ctx context.Context) error {
	err := e.collectDaily(ctx)
	if err == nil {
		err = e.makeRoom(ctx)
	}
	if arm.IsCode(err, arm.CodeConflict) {
		return nil // another process collects
	}
	return err
}

func (e *Engine) collectDaily(ctx context.Context) error {
	stamp := filepath.Join(e.dir, "collected")
	if info, err := os.Stat(stamp); err == nil && time.Since(info.ModTime()) < garbageRhythm {
		return nil
	}
	if err := os.WriteFile(stamp, nil, 0o600); err != nil {
		return fmt.Errorf("note the collection of garbage: %w", err)
	}
	_, err := e.Collect(ctx)
	return err
}

// makeRoom removes the layers longest unused until their limit holds and the file
// system has its reserve again, as far as layers can give it.
func (e *Engine) makeRoom(ctx context.Context) error {
	room, err := e.cfg.Space(e.dir)
	if err != nil {
		return err
	}
	all, err := e.layers.List(ctx, layer.Filter{})
	if err != nil {
		return err
	}
	var bytes int64
	for _, r := range all {
		bytes += r.Bytes
	}
	if bytes <= garbageBytes && room.lacking() == 0 {
		return nil
	}
	_, _, err = e.files.Collect(ctx, time.Now(), layer.Limits{
		MaxBytes: garbageBytes, Room: room.lacking(), Orphans: orphanAge, Keep: keptFailure,
	})
	return wrap("make room for builds", err)
}

// collectDisks removes rendered base disks that no build used for long.
func (e *Engine) collectDisks(now time.Time, age time.Duration) (removed int, bytes int64, err error) {
	dir := filepath.Join(e.dir, "disks")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, 0, err
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return removed, bytes, err
		}
		if now.Sub(info.ModTime()) < age {
			continue
		}
		if err := os.Remove(filepath.Join(dir, entry.Name())); err != nil {
			return removed, bytes, err
		}
		removed, bytes = removed+1, bytes+layer.Occupied(info)
	}
	return removed, bytes, nil
}

// collectProxies removes saved proxy VMs that no build was given for long, and
// what is left of making them.
func (e *Engine) collectProxies(ctx context.Context, now time.Time, age time.Duration) (removed int, bytes int64, err error) {
	entries, err := os.ReadDir(filepath.Join(e.dir, proxyDir))
	if err != nil {
		return 0, 0, err
	}
	for _, entry := range entries {
		if !entry.IsDir() {
			continue
		}
		n, err := e.collectProxy(ctx, entry.Name(), now, age)
		if err != nil {
			return removed, bytes, err
		}
		if n > 0 {
			removed, bytes = removed+1, bytes+n
		}
	}
	return removed, bytes, nil
}

// collectProxy removes a saved proxy VM if it is old, and says what it occupied.
func (e *Engine) collectProxy(ctx context.Context, name string, now time.Time, age time.Duration) (bytes int64, err error) {
	// Whoever is given one notes that under the same lock.
	unlock, err := e.lock(ctx, "proxyvm-"+name, nil)
	if err != nil {
		return 0, err
	}
	defer unlock()
	dir := filepath.Join(e.dir, proxyDir, name)
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil || now.Sub(info.ModTime()) < age {
		return 0, err
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	bytes = layer.Occupied(info)
	for _, f := range files {
		if info, err := f.Info(); err == nil {
			bytes += layer.Occupied(info)
		}
	}
	return bytes, os.RemoveAll(dir)
}

// references are the images and artifacts that something refers to.
func (e *Engine) references(ctx context.Context) (images []image.Digest, artifacts map[string]bool, err error) {
	artifacts = map[string]bool{}
	add := func(digest string) error {
		if digest == "" {
			return nil
		}
		d, err := image.ParseDigest(digest)
		if err != nil {
			return err
		}
		images = append(images, d)
		return nil
	}
	published, err := e.Images(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, i := range published {
		if err := add(i.Content.Image); err != nil {
			return nil, nil, err
		}
	}
	entries, err := e.catalog.List(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, entry := range entries {
		if err := add(entry.ImageDigest); err != nil {
			return nil, nil, err
		}
	}
	layers, err := e.layers.List(ctx, layer.Filter{})
	if err != nil {
		return nil, nil, err
	}
	for _, l := range layers {
		if err := add(l.Base); err != nil {
			return nil, nil, err
		}
	}
	templates, err := e.Templates(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, t := range templates {
		state, err := decodeTemplate(t)
		if err != nil {
			return nil, nil, err
		}
		for _, a := range state.Artifacts {
			artifacts[a.SHA256] = true
		}
	}
	accounts, err := e.blobs.Names(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, account := range accounts {
		if err := e.referencedBlobs(ctx, account, add); err != nil {
			return nil, nil, err
		}
	}
	active, err := e.runs.List(ctx, run.Filter{States: unended})
	if err != nil {
		return nil, nil, err
	}
	for _, r := range active {
		j, err := decodeJob(r)
		if err != nil {
			return nil, nil, err
		}
		for _, a := range j.Artifacts {
			artifacts[a.SHA256] = true
		}
	}
	return images, artifacts, nil
}

// referencedBlobs finds the images that VHD blobs of an account are views of.
func (e *Engine) referencedBlobs(ctx context.Context, account string, add func(string) error) error {
	containers, err := e.blobs.Containers(ctx, account)
	if arm.IsCode(err, arm.CodeNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, container := range containers {
		if strings.EqualFold(container, logContainer) {
			continue
		}
		blobs, _, err := e.blobs.List(ctx, account, container, blob.ListOptions{})
		if err != nil {
			return err
		}
		for _, b := range blobs {
			if b.Reference == nil {
				continue
			}
			if err := add(b.Reference.Image); err != nil {
				return err
			}
		}
	}
	return nil
}
