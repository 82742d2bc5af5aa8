// Package recipe makes base images instead of downloading them: a bootable disk
// from the packages of a distribution, on a host that can neither mount a file
// system nor attach a loop device, and where user namespaces allow, as an
// ordinary user.
package recipe

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
)

// DiskBytes is the virtual size of a disk that a Recipe makes.
const DiskBytes int64 = 4 << 30

// undoTime is how long removing the scratch files of a cancelled Make may take.
const undoTime = 8 * time.Second

// Recipe is one way to make a base image.
type Recipe struct {
	name     string
	suite    string
	packages []string
	overlay  []file
	script   string // runs as root in the finished root file system
}

// Name is a short name of the recipe, fit for messages and file names.
func (r *Recipe) Name() string { return r.name }

// Options of Make.
type Options struct {
	// Events receives the steps as event.Info and event.Progress, the warnings as
	// event.Warning. Nil discards them.
	Events event.Sink
	// APT is the directory with the host's APT sources; "" for /etc/apt.
	APT string
	// Proxy is the HTTP proxy of the package download; "" for the host's own APT
	// configuration. It does not get into the image.
	Proxy string
}

// Make writes a sparse raw disk of DiskBytes to dest, replacing it at once when
// the disk is complete; nothing is left behind otherwise. It takes about one and
// a half minutes and 2 GiB of scratch space next to dest and in the temporary
// directory. Errors are arm.Errors: CodeMissingTool names the Debian package to
// install, CodeFetchFailed has the package manager's last words.
func (r *Recipe) Make(ctx context.Context, dest string, o Options) (err error) {
	if o.Events == nil {
		o.Events = event.Discard
	}
	if o.APT == "" {
		o.APT = "/etc/apt"
	}
	tools, err := findTools()
	if err != nil {
		return err
	}
	sources, err := HostSources(o.APT, r.suite)
	if err != nil {
		return err
	}
	// A private directory beside dest for what this user owns, one below the
	// temporary directory for mmdebstrap, whose mapped users must reach it.
	work, err := os.MkdirTemp(filepath.Dir(dest), ".recipe-")
	if err != nil {
		return arm.Errorf(arm.CodeInternal, "cannot make a scratch directory beside the disk: %w", err)
	}
	k := &kitchen{recipe: r, tools: tools, events: o.Events, sources: sources, proxy: o.Proxy, work: work}
	defer func() {
		undo, stop := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
		defer stop()
		err = errors.Join(err, k.clean(undo))
	}()
	if err := k.open(); err != nil {
		return err
	}
	disk := filepath.Join(work, "disk.raw")
	for _, step := range []struct {
		text string
		do   func(context.Context, string) error
	}{
		{"installing packages", k.bootstrap},
		{"writing the partition table", k.partition},
		{"writing the root file system", k.rootFS},
		{"writing the EFI system partition", k.esp},
		{"writing the BIOS boot code", k.bios},
	} {
		o.Events.Emit(event.Event{Kind: event.Info, Text: r.name + ": " + step.text})
		if err := step.do(ctx, disk); err != nil {
			return asArm(ctx, step.text, err)
		}
	}
	if err := os.Chmod(disk, 0o644); err != nil {
		return arm.Errorf(arm.CodeInternal, "cannot finish the disk: %w", err)
	}
	if err := publish(disk, dest); err != nil {
		return arm.Errorf(arm.CodeInternal, "cannot put the disk in place: %w", err)
	}
	return nil
}

// publish syncs the finished disk and moves it over dest.
func publish(disk, dest string) error {
	f, err := os.Open(disk)
	if err != nil {
		return err
	}
	err = errors.Join(f.Sync(), f.Close())
	if err != nil {
		return err
	}
	if err := os.Rename(disk, dest); err != nil {
		return err
	}
	return syncDir(filepath.Dir(dest))
}

// syncDir makes a rename in dir durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// asArm gives a step's error a code where it has none, and the cause of a
// cancelled context its own.
func asArm(ctx context.Context, step string, err error) error {
	if ctx.Err() != nil {
		cause := context.Cause(ctx)
		var coded *arm.Error
		if errors.As(cause, &coded) {
			return cause
		}
		return arm.Errorf(arm.CodeCanceled, "making the base image was cancelled while %s: %w", step, cause)
	}
	var coded *arm.Error
	if errors.As(err, &coded) {
		return err
	}
	if isNoSpace(err) {
		return arm.Errorf(arm.CodeNoSpace, "the disk of this host is full while %s: free about 3 GiB and try again: %w", step, err)
	}
	return arm.Errorf(arm.CodeInternal, "making the base image failed while %s: %w", step, err)
}
