package helper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"goldsmith/internal/provision/protocol"
	"goldsmith/internal/provision/residue"
)

const (
	// stopTime is how long services may take to stop; one that takes longer is
	// caught as a power cut would.
	stopTime = time.Minute
	// idleTarget needs nothing but what keeps the helper alive: going to it stops
	// every service and leaves the mounts.
	idleTarget = "goldsmith-idle.target"
)

// Generalise stops every service, so that nothing writes any more, and removes
// what the build left. It outlives the SSH session that the build came in by,
// because the helper is a unit of its own.
func (l *Linux) Generalise(ctx context.Context, g protocol.Generalise) (protocol.Generalised, error) {
	var done protocol.Generalised
	warn := func(err error) {
		if err != nil {
			done.Warnings = append(done.Warnings, err.Error())
		}
	}
	trust, err := residue.Unsettle(l.root)
	warn(err)
	if trust {
		warn(renewTrust(ctx))
	}
	warn(l.idle(ctx))
	report := residue.Clean(l.root, g.User)
	done.Removed = report.Removed
	done.Warnings = append(done.Warnings, report.Warnings...)
	unix.Sync()
	trimmed, err := l.Trim(ctx)
	warn(err)
	done.Trimmed = trimmed.Bytes
	return done, nil
}

// idle stops everything that may write.
func (l *Linux) idle(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, stopTime)
	defer stop()
	units, err := run(ctx, "systemctl", "list-units", "--state=active,activating,reloading,deactivating", "--plain", "--no-legend", "--full",
		"--type=service,socket,timer,path,scope")
	if errors.Is(err, errNoProgram) {
		return killStragglers(ctx, nil)
	}
	if err := l.root.MkdirAll("run/systemd/system", 0o755); err != nil {
		return err
	}
	if err := l.root.WriteFile("run/systemd/system/"+idleTarget, []byte(idleUnit(units)), 0o644); err != nil {
		return err
	}
	errs := []error{err}
	if _, err := run(ctx, "journalctl", "--relinquish-var"); err != nil && !errors.Is(err, errNoProgram) {
		errs = append(errs, fmt.Errorf("the journal could not be moved to memory: %w", err))
	}
	if err := isolate(ctx); err != nil {
		errs = append(errs, fmt.Errorf("services could not be stopped in order: %w", err))
	}
	return errors.Join(append(errs, killStragglers(ctx, keptUnits))...)
}

// keptUnits outlive the change to the idle target, and systemd starts them again
// when they are killed, which takes an emulated guest seconds. So they go last.
var keptUnits = []string{"systemd-journald.service", "systemd-udevd.service"}

// isolate goes to the idle target. systemd looks for the file of a unit that it does
// not know; only an old one that remembers which files there are has to read all
// units anew, which takes an emulated guest ten seconds.
func isolate(ctx context.Context) error {
	if _, err := run(ctx, "systemctl", "isolate", idleTarget); err == nil || ctx.Err() != nil {
		return err
	}
	if _, err := run(ctx, "systemctl", "daemon-reload"); err != nil {
		return err
	}
	_, err := run(ctx, "systemctl", "isolate", idleTarget)
	return err
}

// idleUnit is the target that is reached when none of units runs any more. They
// are as list-units prints them, one a line. systemctl waits for the target
// alone, and systemd starts a unit only when those that it is ordered against
// have stopped: without the order, a service that writes when it stops, as the
// one that logs shutdowns does, would do so after the logs were emptied.
func idleUnit(units string) string {
	var b strings.Builder
	b.WriteString("[Unit]\nDescription=Nothing runs\nDefaultDependencies=no\nAllowIsolate=yes\nRequires=-.mount\n")
	for line := range strings.Lines(units) {
		// The helper's own unit stays.
		if name := strings.Fields(line); len(name) > 0 && name[0] != residue.UnitName {
			fmt.Fprintf(&b, "After=%s\n", name[0])
		}
	}
	return b.String()
}

// PowerOff completes and freezes every file system and ends the guest. An
// orderly shutdown would write once more what was just removed: log entries, a
// random seed.
func (l *Linux) PowerOff(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, stopTime)
	defer stop()
	if err := killStragglers(ctx, nil); err != nil {
		_, _ = fmt.Fprintf(os.Stderr, "%v\n", err) // the disk is complete but for what they hold open
	}
	unix.Sync()
	all, err := mounts()
	if err != nil {
		return err
	}
	for _, m := range diskMounts(all) {
		if err := freeze(m); err != nil {
			// It stays as complete as the sync made it, and its journal does the rest.
			_, _ = fmt.Fprintf(os.Stderr, "cannot freeze %s: %v\n", m.point, err)
		}
	}
	return unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// Release unmounts the seed disk where someone has it mounted, so that it can be
// unplugged.
func (l *Linux) Release(context.Context) error {
	all, err := mounts()
	if err != nil {
		return err
	}
	var errs []error
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].kind == "iso9660" && strings.HasPrefix(all[i].source, "/dev/") {
			errs = append(errs, unix.Unmount(all[i].point, 0))
		}
	}
	return errors.Join(errs...)
}
