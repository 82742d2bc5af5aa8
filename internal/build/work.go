package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
	"goldsmith/internal/image/disk"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/plan"
	"goldsmith/internal/preflight"
	"goldsmith/internal/queue"
	"goldsmith/internal/run"
)

// builder works one run.
type builder struct {
	launcher
	active *activeRun
	undo   undoStack
	log    *buildLog // nil until the staging account is known
	// redactor knows the secrets of the run, once its request is read.
	redactor *event.Redactor
	job      job

	template *imagetemplate.Template
	source   source
	plan     *plan.Plan
	deployed *deployment // the network, once prepared
	drawing  sync.Mutex  // guards deployed.drawn
	vm       *vm

	keys        plan.Keys
	fingerprint string    // of the hypervisor
	started     time.Time // when the run was taken up
	verdicts    []verdict // what the look-up found, per step
	done        int       // steps that need not run
	oldest      time.Time // when the oldest step of the chain began
	made        []time.Time
	claims      *inflight // steps claimed among all builds; nil for none
	claimed     int       // the first of the plan's steps that is still claimed
	unsaved     time.Duration
	memoryCost  time.Duration
	secretGiven bool // a step of this run got a secret
	sealed      string

	parent     string        // last sealed layer, "" for the base
	top        string        // layer the machine writes to
	topBytes   int64         // virtual size of top
	extents    []disk.Extent // what all sealed layers above the base changed
	image      string        // content id of the result, "" until it is known
	failedStep string
	invalid    error // why the validation of an image failed that is distributed all the same
	outputs    []run.Output
}

// work works an acquired run, to its end. The record says how it ended.
func (e *Engine) work(ctx context.Context, lease *queue.Lease) error {
	redactor := &event.Redactor{}
	log, err := event.OpenLog(e.LogPath(lease.ID()), lease.ID(), redactor)
	if err != nil {
		return err
	}
	sink := e.observed(log, lease.ID(), redactor)
	active := &activeRun{lease: lease, sink: sink, rec: lease.Record()}
	b := &builder{
		launcher: launcher{
			engine: e, sink: sink, name: "pkrvm" + lease.ID()[:8],
			work: filepath.Join(e.dir, workDir(lease.ID())), console: e.ConsolePath(lease.ID()),
		},
		active: active, undo: undoStack{engine: e, run: active}, vm: &vm{}, redactor: redactor,
		started: time.Now(), memoryCost: orDefault(e.cfg.MemoryCost, checkpointCost),
	}
	start := b.started
	err = b.run(ctx)
	if b.claims != nil {
		err = errors.Join(err, b.claims.close())
	}
	if errors.Is(err, queue.ErrLeaseLost) {
		// Another owner undoes and reports; this one only lets go.
		return errors.Join(err, b.vm.close(), b.recorder.close(), log.Close())
	}
	if errors.Is(context.Cause(ctx), queue.ErrStopping) {
		return errors.Join(b.suspend(ctx), log.Close())
	}
	defer e.endOf(lease.Record())
	err = b.finish(ctx, err, time.Since(start))
	e.bell.ring(lease.ID())
	return errors.Join(err, log.Close())
}

// run passes through the phases.
func (b *builder) run(ctx context.Context) error {
	var err error
	if b.job, err = decodeJob(b.active.snapshot()); err != nil {
		return err
	}
	b.redactor.Add(b.engine.secrets(b.job)...)
	b.redactor.Add(b.engine.secretTexts(b.active.id())...)
	log, err := b.engine.openLog(ctx, b.job.Staging.Account, b.active.id(), logBlob, b.redactor)
	if err != nil {
		return fmt.Errorf("open the customization log: %w", err)
	}
	b.log, b.sink = log, tee(b.sink, log)
	b.active.sink = b.sink
	b.sink.Emit(event.Event{Kind: event.RunStarted, Text: b.job.Name, Target: b.job.TemplateID})
	parsed := imagetemplate.Parse(b.job.Body, imagetemplate.Options{APIVersion: b.job.APIVersion, Service: b.job.Literal})
	if parsed.Template == nil {
		return arm.Errorf(arm.CodeCorrupt, "the template of run %s no longer parses", b.active.id())
	}
	b.template = parsed.Template
	b.template.Name = b.job.Name
	b.job.keepAsTemplate(b.template)
	if b.identities, err = b.engine.vmIdentities(ctx, b.template); err != nil {
		return err
	}
	timeout := b.engine.buildTimeout(b.template.BuildTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, arm.Errorf(arm.CodeTimeout,
		"Failed in building/customizing image: Failed while waiting for packerizer: Timeout waiting for microservice to complete: 'context deadline exceeded'. the build used up its %s", b.template.BuildTimeout))
	defer cancel()
	for _, phase := range []struct {
		name event.Phase
		do   func(context.Context) error
	}{
		{event.PhasePrepare, b.prepare},
		{event.PhaseStart, b.start},
		{event.PhaseCustomize, b.customize},
		{event.PhaseGeneralize, b.generalize},
		{event.PhaseCapture, b.capture},
		{event.PhaseValidate, b.validate},
		{event.PhaseDistribute, b.distribute},
		{event.PhaseExport, b.export},
	} {
		if phase.name == event.PhaseExport && len(b.job.Outputs) == 0 {
			continue
		}
		if phase.name == event.PhaseValidate && len(b.plan.Validations) == 0 {
			continue
		}
		if b.image != "" { // nothing changed: nothing boots
			switch phase.name {
			case event.PhaseStart, event.PhaseGeneralize, event.PhaseCapture:
				continue
			case event.PhaseCustomize:
				phase.do = b.cachedSteps
			}
		}
		total := 0
		if phase.name == event.PhaseCustomize {
			total = len(b.plan.Steps)
		}
		if err := b.active.phase(ctx, phase.name, total, phase.do); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return cause
			}
			return err
		}
	}
	return b.invalid
}

// prepare makes everything ready that the machine needs.
func (b *builder) prepare(ctx context.Context) error {
	rec := b.active.snapshot()
	if err := b.undo.push(ctx, run.Undo{Kind: undoDir, Target: workDir(rec.ID)}); err != nil {
		return err
	}
	if err := os.MkdirAll(b.work, 0o700); err != nil {
		return fmt.Errorf("make the run's directory: %w", err)
	}
	var err error
	if b.recorder, err = newRecorder(b.work); err != nil {
		return err
	}
	if err := b.undo.push(ctx, run.Undo{Kind: undoPins}); err != nil {
		return err
	}
	if err := b.checkAccess(ctx); err != nil {
		return err
	}
	// Before the source: a host that cannot run machines needs no download.
	_, how, err := b.engine.vms.get(ctx)
	if err != nil {
		return err
	}
	b.decide("machines run by %s", how)
	if err := b.touch(ctx, preflight.Source, ""); err != nil {
		return fmt.Errorf("read the source: %w", err)
	}
	src, err := b.engine.resolveSource(ctx, b.template, b.job.Source, b.sink)
	if err != nil {
		return err
	}
	base, err := b.engine.fetchSource(ctx, src, b.sink)
	if err != nil {
		return err
	}
	b.source = src
	inputs, err := b.engine.inputs(b.template, base, b.job.Artifacts, b.job.Values)
	if err != nil {
		return err
	}
	inputs.Identities = identityKeys(b.identities)
	if inputs.Rules, err = b.engine.networkRules(ctx, b.template); err != nil {
		return err
	}
	p, warnings, problems := plan.New(b.template, inputs)
	if len(problems) > 0 {
		return joinProblems(problems)
	}
	for _, w := range warnings {
		b.warn("%s", w)
	}
	b.plan, b.origin, b.shape, b.diskBytes = p, base.Origin, p.Shape, base.DiskBytes
	b.info("source %s", base.Origin)
	if b.job.Source == "" { // another base says nothing about the template's source
		if err := b.engine.recordExactVersion(ctx, b.job.TemplateID, base.ExactVersion); err != nil {
			return err
		}
	}
	if err := b.prepareCache(ctx); err != nil {
		return err
	}
	found, err := b.findResult(ctx)
	if err != nil || (found && len(b.plan.Validations) == 0) {
		return err
	}
	if err := b.engine.baseDisk(ctx, base.Image, b.progress("render the base disk")); err != nil {
		return err
	}
	if b.deployed, err = b.deploy(ctx); err != nil {
		return err
	}
	b.open, b.elsewhere = b.openNetwork, b.template.VMProfile.VNet != nil
	b.draw(b.deployed.drawn)
	return nil
}

// finish undoes what the run acquired and records how it ended.
func (b *builder) finish(ctx context.Context, err error, elapsed time.Duration) error {
	ctx = context.WithoutCancel(ctx)
	cleanup := report(b.sink, event.PhaseCleanup, 0, func() error {
		return errors.Join(b.vm.close(), b.recorder.close(), b.undo.unwind(ctx))
	})
	if cleanup != nil {
		b.warn("clean-up is incomplete and is tried again by the next command: %v", cleanup)
	}
	state, message := b.outcome(err)
	message = b.redactor.Redact(message)
	failure := event.FailureOf(err)
	if failure != nil {
		failure.Target = b.failedStep
		// Outside the steps no script is to blame for a guest that is gone.
		if code := failure.Code; b.failedStep != "" || (code != arm.CodeGuestLost && code != arm.CodeMachine) {
			failure.Hint = hint(err)
		}
	}
	uerr := b.active.update(ctx, func(r *run.Record) error {
		if r.State == run.Canceling && state != run.Canceled {
			// A cancel that came after the last phase: what is published stays.
			state, message = run.Canceled, messageCanceled
		}
		r.State, r.Message, r.SubState = state, message, ""
		r.FailedStep, r.Outputs, r.EndedAt = b.failedStep, b.outputs, time.Now()
		return nil
	})
	if uerr != nil {
		err = errors.Join(err, fmt.Errorf("record the end of the run: %w", uerr))
	}
	b.sink.Emit(event.Event{Kind: event.RunFinished, State: string(state), Text: message, Elapsed: elapsed, Err: failure})
	if b.log != nil {
		if lerr := b.log.Close(); lerr != nil {
			err = errors.Join(err, fmt.Errorf("publish customization.log: %w", lerr))
		}
	}
	if err == nil && state != run.Succeeded {
		return arm.Errorf(arm.CodeDistributeFailed, "%s", message)
	}
	return err
}

// suspend undoes what the run acquired and leaves it unended, for the service's
// next start to take up again.
func (b *builder) suspend(ctx context.Context) error {
	err := report(b.sink, event.PhaseCleanup, 0, func() error {
		return errors.Join(b.vm.close(), b.recorder.close(), b.undo.unwind(context.WithoutCancel(ctx)))
	})
	b.info("the service stops: its next start begins this build again")
	if b.log != nil {
		err = errors.Join(err, b.log.Close())
	}
	return err
}

// outcome is the final state of a run that ended with err.
func (b *builder) outcome(err error) (run.State, string) {
	switch {
	case arm.IsCode(err, arm.CodeCanceled):
		return run.Canceled, messageCanceled
	case err != nil:
		return run.Failed, err.Error()
	}
	failed := 0
	for _, o := range b.outputs {
		if o.Error != "" {
			failed++
		}
	}
	switch {
	case failed == 0:
		return run.Succeeded, ""
	case failed == len(b.outputs):
		return run.Failed, "no output could be distributed: " + b.outputs[0].Error
	}
	return run.PartiallySucceeded, fmt.Sprintf("%d of %d outputs failed: %s", failed, len(b.outputs), firstError(b.outputs))
}

func firstError(outputs []run.Output) string {
	for _, o := range outputs {
		if o.Error != "" {
			return o.Error
		}
	}
	return ""
}
