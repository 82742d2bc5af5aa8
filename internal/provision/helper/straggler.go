package helper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// killStragglers kills every process but systemd, the kernel's, this one and those of
// the units to spare, and waits until they are gone. One that closes its session a
// moment too late would write to a log that was just emptied, and one that holds a
// removed file open would leave an orphan on the disk. What systemd starts again
// writes only below /run by then.
func killStragglers(ctx context.Context, spare []string) error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	var waiting []unix.PollFd
	defer func() {
		for _, p := range waiting {
			_ = unix.Close(int(p.Fd))
		}
	}()
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == 1 || pid == os.Getpid() {
			continue
		}
		// The kernel's own processes have no program.
		if _, err := os.Readlink("/proc/" + entry.Name() + "/exe"); err != nil {
			continue
		}
		if slices.Contains(spare, unitOf(entry.Name())) {
			continue
		}
		fd, err := unix.PidfdOpen(pid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cannot watch process %d: %w", pid, err)
		}
		waiting = append(waiting, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
		if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("cannot kill process %d: %w", pid, err)
		}
	}
	for i := range waiting {
		if err := waitGone(ctx, waiting[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// unitOf is the unit that a process belongs to, "" for none that can be told.
func unitOf(pid string) string {
	text, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		return ""
	}
	return parseUnit(string(text))
}

// parseUnit finds the unit in a table as cgroups(7) describes /proc/PID/cgroup: in the
// hierarchy that systemd names processes by, the first part that names a service. A
// service may have groups of its own below.
func parseUnit(table string) string {
	for line := range strings.Lines(table) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 || fields[1] != "" && fields[1] != "name=systemd" {
			continue
		}
		for part := range strings.SplitSeq(fields[2], "/") {
			if strings.HasSuffix(part, ".service") {
				return part
			}
		}
	}
	return ""
}

// waitGone waits for one process to end.
func waitGone(ctx context.Context, p []unix.PollFd) error {
	const slice = 100 // milliseconds between two looks at ctx
	for {
		n, err := unix.Poll(p, slice)
		switch {
		case n > 0:
			return nil
		case err != nil && !errors.Is(err, unix.EINTR):
			return err
		case ctx.Err() != nil:
			return fmt.Errorf("a process does not end: %w", context.Cause(ctx))
		}
	}
}
