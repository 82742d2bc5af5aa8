package build

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"goldsmith/internal/customize"
	"goldsmith/internal/event"
	"goldsmith/internal/image/qcow2"
	"goldsmith/internal/layer"
	"goldsmith/internal/plan"
	"goldsmith/internal/provision"
	"goldsmith/internal/run"
)

// validate boots the finished image in a machine that is thrown away, and runs
// the template's validations in it. If the template wants the image distributed
// all the same, a failure is kept for the end of the run.
func (b *builder) validate(ctx context.Context) error {
	err := b.validateImage(ctx)
	if err == nil || context.Cause(ctx) != nil || !b.template.Validate.ContinueDistributeOnFailure {
		return err
	}
	b.invalid = err
	b.warn("the image is distributed although its validation failed: %v", err)
	return nil
}

func (b *builder) validateImage(ctx context.Context) (err error) {
	log, err := b.engine.openLog(ctx, b.job.Staging.Account, b.active.id(), checkBlob, b.redactor)
	if err != nil {
		return fmt.Errorf("open the validation log: %w", err)
	}
	outer := b.sink
	b.sink = tee(outer, log)
	defer func() {
		b.sink = outer
		if err != nil {
			log.Emit(event.Event{Kind: event.Warning, Text: err.Error()})
		}
		err = errors.Join(err, log.Close())
	}()
	guest := &vm{}
	defer func() { err = errors.Join(err, guest.close()) }()
	if err := b.bootImage(ctx, guest); err != nil {
		return fmt.Errorf("boot the image for its validation: %w", err)
	}
	for i, step := range b.plan.Validations {
		b.info("validation %d of %d: %s", i+1, len(b.plan.Validations), step.Name)
		if err := b.validation(ctx, guest, step); err != nil {
			b.failedStep = step.Name
			return fmt.Errorf("validation %d %q: %w", step.Number, step.Name, err)
		}
	}
	return nil
}

// bootImage boots what the run captured, on the run's own network, and connects.
func (b *builder) bootImage(ctx context.Context, guest *vm) error {
	if err := b.engine.baseDisk(ctx, b.image, b.progress("render the image")); err != nil {
		return err
	}
	// Beside the layers, so that the overlay finds the disk.
	scratch := layer.NewID()
	if err := b.undo.push(ctx, run.Undo{Kind: undoDir, Target: b.engine.layerDir(scratch)}); err != nil {
		return err
	}
	if err := b.engine.files.Create(scratch); err != nil {
		return err
	}
	disk := b.engine.files.Path(scratch, layer.DiskFile)
	if err := qcow2.CreateOverlay(disk, b.plan.DiskBytes, qcow2.Backing{Path: b.engine.baseRelative(b.image), Format: "raw"}); err != nil {
		return fmt.Errorf("create the overlay: %w", err)
	}
	l := b.launcher
	l.origin, l.work = "the image", filepath.Join(b.engine.dir, b.engine.layerDir(scratch))
	vars := b.engine.files.Path(scratch, layer.VarsFile)
	if err := l.boot(ctx, guest, bootSpec{disk: disk, vars: vars, open: b.openNetwork}); err != nil {
		return err
	}
	id, err := provision.NewIdentity()
	if err != nil {
		return err
	}
	if err := guest.identify(ctx, id, b.engine.cfg.Guest); err != nil {
		return err
	}
	return guest.connect(ctx, id)
}

// validation runs one validation.
func (b *builder) validation(ctx context.Context, guest *vm, step plan.Step) error {
	stdout := event.NewLineWriter(b.sink, b.redactor, event.Event{StepName: step.Name, Stream: "stdout"})
	stderr := event.NewLineWriter(b.sink, b.redactor, event.Event{StepName: step.Name, Stream: "stderr"})
	defer stdout.Close()
	defer stderr.Close()
	runner := customize.Runner{Session: guest.session, Content: b.engine.frozen, Secret: b.secret, Stdout: stdout, Stderr: stderr}
	return guest.watch(ctx, func(ctx context.Context) error { return runner.Run(ctx, step) })
}
