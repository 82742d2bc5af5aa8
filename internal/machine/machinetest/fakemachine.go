package machinetest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"goldsmith/internal/arm"
	"goldsmith/internal/machine"
)

// fakeMachine is a machine of Fake. It implements machine.Machine.
type fakeMachine struct {
	fake     *Fake
	spec     machine.Spec
	guest    Guest
	helper   net.Conn
	restored bool

	ctx    context.Context // the guest's
	cancel context.CancelFunc
	guests sync.WaitGroup // everything that runs in the guest
	once   sync.Once      // guards ending
	ending chan ending
	exited chan struct{}
	err    error // set before exited is closed

	op  sync.Mutex // held during an operation; guards nic
	nic *attached

	mu        sync.Mutex
	disk      string
	diskBytes int64
	seed      bool
	ended     bool // nothing may be started in the guest any more
}

// ending is how the machine ends.
type ending struct {
	err   error
	flush bool // the guest had the time to write its disk
}

// attached is a plugged NIC.
type attached struct {
	mac    string
	cancel context.CancelFunc
	gone   chan struct{} // closed when the guest has let go
}

// errClosed is how a machine ends that Close ended.
var errClosed = errors.New("the machine was closed while it ran")

// Helper is the byte stream of the guest helper's port; a net.Conn.
func (m *fakeMachine) Helper() io.ReadWriteCloser { return m.helper }

// PID is 0: there is no process.
func (m *fakeMachine) PID() int { return 0 }

// Exited is closed when the machine is gone.
func (m *fakeMachine) Exited() <-chan struct{} { return m.exited }

// Wait blocks until the machine is gone.
func (m *fakeMachine) Wait(ctx context.Context) error {
	select {
	case <-m.exited:
		return m.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Close ends the machine.
func (m *fakeMachine) Close() error {
	m.finish(m.died(errClosed), false)
	<-m.exited
	_ = m.helper.Close() // closed twice after a second Close
	return nil
}

// finish begins the machine's end, unless it has begun.
func (m *fakeMachine) finish(err error, flush bool) {
	m.once.Do(func() { m.ending <- ending{err, flush} })
}

// died is the error of a machine that ended for reason.
func (m *fakeMachine) died(reason error) error {
	var already *arm.Error
	if errors.As(reason, &already) {
		return reason
	}
	return m.spec.Errorf(arm.CodeMachine, "%w", reason)
}

// supervise carries the machine's end out.
func (m *fakeMachine) supervise(port io.Closer) {
	end := <-m.ending
	m.err = end.err
	if end.flush {
		if err := m.writeDisk(); err != nil {
			m.err = m.died(err)
		}
	}
	m.mu.Lock()
	m.ended = true
	m.mu.Unlock()
	m.cancel()
	port.Close() // unblocks the guest and tells the host
	m.guests.Wait()
	m.fake.mu.Lock()
	delete(m.fake.running, m)
	m.fake.mu.Unlock()
	close(m.exited)
}

// begin enters an operation: end leaves it.
func (m *fakeMachine) begin(ctx context.Context, op Op) (end func(), err error) {
	m.op.Lock()
	select {
	case <-m.exited:
		m.op.Unlock()
		return nil, m.spec.Errorf(arm.CodeMachine, "%s is not possible: the machine is gone", op)
	default:
	}
	err = m.fake.enter(ctx, op, m.spec.Name, func(reason error) {
		m.finish(m.died(reason), false)
		<-m.exited
	})
	if err != nil {
		m.op.Unlock()
		return nil, err
	}
	return m.op.Unlock, nil
}

// refuse is the error of an operation at the wrong time.
func (m *fakeMachine) refuse(op Op, why string, args ...any) error {
	return m.spec.Errorf(arm.CodeMachine, "%s is not possible: "+why, append([]any{op}, args...)...)
}

// writeDisk lets the guest write what it has for the disk.
func (m *fakeMachine) writeDisk() error {
	w, ok := m.guest.(DiskWriter)
	if !ok || m.disk == "" {
		return nil
	}
	return w.WriteDisk(m.disk)
}

// run runs f in the guest; it reports false when the machine is ending.
func (m *fakeMachine) run(f func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return false
	}
	m.guests.Go(f)
	return true
}

// attach hands nic to the guest.
func (m *fakeMachine) attach(nic machine.NIC) {
	ctx, cancel := context.WithCancel(m.ctx)
	a := &attached{mac: nic.MAC, cancel: cancel, gone: make(chan struct{})}
	m.nic = a
	running := m.run(func() {
		defer close(a.gone)
		defer nic.Conn.Close()
		m.guest.AttachNIC(ctx, nic.MAC, nic.Conn)
		<-ctx.Done() // the socket lives as long as the card
	})
	if !running {
		cancel()
		close(a.gone)
		nic.Conn.Close()
	}
}

// PlugNIC plugs the NIC.
func (m *fakeMachine) PlugNIC(ctx context.Context, nic machine.NIC) error {
	plugged := false
	defer func() {
		if !plugged {
			nic.Conn.Close()
		}
	}()
	end, err := m.begin(ctx, PlugNIC)
	if err != nil {
		return err
	}
	defer end()
	if m.nic != nil {
		return m.refuse(PlugNIC, "there is one already")
	}
	if _, err := net.ParseMAC(nic.MAC); err != nil {
		return m.refuse(PlugNIC, "%w", err)
	}
	plugged = true
	m.attach(nic)
	return nil
}

// UnplugNIC removes the NIC when the guest has let go of it.
func (m *fakeMachine) UnplugNIC(ctx context.Context) error {
	end, err := m.begin(ctx, UnplugNIC)
	if err != nil {
		return err
	}
	defer end()
	if m.nic == nil {
		return m.refuse(UnplugNIC, "there is none")
	}
	m.nic.cancel()
	select {
	case <-m.nic.gone:
	case <-ctx.Done():
		return fmt.Errorf("machine %s: %s: the guest does not let go of it: %w", m.spec.Name, UnplugNIC, context.Cause(ctx))
	}
	m.nic = nil
	return nil
}

// UnplugSeed removes the seed disk.
func (m *fakeMachine) UnplugSeed(ctx context.Context) error {
	end, err := m.begin(ctx, UnplugSeed)
	if err != nil {
		return err
	}
	defer end()
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.seed {
		return m.refuse(UnplugSeed, "there is none")
	}
	m.seed = false
	return nil
}

// Seal freezes the disk.
func (m *fakeMachine) Seal(ctx context.Context, path string) error {
	end, err := m.begin(ctx, Seal)
	if err != nil {
		return err
	}
	defer end()
	return m.switchTo(Seal, path)
}

// switchTo lets op write the disk out and go on with the overlay path.
func (m *fakeMachine) switchTo(op Op, path string) error {
	if m.disk == "" {
		return m.refuse(op, "the machine has no disk")
	}
	backing, size, err := overlay(path)
	if err != nil {
		return m.refuse(op, "%w", err)
	}
	if !sameFile(backing, m.disk) {
		return m.refuse(op, "overlay %s stands on %q instead of the current disk %s", path, backing, m.disk)
	}
	if size != m.diskBytes {
		return m.refuse(op, "overlay %s has %d bytes and its disk %d", path, size, m.diskBytes)
	}
	if err := m.writeDisk(); err != nil {
		return m.refuse(op, "%w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.disk = path
	return nil
}

// Resize grows the disk.
func (m *fakeMachine) Resize(ctx context.Context, bytes int64) error {
	end, err := m.begin(ctx, Resize)
	if err != nil {
		return err
	}
	defer end()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.disk == "" || bytes < m.diskBytes || bytes%512 != 0 {
		return m.refuse(Resize, "the disk has %d bytes and can only grow, by sectors, not to %d", m.diskBytes, bytes)
	}
	m.diskBytes = bytes
	return nil
}

// PowerDown presses the power button.
func (m *fakeMachine) PowerDown(ctx context.Context) error {
	end, err := m.begin(ctx, PowerDown)
	if err != nil {
		return err
	}
	defer end()
	m.run(func() { m.guest.PowerButton(m.ctx) })
	return nil
}

// sameFile reports whether both paths lead to one file.
func sameFile(a, b string) bool {
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// socketPair makes two connected sockets.
func socketPair() (near, far net.Conn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ends := make([]net.Conn, 2)
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "helper")
		conn, err := net.FileConn(file)
		file.Close()
		if err != nil {
			return nil, nil, err
		}
		ends[i] = conn
	}
	return ends[0], ends[1], nil
}
