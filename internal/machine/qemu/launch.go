package qemu

import (
	"context"
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"goldsmith/internal/arm"
	"goldsmith/internal/machine"
	"goldsmith/internal/machine/guardian"
	"goldsmith/internal/machine/qmp"
)

// oomScore makes the kernel end machines before anything else of the user's when
// memory runs out: a build can be run again.
const oomScore = 500

// launch starts QEMU, stopped, and connects to its monitor.
func (h *Hypervisor) launch(ctx context.Context, spec machine.Spec, restore bool) (*Machine, error) {
	if spec.Shape.Firmware == machine.UEFI {
		if err := h.installation.createVars(spec.Vars); err != nil {
			var coded *arm.Error
			if errors.As(err, &coded) {
				return nil, err
			}
			return nil, spec.Errorf(codeOf(err), "UEFI variables: %w", err)
		}
	}
	w, err := connect()
	if err != nil {
		return nil, spec.Errorf(arm.CodeMachine, "connections to QEMU: %w", err)
	}
	defer w.closeFar()
	files := []*os.File{w.farMonitor, w.farHelper, w.farConsole}
	if spec.NICAtBoot != nil {
		files = append(files, spec.NICAtBoot.Conn)
	}
	m := &Machine{
		spec:     spec,
		helper:   w.helper,
		saveable: spec.RAMFile != "" && !restore,
		nic:      spec.NICAtBoot != nil,
		seed:     spec.Seed != "",
		disk:     spec.Disk,
		busy:     make(chan struct{}, 1),
		exited:   make(chan struct{}),
	}
	console := copyConsole(w.console, spec.Console)
	l := launch{spec: spec, installation: h.installation, accelerator: h.accelerator, restore: restore}
	m.process, err = guardian.Start(ctx, guardian.Command{
		Name: spec.Name, Path: h.installation.QEMU, Args: l.args(), Dir: spec.Dir,
		Env:   []string{"PATH=/usr/bin:/bin", "TMPDIR=" + spec.Dir},
		Files: files, Output: &m.output, OOMScoreAdj: oomScore,
	})
	if err != nil {
		w.closeFar() // ends the console
		<-console
		w.monitor.Close()
		w.helper.Close()
		if ctx.Err() != nil {
			return nil, err
		}
		return nil, spec.Errorf(arm.CodeMachine, "%s does not start: %w", h.installation.QEMU, err)
	}
	w.closeFar()
	limit, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	client, events, err := qmp.NewClient(limit, w.monitor, "SHUTDOWN", "BLOCK_IO_ERROR")
	if err != nil {
		killErr := m.process.Kill()
		if killErr == nil {
			<-console
		}
		w.helper.Close()
		if ctx.Err() != nil {
			return nil, errors.Join(err, killErr)
		}
		said := m.output.String()
		return nil, errors.Join(spec.Errorf(codeOf(errors.New(said)), "QEMU does not start (%s): %s", m.process.Status(), said), killErr)
	}
	m.client = client
	go m.watch(events, console)
	return m, nil
}

// wiring is both ends of everything that connects to a QEMU process. The far
// ends are QEMU's.
type wiring struct {
	monitor *net.UnixConn
	helper  *net.UnixConn
	console *os.File

	farMonitor, farHelper, farConsole *os.File
}

// connect makes the connections.
func connect() (_ *wiring, err error) {
	w := &wiring{}
	defer func() {
		if err != nil {
			w.closeFar()
			if w.monitor != nil {
				w.monitor.Close()
			}
			if w.helper != nil {
				w.helper.Close()
			}
		}
	}()
	if w.monitor, w.farMonitor, err = socketPair("monitor"); err != nil {
		return nil, err
	}
	if w.helper, w.farHelper, err = socketPair("helper"); err != nil {
		return nil, err
	}
	w.console, w.farConsole, err = os.Pipe()
	return w, err
}

// closeFar closes QEMU's ends, which QEMU has copies of, or never will.
func (w *wiring) closeFar() {
	for _, f := range []**os.File{&w.farMonitor, &w.farHelper, &w.farConsole} {
		if *f != nil {
			(*f).Close()
			*f = nil
		}
	}
}

// socketPair makes two connected sockets: one for this process, one to pass on.
func socketPair(name string) (*net.UnixConn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	near, far := os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)
	conn, err := net.FileConn(near)
	near.Close()
	if err != nil {
		far.Close()
		return nil, nil, err
	}
	return conn.(*net.UnixConn), far, nil
}
