package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"goldsmith/internal/machine"
	"goldsmith/internal/network"
	"goldsmith/internal/provision"
)

// savedState is a guest saved with its memory while it ran.
type savedState struct {
	file    string // the state
	ram     string // the file of its memory, "" when the state holds it
	mac     string // of the card that was plugged, "" for none
	waagent bool
}

// continueFrom restores a saved guest on disk, gives it a new identity before its
// card is connected to anything, and opens the session.
func (l *launcher) continueFrom(ctx context.Context, guest *vm, disk string, s savedState, id *provision.Identity) (err error) {
	guest.waagent = s.waagent
	spec, err := l.spec(guest, bootSpec{disk: disk, ram: s.ram, vars: filepath.Join(l.work, "vars.fd")})
	if err != nil {
		return err
	}
	wire, err := newPatch()
	if err != nil {
		return fmt.Errorf("make the guest's wire: %w", err)
	}
	guest.patch = wire
	spec.NICAtBoot = &machine.NIC{MAC: s.mac, Conn: wire.machineEnd}
	hypervisor, _, err := l.engine.vms.get(ctx)
	if err != nil {
		return err
	}
	open := l.open
	if open == nil {
		open = l.openPrivate
	}
	// Before the machine: a proxy VM starts while the guest is restored.
	if err := open(ctx, guest); err != nil {
		return err
	}
	if guest.machine, err = hypervisor.Restore(ctx, spec, s.file); err != nil {
		return err
	}
	// A guest that does not answer soon after a restore never will.
	rctx, cancel := context.WithTimeoutCause(ctx, l.engine.restorePatience(), errNotReady)
	defer cancel()
	if err := guest.dial(rctx); err != nil {
		return fmt.Errorf("the restored guest does not answer: %w", err)
	}
	if err := guest.identify(rctx, id, l.engine.cfg.Guest); err != nil {
		return fmt.Errorf("the restored guest does not answer: %w", err)
	}
	conn, err := guest.network.AttachBuildVM(ctx)
	if err != nil {
		return err
	}
	if err := wire.connect(conn); err != nil {
		return fmt.Errorf("connect the guest's wire: %w", err)
	}
	// Another card than this network's, or an address that may be another one now.
	if s.mac != network.BuildMAC || l.elsewhere {
		if err := guest.machine.UnplugNIC(rctx); err != nil {
			return err
		}
		if err := guest.plug(rctx); err != nil {
			return err
		}
		return guest.connect(rctx, id)
	}
	return guest.reconnect(rctx, id)
}

// patch is a wire whose ends are connected later: what the guest sends before
// waits in it.
type patch struct {
	machineEnd *os.File
	near       net.Conn
	far        net.Conn // nil until connected
	copying    sync.WaitGroup
}

func newPatch() (*patch, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	end := os.NewFile(uintptr(fds[0]), "wire")
	near, err := net.FileConn(end)
	end.Close()
	if err != nil {
		_ = unix.Close(fds[1])
		return nil, err
	}
	return &patch{machineEnd: os.NewFile(uintptr(fds[1]), "wire"), near: near}, nil
}

// connect joins the wire with conn, which it takes over.
func (p *patch) connect(conn *os.File) error {
	far, err := net.FileConn(conn)
	conn.Close()
	if err != nil {
		return err
	}
	p.far = far
	for _, way := range [][2]net.Conn{{p.near, far}, {far, p.near}} {
		p.copying.Go(func() {
			_, _ = io.Copy(way[0], way[1]) // either end closes it
			_ = way[0].Close()
		})
	}
	return nil
}

// close cuts the wire. The machine has its own copy of its end.
func (p *patch) close() error {
	_ = p.machineEnd.Close() // the machine closed it before
	errs := []error{ignoreClosed(p.near.Close())}
	if p.far != nil {
		errs = append(errs, ignoreClosed(p.far.Close()))
	}
	p.copying.Wait()
	return errors.Join(errs...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
