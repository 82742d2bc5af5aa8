package build

import (
	"context"
	"fmt"
	"slices"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/customize"
	"goldsmith/internal/event"
	"goldsmith/internal/image"
	"goldsmith/internal/image/disk"
	"goldsmith/internal/image/qcow2"
	"goldsmith/internal/layer"
	"goldsmith/internal/plan"
	"goldsmith/internal/run"
)

// customize runs the plan's steps in the guest and seals a layer after each.
func (b *builder) customize(ctx context.Context) error {
	keys := b.plan.Keys("")
	for i, step := range b.plan.Steps {
		if err := b.step(ctx, step, keys.Steps[i]); err != nil {
			return err
		}
	}
	return nil
}

// step runs one customizer and seals what it did.
func (b *builder) step(ctx context.Context, step plan.Step, key string) (err error) {
	start := time.Now()
	b.sink.Emit(event.Event{Kind: event.StepStarted, Step: step.Number, StepName: step.Name, Text: string(step.Type)})
	defer func() {
		failure := event.FailureOf(err)
		if failure != nil {
			failure.Target, failure.Hint = step.Pointer, hint(err)
		}
		b.sink.Emit(event.Event{Kind: event.StepFinished, Step: step.Number, StepName: step.Name, Elapsed: time.Since(start), Err: failure})
	}()

	stdout := event.NewLineWriter(b.sink, b.redactor, event.Event{Step: step.Number, StepName: step.Name, Stream: "stdout"})
	stderr := event.NewLineWriter(b.sink, b.redactor, event.Event{Step: step.Number, StepName: step.Name, Stream: "stderr"})
	defer stdout.Close()
	defer stderr.Close()
	runner := customize.Runner{Session: b.vm.session, Content: b.engine.frozen, Stdout: stdout, Stderr: stderr}
	if err := b.vm.watch(ctx, func(ctx context.Context) error { return runner.Run(ctx, step) }); err != nil {
		b.failedStep = step.Name
		return fmt.Errorf("step %d %q: %w", step.Number, step.Name, err)
	}
	if err := b.vm.helper.Sync(ctx); err != nil {
		return fmt.Errorf("flush the guest's disks after step %d %q: %w", step.Number, step.Name, err)
	}
	return b.seal(ctx, key)
}

// seal freezes the disk as layer key and lets the machine write to a new one.
func (b *builder) seal(ctx context.Context, key string) error {
	next, err := b.newOverlay(ctx)
	if err != nil {
		return err
	}
	if err := b.vm.machine.Seal(ctx, b.engine.files.Path(next, layer.DiskFile)); err != nil {
		return fmt.Errorf("seal the disk: %w", err)
	}
	sealed := b.top
	b.top = next
	changed, err := b.extentsOf(ctx, sealed, b.plan.DiskBytes)
	if err != nil {
		return err
	}
	manifest, err := layer.Manifest{DiskBytes: b.plan.DiskBytes, ChunkSize: image.ChunkSize, Changed: changed}.Encode()
	if err != nil {
		return fmt.Errorf("encode the manifest of a layer: %w", err)
	}
	record, err := b.engine.files.Commit(ctx, layer.Record{
		ID: sealed, Key: key, Kind: layer.Disk, Parent: b.parent, Base: b.plan.Base.Image, Run: b.active.id(), Manifest: manifest,
	})
	if err != nil {
		return err
	}
	if err := b.engine.layers.Pin(ctx, record.Run, record.ID); err != nil {
		return err
	}
	b.parent = sealed
	b.extents = disk.Union(slices.Concat(b.extents, changed))
	return b.undo.drop(ctx, run.Undo{Kind: undoDir, Target: b.engine.layerDir(sealed)})
}

// newOverlay makes an empty layer over the current top. Until it is committed it
// is the run's to remove.
func (b *builder) newOverlay(ctx context.Context) (id string, err error) {
	id = layer.NewID()
	if err := b.undo.push(ctx, run.Undo{Kind: undoDir, Target: b.engine.layerDir(id)}); err != nil {
		return "", err
	}
	if err := b.engine.files.Create(id); err != nil {
		return "", err
	}
	backing, format := b.engine.baseRelative(b.plan.Base.Image), "raw"
	if b.top != "" {
		backing, format = layer.Relative(b.top), "qcow2"
	}
	err = qcow2.CreateOverlay(b.engine.files.Path(id, layer.DiskFile), b.topBytes, qcow2.Backing{Path: backing, Format: format})
	if err != nil {
		return "", fmt.Errorf("create a disk overlay: %w", err)
	}
	return id, nil
}

// extentsOf is what a sealed overlay holds, in whole chunks.
func (b *builder) extentsOf(ctx context.Context, id string, diskBytes int64) ([]disk.Extent, error) {
	allocated, err := qcow2.Allocated(ctx, b.engine.files.Path(id, layer.DiskFile))
	if err != nil {
		return nil, fmt.Errorf("read sealed layer %s: %w", id, err)
	}
	return layer.Chunked(allocated, image.ChunkSize, diskBytes), nil
}

// hint is the likely cause of a failed step and what to do about it.
func hint(err error) string {
	switch arm.CodeOf(err) {
	case arm.CodeGuestLost:
		return "the connection to the guest broke: a script that stops sshd, reconfigures the network or sets firewall rules does that"
	case arm.CodeMachine:
		return "the build VM went away during the step: a script that powers off or reboots does that; there is no restart customizer for Linux"
	case arm.CodeTimeout:
		return "raise properties.buildTimeoutInMinutes, or make the step faster"
	case arm.CodeNoSpace:
		return "free space in the data directory's file system, or point --data at another one"
	case arm.CodeDigestMismatch:
		return "the content changed: update sha256Checksum, or fetch from a place that does not change"
	}
	return ""
}
