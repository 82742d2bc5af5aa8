package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
	"goldsmith/internal/guest"
	"goldsmith/internal/image"
	"goldsmith/internal/image/qcow2"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/layer"
	"goldsmith/internal/network"
	"goldsmith/internal/plan"
	"goldsmith/internal/provision"
	"goldsmith/internal/run"
)

// OnError says what becomes of the state in which a step failed.
type OnError string

// The ways. Nothing is kept of a guest that is gone or that was given a secret.
const (
	Clean OnError = "clean" // it goes
	Keep  OnError = "keep"  // it is saved, for Debug
)

// DefaultKeep is how long the state of a failed step is kept; abortKeep is how
// long when the template asks for it, whose author does not wait for the failure.
const (
	DefaultKeep = time.Hour
	abortKeep   = 24 * time.Hour
)

// keepAsTemplate lets a template's errorHandling decide what becomes of the state
// of a failed step, where the request for the run says nothing.
func (j *job) keepAsTemplate(t *imagetemplate.Template) {
	if j.OnError == "" && t.ErrorHandling.OnCustomizerError == imagetemplate.Abort {
		j.OnError, j.Keep = Keep, orDefault(j.Keep, abortKeep)
	}
}

// keepFailed saves the guest in which a step failed. Its trouble is not the run's.
func (b *builder) keepFailed(ctx context.Context, step plan.Step, cause error) {
	switch {
	case b.job.OnError != Keep || ctx.Err() != nil || b.vm.machine == nil:
		return
	case b.secretGiven:
		b.decide("the state is not kept: a step was given a secret")
		return
	case arm.IsCode(cause, arm.CodeMachine):
		return // there is no guest any more
	}
	if err := b.saveFailed(ctx, step, cause); err != nil {
		b.warn("the state in which step %d failed could not be kept: %v", step.Number, err)
	}
}

func (b *builder) saveFailed(ctx context.Context, step plan.Step, cause error) error {
	if err := b.vm.helper.Sync(ctx); err != nil {
		return err
	}
	next, err := b.newOverlay(ctx)
	if err != nil {
		return err
	}
	memory, err := b.checkpoint(ctx, next)
	if err != nil || memory == "" {
		return err
	}
	keep := orDefault(b.job.Keep, DefaultKeep)
	shape, err := json.Marshal(b.plan.Shape)
	if err != nil {
		return fmt.Errorf("encode the machine's shape: %w", err)
	}
	manifest := layer.Manifest{DiskBytes: b.plan.DiskBytes, ChunkSize: image.ChunkSize, Step: step.Name}
	if err := b.commit(ctx, layer.Record{ID: b.sealed, Kind: layer.Disk, Parent: b.parent}, manifest); err != nil {
		return err
	}
	manifest.Saved = &layer.Saved{Fingerprint: b.fingerprint, Waagent: b.vm.waagent, Whole: true, MAC: network.BuildMAC}
	manifest.Failed = &layer.Failed{
		Until: time.Now().Add(keep), Shape: shape, Origin: b.plan.Base.Origin, Message: b.redactor.Redact(cause.Error()),
	}
	if err := b.commit(ctx, layer.Record{ID: memory, Kind: layer.Memory, Parent: b.sealed}, manifest); err != nil {
		return err
	}
	b.decide("the guest is kept as it was when the step failed, until %s: goldsmith debug %.8s", manifest.Failed.Until.Format(time.TimeOnly), b.active.id())
	return nil
}

// FailedState is the state in which a step of a run failed.
type FailedState struct {
	Step    string    `json:"step"`
	Until   time.Time `json:"until"`
	Message string    `json:"message"`

	layer    layer.Record
	manifest layer.Manifest
}

// FailedState finds what is kept of a run's failed step; CodeNotFound.
func (e *Engine) FailedState(ctx context.Context, runID string) (FailedState, error) {
	all, err := e.layers.List(ctx, layer.Filter{Kind: layer.Memory, Run: runID})
	if err != nil {
		return FailedState{}, err
	}
	for _, rec := range all {
		m, err := layer.ManifestOf(rec)
		if err != nil {
			return FailedState{}, err
		}
		if m.Failed == nil {
			continue
		}
		if time.Now().After(m.Failed.Until) {
			return FailedState{}, arm.Errorf(arm.CodeNotFound, "the state of run %s was kept until %s", runID, m.Failed.Until.Format(time.DateTime))
		}
		return FailedState{Step: m.Step, Until: m.Failed.Until, Message: m.Failed.Message, layer: rec, manifest: m}, nil
	}
	return FailedState{}, arm.Errorf(arm.CodeNotFound, "no state of a failed step of run %s is kept: builds keep it with --on-error keep, unless the guest was gone or had been given a secret", runID)
}

// DropFailed removes what is kept of a run's failed step.
func (e *Engine) DropFailed(ctx context.Context, runID string) error {
	s, err := e.FailedState(ctx, runID)
	if err != nil {
		return err
	}
	return e.dropFailed(ctx, s.layer)
}

func (e *Engine) dropFailed(ctx context.Context, memory layer.Record) error {
	if err := e.files.Remove(ctx, memory.ID); err != nil {
		return err
	}
	return e.files.Remove(ctx, memory.Parent)
}

// dropExpired removes the states of failed steps whose time is over.
func (e *Engine) dropExpired(ctx context.Context, now time.Time) error {
	all, err := e.layers.List(ctx, layer.Filter{Kind: layer.Memory})
	if err != nil {
		return err
	}
	var errs []error
	for _, rec := range all {
		m, err := layer.ManifestOf(rec)
		if err != nil || m.Failed == nil || !now.After(m.Failed.Until) {
			continue
		}
		if err := e.dropFailed(ctx, rec); err != nil && !arm.IsCode(err, arm.CodeConflict) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// DebugOptions say what to do in the guest of a failed step.
type DebugOptions struct {
	Command        string // run with the build user's shell; "" for Shell
	Stdout, Stderr io.Writer
	// Shell is called with the session instead of a command.
	Shell func(ctx context.Context, s guest.Session) (exit int, err error)
}

// Debug continues the guest exactly where a step of the run failed, on a disk that
// is thrown away afterwards and with keys that are made for this once, and runs a
// command or a shell in it. The kept state does not change.
func (e *Engine) Debug(ctx context.Context, runID string, o DebugOptions, sink event.Sink) (exit int, err error) {
	state, err := e.FailedState(ctx, runID)
	if err != nil {
		return 0, err
	}
	scratch := layer.NewID()
	if err := e.files.Create(scratch); err != nil {
		return 0, err
	}
	work := filepath.Join(e.dir, e.layerDir(scratch))
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	disk := e.files.Path(scratch, layer.DiskFile)
	err = qcow2.CreateOverlay(disk, state.manifest.DiskBytes, qcow2.Backing{Path: layer.Relative(state.layer.Parent), Format: "qcow2"})
	if err != nil {
		return 0, fmt.Errorf("create the overlay: %w", err)
	}
	l := launcher{
		engine: e, sink: sink, name: "goldsmith-debug", origin: state.manifest.Failed.Origin, diskBytes: state.manifest.DiskBytes,
		work: work, console: filepath.Join(work, "console.log"),
	}
	if err := json.Unmarshal(state.manifest.Failed.Shape, &l.shape); err != nil {
		return 0, arm.Errorf(arm.CodeCorrupt, "the shape of a saved machine does not parse: %w", err)
	}
	hypervisor, _, err := e.vms.get(ctx)
	if err != nil {
		return 0, err
	}
	saved := state.manifest.Saved
	if now, err := hypervisor.Fingerprint(ctx, l.shape); err != nil || now != saved.Fingerprint {
		return 0, errors.Join(err, arm.Errorf(arm.CodeMachine, "the state was saved by another QEMU, CPU model or machine and cannot be restored here"))
	}
	if err := e.files.Verify(state.layer); err != nil {
		return 0, err
	}
	id, err := provision.NewIdentity()
	if err != nil {
		return 0, err
	}
	kept := savedState{file: e.files.Path(state.layer.ID, layer.StateFile), mac: saved.MAC, waagent: saved.Waagent}
	vm := &vm{}
	defer func() { err = errors.Join(err, vm.close()) }()
	if err := l.continueFrom(ctx, vm, disk, kept, id); err != nil {
		return 0, err
	}
	err = vm.watch(ctx, func(ctx context.Context) (err error) {
		if o.Command == "" && o.Shell != nil {
			exit, err = o.Shell(ctx, vm.session)
			return err
		}
		exit, err = vm.session.Run(ctx, o.Command, o.Stdout, o.Stderr)
		return err
	})
	return exit, err
}

// endOf forgets what was only kept for the time of a run.
func (e *Engine) endOf(rec run.Record) { e.secretsOf.Delete(rec.ID) }
