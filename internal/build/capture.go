package build

import (
	"context"
	"fmt"
	"slices"

	"github.com/dustin/go-humanize"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
	"goldsmith/internal/image"
	"goldsmith/internal/image/disk"
	"goldsmith/internal/image/qcow2"
	"goldsmith/internal/layer"
	"goldsmith/internal/provision"
)

// generalize removes what makes the guest an individual and powers it off.
func (b *builder) generalize(ctx context.Context) error {
	stdout := event.NewLineWriter(b.sink, b.redactor, event.Event{StepName: "generalize", Stream: "stdout"})
	stderr := event.NewLineWriter(b.sink, b.redactor, event.Event{StepName: "generalize", Stream: "stderr"})
	defer stdout.Close()
	defer stderr.Close()
	err := b.vm.watch(ctx, func(ctx context.Context) error {
		return provision.Deprovision(ctx, b.vm.session, b.vm.waagent, b.sink, stdout, stderr)
	})
	if err != nil {
		return fmt.Errorf("deprovision the guest: %w", err)
	}
	// From here the guest powers itself off; its end is what we wait for.
	done, err := b.vm.helper.Generalise(ctx, provision.BuildUser)
	if err != nil {
		return fmt.Errorf("generalize the guest: %w", err)
	}
	for _, w := range done.Warnings {
		b.warn("while generalizing: %s", w)
	}
	b.info("removed %d files of the build, gave %s of free space back", done.Removed, humanize.IBytes(uint64(done.Trimmed)))
	octx, cancel := context.WithTimeoutCause(ctx, b.engine.powerOffTimeout, arm.Errorf(arm.CodeMachine, "the guest did not power off within %s after it was generalized", b.engine.powerOffTimeout))
	defer cancel()
	if err := b.vm.machine.Wait(octx); err != nil {
		if cause := context.Cause(octx); cause != nil {
			return cause
		}
		return fmt.Errorf("power the guest off: %w", err)
	}
	return b.vm.close()
}

// capture puts the disk into the image store: chunks that no layer changed are
// the base's, the others are read.
func (b *builder) capture(ctx context.Context) error {
	changed, err := b.extentsOf(ctx, b.top, b.plan.DiskBytes)
	if err != nil {
		return err
	}
	b.extents = disk.Union(slices.Concat(b.extents, changed))
	chain, err := qcow2.OpenChain(ctx, b.engine.files.Path(b.top, layer.DiskFile), b.engine.dir)
	if err != nil {
		return fmt.Errorf("open the finished disk: %w", err)
	}
	defer chain.Close()
	base, err := image.ParseDigest(b.plan.Base.Image)
	if err != nil {
		return err
	}
	digest, stats, err := b.engine.images.Capture(ctx, base, b.extents, chain, b.progress("capture"))
	if err != nil {
		return fmt.Errorf("store the image: %w", err)
	}
	b.image = digest.String()
	b.info("captured image %.12s: %d chunks, %d of them inherited from the source, %d new in the store", b.image, stats.Chunks, stats.Inherited, stats.Stored)

	if err := b.checkStructure(ctx, base, digest); err != nil {
		return err
	}
	return b.keepResult(ctx)
}
