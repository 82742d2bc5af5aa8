package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/image"
	"goldsmith/internal/image/disk"
	"goldsmith/internal/layer"
	"goldsmith/internal/machine"
	"goldsmith/internal/network"
	"goldsmith/internal/plan"
	"goldsmith/internal/provision"
	"goldsmith/internal/run"
)

// checkpointCost is what saving a guest's memory is taken to cost until this run
// has measured it: writing it, and reading it back in the run that uses it.
const checkpointCost = 2 * time.Second

// wantsMemory is the rule which steps get a memory layer. One is written when the
// steps since the last one took together longer than writing it does. So saving
// memory costs a build at most as much as its steps do, and a later build repeats
// at most the cost of one memory layer of steps that had not changed.
func (b *builder) wantsMemory(i int) bool {
	switch {
	case b.secretGiven:
		return false // what a guest frees it does not clear
	case b.awaited(i):
		return true
	}
	return b.unsaved >= b.memoryCost
}

// seal freezes the disk as the layer of step i and lets the machine write to a
// new one; with it the memory, where the rule asks for it.
func (b *builder) seal(ctx context.Context, i int, took time.Duration) error {
	next, err := b.newOverlay(ctx)
	if err != nil {
		return err
	}
	b.unsaved += took
	memory := ""
	if b.wantsMemory(i) {
		if memory, err = b.checkpoint(ctx, next); err != nil {
			return err
		}
	}
	if memory == "" && b.top != next {
		if err := b.vm.machine.Seal(ctx, b.engine.files.Path(next, layer.DiskFile)); err != nil {
			return fmt.Errorf("seal the disk: %w", err)
		}
	}
	sealed := b.sealed
	if b.top != next {
		sealed, b.top = b.top, next
	}
	changed, err := b.extentsOf(ctx, sealed, b.plan.DiskBytes)
	if err != nil {
		return err
	}
	step := b.plan.Steps[i]
	manifest := layer.Manifest{DiskBytes: b.plan.DiskBytes, ChunkSize: image.ChunkSize, Changed: changed, Oldest: b.oldest, Step: step.Name}
	if memory != "" {
		manifest.Saved = &layer.Saved{Fingerprint: b.fingerprint, Waagent: b.vm.waagent, Whole: true, MAC: network.BuildMAC}
	}
	if err := b.commit(ctx, layer.Record{ID: sealed, Key: b.keys.Steps[i], Kind: layer.Disk, Parent: b.parent}, manifest); err != nil {
		return err
	}
	b.parent = sealed
	b.extents = disk.Union(slices.Concat(b.extents, changed))
	b.made = append(b.made, time.Now())
	if memory == "" {
		return nil
	}
	manifest.Changed = nil // the disk layer below has them
	err = b.commit(ctx, layer.Record{ID: memory, Key: plan.MemoryKey(b.keys.Steps[i], b.fingerprint), Kind: layer.Memory, Parent: sealed}, manifest)
	if err != nil {
		return err
	}
	b.unsaved = 0
	return b.releaseSteps(i + 1)
}

// commit makes a layer of this run permanent and pins it for as long as it runs.
func (b *builder) commit(ctx context.Context, r layer.Record, m layer.Manifest) error {
	r.Base, r.Run = b.plan.Base.Image, b.active.id()
	stored, err := b.engine.files.Commit(ctx, r, m, b.started)
	if err != nil {
		return err
	}
	if err := b.engine.layers.Pin(ctx, r.Run, stored.ID); err != nil {
		return err
	}
	return b.undo.drop(ctx, run.Undo{Kind: undoDir, Target: b.engine.layerDir(r.ID)})
}

// checkpoint seals the disk together with the memory and returns the id of the
// memory's layer, yet to be committed; "" when the memory could not be saved,
// which is no reason to fail. The disk may be sealed even then: b.top says so.
func (b *builder) checkpoint(ctx context.Context, next string) (string, error) {
	need := int64(b.plan.Shape.MemoryMiB) << 20
	if room, err := b.engine.cfg.Space(b.engine.dir); err == nil && room.Free < 2*need {
		b.decide("no memory is saved: the data directory's disk is nearly full")
		return "", nil
	}
	id := layer.NewID()
	dir := run.Undo{Kind: undoDir, Target: b.engine.layerDir(id)}
	if err := b.undo.push(ctx, dir); err != nil {
		return "", err
	}
	if err := b.engine.files.Create(id); err != nil {
		return "", err
	}
	start := time.Now()
	err := b.vm.machine.Checkpoint(ctx, b.engine.files.Path(next, layer.DiskFile), b.engine.files.Path(id, layer.StateFile))
	if err == nil || errors.Is(err, machine.ErrMemoryNotSaved) {
		b.sealed, b.top = b.top, next
	}
	if err == nil {
		if b.engine.cfg.MemoryCost == 0 {
			b.memoryCost = time.Since(start)
		}
		return id, nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return "", cause
	}
	select {
	case <-b.vm.machine.Exited():
		return "", fmt.Errorf("save the guest's memory: %w", err)
	default:
	}
	b.warn("the guest's memory was not saved: %v", err)
	b.memoryCost *= 10 // not again after the next short step
	if err := os.RemoveAll(b.engine.files.Path(id, "")); err != nil {
		return "", err
	}
	return "", b.undo.drop(ctx, dir)
}

// resume continues from the layers of a hit, on an overlay of its own.
func (b *builder) resume(ctx context.Context, hit cacheHit) error {
	for _, rec := range []layer.Record{hit.disk, hit.memory} {
		if rec.ID == "" {
			continue
		}
		if err := b.use(ctx, rec); err != nil {
			return err
		}
	}
	extents, depth, err := b.chainExtents(ctx, hit.disk)
	if err != nil {
		return err
	}
	below := hit.disk
	if depth > maxDepth {
		if below, err = b.flat(ctx, hit.disk, b.keys.Steps[hit.steps-1], extents); err != nil {
			return err
		}
	}
	b.parent, b.extents = below.ID, extents
	b.topBytes = hit.manifest.DiskBytes
	if err := b.overlayOn(ctx, below.ID); err != nil {
		return err
	}
	start := time.Now()
	if hit.memory.ID == "" {
		if err := b.bootOn(ctx); err != nil {
			return err
		}
		b.decide("booted the disk after step %d in %s", hit.steps, time.Since(start).Round(10*time.Millisecond))
		return nil
	}
	m, err := layer.ManifestOf(hit.memory)
	if err != nil {
		return err
	}
	if m.Saved == nil || !m.Saved.Whole {
		return arm.Errorf(arm.CodeCorrupt, "layer %s holds no saved state", hit.memory.ID)
	}
	id, err := provision.NewIdentity()
	if err != nil {
		return err
	}
	state := savedState{file: b.engine.files.Path(hit.memory.ID, layer.StateFile), mac: m.Saved.MAC, waagent: m.Saved.Waagent}
	if err := b.continueFrom(ctx, b.vm, b.engine.files.Path(b.top, layer.DiskFile), state, id); err != nil {
		return err
	}
	b.decide("restored the state after step %d %q in %s", hit.steps, m.Step, time.Since(start).Round(10*time.Millisecond))
	return nil
}

// use verifies a layer and pins it for the run.
func (b *builder) use(ctx context.Context, rec layer.Record) error {
	if err := b.engine.layers.Pin(ctx, b.active.id(), rec.ID); err != nil {
		return err
	}
	if err := b.engine.files.Verify(rec); err != nil {
		return err
	}
	return b.engine.layers.Touch(ctx, rec.ID)
}

// chainExtents is what all layers of a chain changed, each of which is verified
// and pinned, and how many they are.
func (b *builder) chainExtents(ctx context.Context, top layer.Record) (extents []disk.Extent, depth int, err error) {
	for rec := top; ; {
		m, err := layer.ManifestOf(rec)
		if err != nil {
			return nil, 0, err
		}
		extents = append(extents, m.Changed...)
		depth++
		if rec.Parent == "" {
			return disk.Union(extents), depth, nil
		}
		if rec, err = b.engine.layers.Get(ctx, rec.Parent); err != nil {
			return nil, 0, err
		}
		if err := b.use(ctx, rec); err != nil {
			return nil, 0, err
		}
	}
}
