package upkeep

import (
	"context"
	"errors"
	"os"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/build"
	"goldsmith/internal/run"
)

// run is what a request asks for, and the run that it names: one of a template that
// the caller may read.
func (u upkeep) run(ctx context.Context, r *armapi.Request) (in Input, rec run.Record, err error) {
	if err = r.Decode(&in); err == nil {
		rec, err = u.ofTemplate(ctx, r, in.Name)
	}
	return in, rec, err
}

// ofTemplate is the run called name, if the caller may read its template.
func (u upkeep) ofTemplate(ctx context.Context, r *armapi.Request, name string) (run.Record, error) {
	rec, err := u.engine.Runs().Find(ctx, name)
	if err != nil {
		return rec, err
	}
	ok, err := r.Allowed(ctx, "Microsoft.VirtualMachineImages/imageTemplates/read", rec.Template)
	if err == nil && !ok {
		err = arm.Errorf(arm.CodeNotFound, "no run is called %q", name)
	}
	return rec, err
}

// console answers with the serial console of a run's machine, as far as it has
// come. Whoever may read the template may read it.
func (u upkeep) console(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	_, rec, err := u.run(ctx, r)
	if err != nil {
		return armapi.Response{}, err
	}
	f, err := os.Open(u.engine.ConsolePath(rec.ID))
	if errors.Is(err, os.ErrNotExist) {
		return armapi.Response{}, arm.Errorf(arm.CodeNotFound, "run %s has no console yet: its machine was never started", rec.ID)
	}
	if err != nil {
		return armapi.Response{}, arm.Errorf(arm.CodeInternal, "read the console: %w", err)
	}
	return file(f)
}

// capture answers with the traffic of a run, from now until the run ends.
func (u upkeep) capture(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	_, rec, err := u.run(ctx, r)
	if err != nil {
		return armapi.Response{}, err
	}
	return stream(ctx, func(ctx context.Context, send func(Frame)) (any, error) {
		return true, u.engine.Capture(ctx, rec.ID, stdout(send))
	}), nil
}

// debug runs a command in the guest of a failed step.
func (u upkeep) debug(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	in, rec, err := u.run(ctx, r)
	if err != nil {
		return armapi.Response{}, err
	}
	if in.Command == "" {
		return armapi.Response{}, arm.Errorf(arm.CodeUsage, "say which command to run in the guest: a shell is opened on the service's host only")
	}
	return stream(ctx, func(ctx context.Context, send func(Frame)) (any, error) {
		options := build.DebugOptions{Command: in.Command, Stdout: stdout(send), Stderr: stderr(send)}
		return u.engine.Debug(ctx, rec.ID, options, events(send))
	}), nil
}

// drop removes what was kept of a failed step.
func (u upkeep) drop(ctx context.Context, r *armapi.Request, in Input) (bool, error) {
	rec, err := u.ofTemplate(ctx, r, in.Name)
	if err != nil {
		return false, err
	}
	return true, u.engine.DropFailed(ctx, rec.ID)
}
