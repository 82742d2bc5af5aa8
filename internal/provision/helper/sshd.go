package helper

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	// listenLook is how often the kernel's table of sockets is looked at: it has no
	// signal for a new one.
	listenLook = 20 * time.Millisecond
	// hangUpTime is how long an sshd that was told to start over may take before
	// systemd is asked instead.
	hangUpTime = 10 * time.Second
	sshPort    = 22
)

// sessionPrograms are where distributions have the program that serves a
// connection, which sshd hands its host keys to since OpenSSH 9.8. Before, it ran
// itself anew for every connection, and read them from their files.
var sessionPrograms = []string{"/usr/lib/openssh/sshd-session", "/usr/libexec/openssh/sshd-session", "/usr/lib/ssh/sshd-session", "/usr/libexec/sshd-session"}

// hangUp tells a running sshd to start over, which is quicker than to have systemd
// tell it, and waits until its old sockets are gone and new ones there. One that
// reads its keys for every connection need not be told.
func (l *Linux) hangUp(ctx context.Context) error {
	if l.sshd > 0 && programOf(l.sshd) == "sshd" {
		return nil
	}
	l.sshd = 0
	text, err := os.ReadFile("/run/sshd.pid")
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return err
	}
	if program := programOf(pid); program != "sshd" {
		return fmt.Errorf("process %d is %q, not sshd", pid, program)
	}
	before, err := listeners(sshPort)
	if err != nil {
		return err
	}
	if len(before) > 0 && !slices.ContainsFunc(sessionPrograms, exists) {
		l.sshd = pid
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGHUP); err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, hangUpTime)
	defer stop()
	return waitListeners(ctx, sshPort, func(inode string) bool { return !slices.Contains(before, inode) })
}

// programOf is the name of the file that a process executes, "" for no process.
func programOf(pid int) string {
	file, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return ""
	}
	return path.Base(file)
}

func exists(name string) bool {
	_, err := os.Stat(name)
	return err == nil
}

// waitListeners waits until something listens on a TCP port whose sockets all are
// wanted.
func waitListeners(ctx context.Context, port int, wanted func(inode string) bool) error {
	look := time.NewTicker(listenLook)
	defer look.Stop()
	for {
		now, err := listeners(port)
		if err != nil {
			return err
		}
		if len(now) > 0 && !slices.ContainsFunc(now, func(inode string) bool { return !wanted(inode) }) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nothing listens on port %d: %w", port, context.Cause(ctx))
		case <-look.C:
		}
	}
}

// listeners are the inodes of the sockets that listen on a TCP port.
func listeners(port int) ([]string, error) {
	var all []string
	for _, name := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		f, err := os.Open(name)
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return nil, err
		}
		found, err := parseListeners(f, port)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return all, nil
}

// parseListeners reads a table as proc(5) describes /proc/net/tcp.
func parseListeners(table io.Reader, port int) (inodes []string, err error) {
	const listening = "0A"
	suffix := fmt.Sprintf(":%04X", port)
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) > 9 && fields[3] == listening && strings.HasSuffix(fields[1], suffix) {
			inodes = append(inodes, fields[9])
		}
	}
	return inodes, lines.Err()
}

// sshUnits are sshd's unit in one distribution or another.
var sshUnits = []string{"ssh.service", "sshd.service"}

// reloadSSH makes sshd read its new host key and waits until it listens again. One
// that failed for want of a host key is started again.
func (l *Linux) reloadSSH(ctx context.Context) error {
	if l.hangUp(ctx) == nil {
		return nil
	}
	var errs []error
	for _, unit := range sshUnits {
		state, _ := run(ctx, "systemctl", "is-active", unit)
		switch strings.TrimSpace(state) {
		case "active":
			_, err := run(ctx, "systemctl", "reload", unit)
			return err
		case "failed":
			_, _ = run(ctx, "systemctl", "reset-failed", unit)
			_, err := run(ctx, "systemctl", "start", unit)
			return err
		case "activating", "reloading":
			_, err := run(ctx, "systemctl", "restart", unit)
			return err
		}
		out, err := run(ctx, "systemctl", "show", "--property=LoadState", "--value", unit)
		if err == nil && strings.TrimSpace(out) == "loaded" {
			// Inactive: started by its socket at the first connection.
			if socket, _ := run(ctx, "systemctl", "is-active", strings.TrimSuffix(unit, "service")+"socket"); strings.TrimSpace(socket) == "active" {
				return nil
			}
			_, err = run(ctx, "systemctl", "start", unit)
			return err
		}
		errs = append(errs, err)
	}
	return errors.Join(append(errs, errors.New("this guest has no sshd: install openssh-server in the base image"))...)
}
