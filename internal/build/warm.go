package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/dustin/go-humanize"

	"goldsmith/internal/arm"
	"goldsmith/internal/image"
	"goldsmith/internal/image/qcow2"
	"goldsmith/internal/layer"
	"goldsmith/internal/machine"
	"goldsmith/internal/network"
	"goldsmith/internal/preflight"
	"goldsmith/internal/provision"
	"goldsmith/internal/run"
)

// start brings the build VM up until its first command can run: by restoring the
// state after the last step that need not run, by restoring the booted base, or by
// booting it.
func (b *builder) start(ctx context.Context) error {
	if err := errors.Join(b.touch(ctx, preflight.Network, ""), b.touch(ctx, preflight.Identities, "")); err != nil {
		return err
	}
	if b.job.Cache.MaxAge > 0 && b.job.Cache.FromStep == "" {
		if done, err := b.share(ctx); done || err != nil {
			return err
		}
	}
	if resumed, err := b.openCheckpoint(ctx); resumed || err != nil {
		return err
	}
	b.parent, b.extents, b.top = "", nil, ""
	if b.job.Cache.Cold {
		b.decide("cold boot: asked for")
		return b.coldBoot(ctx)
	}
	warm, err := b.warmLayer(ctx)
	tried := err == nil
	if tried {
		err = b.restore(ctx, warm)
		if err == nil {
			return nil
		}
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if arm.IsCode(err, arm.CodeGuestNotReady) || arm.IsCode(err, arm.CodeNoSpace) || arm.IsCode(err, arm.CodeMissingTool) {
		return err // booting again would end the same way
	}
	b.decide("cold boot: %v", err)
	if tried {
		// A state that could not be restored is not tried again: the next build makes
		// it anew.
		if ferr := b.engine.layers.Forget(ctx, warm.ID); ferr != nil {
			return errors.Join(err, ferr)
		}
	}
	if err := b.vm.close(); err != nil {
		return fmt.Errorf("give up the restored machine: %w", err)
	}
	return b.coldBoot(ctx)
}

// share waits for builds that are running the same steps, and claims those that
// are left for this one. It reports true when the finished image is there then.
func (b *builder) share(ctx context.Context) (done bool, err error) {
	for {
		hit, _, err := b.lookup(ctx)
		if err != nil {
			return false, err
		}
		waited, err := b.claimSteps(ctx, hit.steps)
		if err != nil || !waited {
			return false, err
		}
		if done, err := b.findResult(ctx); done || err != nil {
			return done, err
		}
	}
}

// warmLayer finds the saved state of the booted base, or boots the base and saves it.
func (b *builder) warmLayer(ctx context.Context) (layer.Record, error) {
	hypervisor, _, err := b.engine.vms.get(ctx)
	if err != nil {
		return layer.Record{}, err
	}
	fingerprint, err := hypervisor.Fingerprint(ctx, b.plan.Shape)
	if err != nil {
		return layer.Record{}, err
	}
	key := b.plan.WarmKey(fingerprint)
	if rec, err := b.findWarm(ctx, key); err == nil || !arm.IsCode(err, arm.CodeNotFound) {
		return rec, err
	}
	unlock, err := b.engine.lock(ctx, "warm-"+key, func() { b.info("another build is booting the same base; waiting for it") })
	if err != nil {
		return layer.Record{}, err
	}
	defer unlock()
	if rec, err := b.findWarm(ctx, key); err == nil || !arm.IsCode(err, arm.CodeNotFound) {
		return rec, err
	}
	b.decide("booting %s once; later builds restore it", b.plan.Base.Origin)
	return b.makeWarm(ctx, key, fingerprint)
}

// findWarm looks a warm layer up and pins it.
func (b *builder) findWarm(ctx context.Context, key string) (layer.Record, error) {
	rec, err := b.engine.layers.ByKey(ctx, layer.Memory, key)
	if err != nil {
		return rec, err
	}
	if err := b.engine.files.Intact(rec); err != nil {
		b.decide("%v; it is made again", err)
		// The steps of earlier builds may stand on it, so it stays until they go.
		if ferr := b.engine.layers.Forget(ctx, rec.ID); ferr != nil {
			return rec, errors.Join(err, ferr)
		}
		return rec, arm.Errorf(arm.CodeNotFound, "layer %s was damaged", rec.ID)
	}
	if err := b.engine.layers.Pin(ctx, b.active.id(), rec.ID); err != nil {
		return rec, err
	}
	return rec, b.engine.layers.Touch(ctx, rec.ID)
}

// makeWarm boots the base and saves it on its private network, with the seed
// unplugged.
func (b *builder) makeWarm(ctx context.Context, key, fingerprint string) (rec layer.Record, err error) {
	id := layer.NewID()
	dir := run.Undo{Kind: undoDir, Target: b.engine.layerDir(id)}
	if err := b.undo.push(ctx, dir); err != nil {
		return rec, err
	}
	if err := b.engine.files.Create(id); err != nil {
		return rec, err
	}
	disk := b.engine.files.Path(id, layer.DiskFile)
	if err := qcow2.CreateOverlay(disk, b.plan.Base.DiskBytes, qcow2.Backing{Path: b.engine.baseRelative(b.plan.Base.Image), Format: "raw"}); err != nil {
		return rec, fmt.Errorf("create the boot overlay: %w", err)
	}

	guest := &vm{}
	defer func() { err = errors.Join(err, guest.close()) }()
	err = b.boot(ctx, guest, bootSpec{
		disk: disk,
		ram:  b.engine.files.Path(id, layer.RAMFile),
		vars: b.engine.files.Path(id, layer.VarsFile),
	})
	if err != nil {
		return rec, err
	}
	if err := b.rehearse(ctx, guest); err != nil {
		return rec, err
	}
	if err := guest.machine.Save(ctx, b.engine.files.Path(id, layer.StateFile)); err != nil {
		return rec, fmt.Errorf("save the booted base: %w", err)
	}
	changed, err := b.extentsOf(ctx, id, b.plan.Base.DiskBytes)
	if err != nil {
		return rec, err
	}
	manifest := layer.Manifest{
		DiskBytes: b.plan.Base.DiskBytes, ChunkSize: image.ChunkSize, Changed: changed,
		Saved: &layer.Saved{Fingerprint: fingerprint, Waagent: guest.waagent, MAC: network.BuildMAC},
	}
	runID := b.active.id()
	rec, err = b.engine.files.Commit(ctx, layer.Record{ID: id, Key: key, Kind: layer.Memory, Base: b.plan.Base.Image, Run: runID}, manifest, time.Time{})
	if err != nil {
		return rec, err
	}
	if err := b.engine.layers.Pin(ctx, runID, rec.ID); err != nil {
		return rec, err
	}
	return rec, b.undo.drop(ctx, dir)
}

// rehearse signs in to a guest that is about to be saved, once and with keys that
// nobody keeps, so that what a build's session starts and reads is there in every
// guest that is restored; and waits until the guest is at rest, for what it is still
// at would be done again in each of them.
func (b *builder) rehearse(ctx context.Context, guest *vm) error {
	id, err := provision.NewIdentity()
	if err != nil {
		return err
	}
	if err := guest.identify(ctx, id, provision.Settings{}); err != nil {
		return err
	}
	if err := guest.connect(ctx, id); err != nil {
		return err
	}
	return guest.watch(ctx, func(ctx context.Context) error {
		if _, err := guest.session.Run(ctx, "sudo -n true", io.Discard, io.Discard); err != nil {
			return err
		}
		// What a guest says to the end of its session does not matter.
		_ = guest.session.Close()
		guest.session = nil
		return errors.Join(guest.helper.Rest(ctx), guest.helper.Sync(ctx))
	})
}

// coldBoot boots the base for this run alone.
func (b *builder) coldBoot(ctx context.Context) error {
	b.parent, b.extents, b.topBytes = "", nil, b.plan.Base.DiskBytes
	if err := b.overlayOn(ctx, ""); err != nil {
		return err
	}
	return b.bootOn(ctx)
}

// bootOn boots the disk that the run writes to.
func (b *builder) bootOn(ctx context.Context) error {
	b.vm = &vm{}
	err := b.boot(ctx, b.vm, bootSpec{disk: b.engine.files.Path(b.top, layer.DiskFile), vars: filepath.Join(b.work, "vars.fd"), open: b.openNetwork})
	if err != nil {
		return err
	}
	id, err := provision.NewIdentity()
	if err != nil {
		return err
	}
	if err := b.vm.identify(ctx, id, b.engine.cfg.Guest); err != nil {
		return err
	}
	if err := b.grow(ctx); err != nil {
		return err
	}
	return b.vm.connect(ctx, id)
}

// restore continues the saved state of the booted base on an overlay of its own.
func (b *builder) restore(ctx context.Context, warm layer.Record) error {
	manifest, err := layer.ManifestOf(warm)
	if err != nil {
		return err
	}
	if manifest.Saved == nil {
		return arm.Errorf(arm.CodeCorrupt, "layer %s holds no saved state", warm.ID)
	}
	b.parent, b.extents, b.topBytes = warm.ID, manifest.Changed, b.plan.Base.DiskBytes
	if err := b.overlayOn(ctx, warm.ID); err != nil {
		return err
	}
	vars := filepath.Join(b.work, "vars.fd")
	if b.plan.Shape.Firmware == machine.UEFI {
		saved, err := os.ReadFile(b.engine.files.Path(warm.ID, layer.VarsFile))
		if err != nil {
			return fmt.Errorf("read the saved UEFI variables: %w", err)
		}
		if err := os.WriteFile(vars, saved, 0o600); err != nil {
			return fmt.Errorf("copy the UEFI variables: %w", err)
		}
	}
	start := time.Now()
	id, err := provision.NewIdentity()
	if err != nil {
		return err
	}
	b.vm = &vm{}
	state := savedState{
		file: b.engine.files.Path(warm.ID, layer.StateFile), ram: b.engine.files.Path(warm.ID, layer.RAMFile),
		mac: manifest.Saved.MAC, waagent: manifest.Saved.Waagent,
	}
	if err := b.continueFrom(ctx, b.vm, b.engine.files.Path(b.top, layer.DiskFile), state, id); err != nil {
		return err
	}
	if err := b.grow(ctx); err != nil {
		return err
	}
	b.decide("restored the booted base, saved %s, in %s", humanize.Time(warm.CreatedAt), time.Since(start).Round(10*time.Millisecond))
	return nil
}

// overlayOn makes the layer that the run writes first, over the disk of another,
// "" for the base.
func (b *builder) overlayOn(ctx context.Context, below string) error {
	b.top = below
	top, err := b.newOverlay(ctx)
	b.top = top
	return err
}

// grow enlarges the disk and the guest's root file system to what the plan asks.
func (b *builder) grow(ctx context.Context) error {
	if b.plan.DiskBytes <= b.topBytes {
		return nil
	}
	err := b.vm.watch(ctx, func(ctx context.Context) error {
		if err := b.vm.machine.Resize(ctx, b.plan.DiskBytes); err != nil {
			return err
		}
		_, err := b.vm.helper.Grow(ctx, b.plan.DiskBytes)
		return err
	})
	if err != nil {
		return fmt.Errorf("grow the disk to %s: %w", humanize.IBytes(uint64(b.plan.DiskBytes)), err)
	}
	b.topBytes = b.plan.DiskBytes
	return nil
}
