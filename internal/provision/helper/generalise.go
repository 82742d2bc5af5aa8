package helper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
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
	ctx, cancel := context.WithTimeout(ctx, stopTime)
	defer cancel()
	units, err := run(ctx, "systemctl", "list-units", "--state=active,activating,reloading,deactivating", "--plain", "--no-legend", "--full",
		"--type=service,socket,timer,path,scope")
	if errors.Is(err, errNoProgram) {
		return killStragglers(ctx, nil)
	}
	errs := []error{err}
	if _, err := run(ctx, "journalctl", "--relinquish-var"); err != nil && !errors.Is(err, errNoProgram) {
		errs = append(errs, fmt.Errorf("the journal could not be moved to memory: %w", err))
	}
	if err := stop(ctx, busy(units)); err != nil {
		errs = append(errs, fmt.Errorf("services could not be stopped in order: %w", err))
	}
	return errors.Join(append(errs, killStragglers(ctx, keptUnits))...)
}

// keptUnits outlive the change to the idle target, and systemd starts them again
// when they are killed, which takes an emulated guest seconds. So they go last.
var keptUnits = []string{"systemd-journald.service", "systemd-udevd.service"}

// stop stops units in the order that they ask for: by one transaction, that of a
// unit which conflicts with them and comes after them. It is a transient one, because
// a file would make systemd look for all units' files anew. A systemd that has no
// such units stops them one by one.
func stop(ctx context.Context, units []string) error {
	if len(units) == 0 {
		return nil
	}
	args := []string{"--quiet", "--unit=goldsmith-idle", "--property=Type=oneshot", "--property=DefaultDependencies=no"}
	for _, unit := range units {
		args = append(args, "--property=Conflicts="+unit, "--property=After="+unit)
	}
	if _, err := run(ctx, "systemd-run", append(args, "true")...); err == nil || ctx.Err() != nil {
		return err
	}
	_, err := run(ctx, "systemctl", append([]string{"stop"}, units...)...)
	return err
}

// busy picks the units to stop of a list as list-units prints it, one a line: each
// costs an emulated guest a fifth of a second, and most do nothing.
func busy(list string) (units []string) {
	for line := range strings.Lines(list) {
		if fields := strings.Fields(line); len(fields) >= 4 && !idles(fields[0], fields[3]) {
			units = append(units, fields[0])
		}
	}
	return units
}

// idles reports that a unit in a sub-state of systemd's need not be stopped: the
// helper's own, systemd itself, those that are killed last, and units of systemd and
// cloud-init that have no process: all that they would do is to write what is removed
// afterwards, such as the time of the shutdown.
func idles(name, sub string) bool {
	if name == residue.UnitName || name == "init.scope" || slices.Contains(keptUnits, name) {
		return true
	}
	switch sub {
	case "exited", "listening", "waiting", "running":
	default:
		return false // on its way somewhere
	}
	if strings.HasSuffix(name, ".socket") && (strings.HasPrefix(name, "systemd-journald") || strings.HasPrefix(name, "systemd-udevd")) {
		return true // theirs stay with them
	}
	if sub == "running" || strings.HasSuffix(name, ".timer") {
		return false
	}
	return slices.ContainsFunc([]string{"systemd-", "cloud-", "user-runtime-dir@", "kmod-static-nodes.service"}, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
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
