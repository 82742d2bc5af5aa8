package build

import (
	"context"
	"fmt"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/customize"
	"goldsmith/internal/event"
	"goldsmith/internal/image"
	"goldsmith/internal/image/disk"
	"goldsmith/internal/image/qcow2"
	"goldsmith/internal/layer"
	"goldsmith/internal/run"
)

// customize runs the plan's steps that are not cached, and seals a layer after
// each.
func (b *builder) customize(ctx context.Context) error {
	if err := b.reportCache(ctx); err != nil {
		return err
	}
	for _, v := range b.verdicts[:b.done] {
		b.made = append(b.made, v.at)
	}
	for i := b.done; i < len(b.plan.Steps); i++ {
		if err := b.step(ctx, i); err != nil {
			return err
		}
	}
	return b.releaseSteps(len(b.plan.Steps))
}

// step runs the i-th customizer and seals what it did.
func (b *builder) step(ctx context.Context, i int) (err error) {
	step := b.plan.Steps[i]
	start := time.Now()
	if b.oldest.IsZero() {
		b.oldest = start
	}
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
	if len(step.Secrets()) > 0 {
		b.secretGiven = true
	}
	runner := customize.Runner{Session: b.vm.session, Content: b.engine.frozen, Secret: b.secret, Stdout: stdout, Stderr: stderr}
	if err := b.vm.watch(ctx, func(ctx context.Context) error { return runner.Run(ctx, step) }); err != nil {
		b.failedStep = step.Name
		b.keepFailed(ctx, step, err)
		return fmt.Errorf("step %d %q: %w", step.Number, step.Name, err)
	}
	if b.vm.matched != nil {
		b.vm.matched(false)
	}
	if err := b.vm.helper.Sync(ctx); err != nil {
		return fmt.Errorf("flush the guest's disks after step %d %q: %w", step.Number, step.Name, err)
	}
	return b.seal(ctx, i, time.Since(start))
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
