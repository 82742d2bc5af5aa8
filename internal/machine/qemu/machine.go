package qemu

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/machine"
	"goldsmith/internal/machine/guardian"
	"goldsmith/internal/machine/qmp"
)

// undoPatience bounds what puts a machine back to running after a failure or a
// cancellation.
const undoPatience = 10 * time.Second

// Machine is a QEMU process. It implements machine.Machine.
type Machine struct {
	spec     machine.Spec
	process  *guardian.Process
	client   *qmp.Client
	helper   *net.UnixConn
	output   tail
	saveable bool

	// busy holds a token while an operation runs; it guards what follows.
	busy  chan struct{}
	nic   bool   // the NIC is plugged
	seed  bool   // the seed is plugged
	disk  string // the overlay that is written to
	layer int    // its number since the start

	closing atomic.Bool
	leaving atomic.Bool // the state is saved and QEMU was told to quit
	close   sync.Once

	exited chan struct{}
	err    error // set before exited is closed
}

var (
	_ machine.Machine    = (*Machine)(nil)
	_ machine.Hypervisor = (*Hypervisor)(nil)
)

// Helper is the byte stream of the guest helper's port. It is a net.Conn, so
// deadlines can be set on it.
func (m *Machine) Helper() io.ReadWriteCloser { return m.helper }

// PID is QEMU's process number. Its guardian ends with it.
func (m *Machine) PID() int { return m.process.PID() }

// Exited is closed when QEMU is gone and its console is written out.
func (m *Machine) Exited() <-chan struct{} { return m.exited }

// Wait blocks until QEMU is gone.
func (m *Machine) Wait(ctx context.Context) error {
	select {
	case <-m.exited:
		return m.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// PowerDown presses the power button. A guest that is not ready for it misses it.
func (m *Machine) PowerDown(ctx context.Context) error {
	const op = "pressing the power button"
	end, err := m.begin(ctx, op)
	if err != nil {
		return err
	}
	defer end()
	return m.failed(op, m.execute(ctx, "system_powerdown", nil, nil))
}

// Close kills QEMU and releases everything. It fails only when the kernel does
// not let QEMU die.
func (m *Machine) Close() error {
	m.closing.Store(true)
	err := m.process.Kill()
	if err == nil {
		<-m.exited
	}
	m.close.Do(func() {
		m.client.Close()
		m.helper.Close()
	})
	return err
}

// abandon closes a machine that could not be made to run, and says why.
func (m *Machine) abandon(op string, err error) error {
	err = m.failed(op, err)
	if closeErr := m.Close(); closeErr != nil {
		return fmt.Errorf("%w; besides, %w", err, closeErr)
	}
	return err
}

// execute runs a command of the monitor.
func (m *Machine) execute(ctx context.Context, command string, args, result any) error {
	return m.client.Execute(ctx, command, args, result)
}

// begin waits for the operation that runs to end and keeps others out until end
// is called.
func (m *Machine) begin(ctx context.Context, op string) (end func(), err error) {
	ended := func() error { return fmt.Errorf("machine %s: %s: %w", m.spec.Name, op, context.Cause(ctx)) }
	if ctx.Err() != nil {
		return nil, ended()
	}
	select {
	case m.busy <- struct{}{}:
	case <-ctx.Done():
		return nil, ended()
	}
	end = func() { <-m.busy }
	select {
	case <-m.exited:
		end()
		if m.err != nil {
			return nil, m.spec.Errorf(arm.CodeMachine, "%s is not possible, the machine is gone: %w", op, m.err)
		}
		return nil, m.spec.Errorf(arm.CodeMachine, "%s is not possible: the machine has powered off", op)
	default:
		return end, nil
	}
}

// undoing is a context for putting things right after ctx has ended.
func undoing(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), undoPatience)
}

// shutdown is the data of a SHUTDOWN event.
type shutdown struct {
	Guest  bool   `json:"guest"`
	Reason string `json:"reason"`
}

// ioError is the data of a BLOCK_IO_ERROR event.
type ioError struct {
	Node      string `json:"node-name"`
	Operation string `json:"operation"`
	NoSpace   bool   `json:"nospace"`
	Reason    string `json:"reason"`
}

// watch follows the machine to its end and settles how it ended.
func (m *Machine) watch(events *qmp.Subscription, console <-chan struct{}) {
	defer close(m.exited)
	var off *shutdown
	var fault error
	for {
		// The queue ends with the monitor, and that with QEMU.
		e, err := events.Next(context.Background())
		if err != nil {
			break
		}
		switch e.Name {
		case "SHUTDOWN":
			off = &shutdown{}
			_ = json.Unmarshal(e.Data, off) // the zero value stands for a death
		case "BLOCK_IO_ERROR":
			if fault == nil {
				fault = m.diskFault(e.Data)
			}
			// The guest is stopped for good. Killing needs the guardian to end, which
			// does not wait for this goroutine.
			if err := m.process.Kill(); err != nil {
				fault = fmt.Errorf("%w; besides, %w", fault, err)
			}
		}
	}
	timer := time.NewTimer(deathPatience)
	defer timer.Stop()
	select {
	case <-m.process.Exited():
	case <-timer.C: // a broken monitor with a living QEMU
		fault = m.spec.Errorf(arm.CodeMachine, "lost control of QEMU: %w", m.client.Err())
		if err := m.process.Kill(); err != nil {
			m.err = fmt.Errorf("%w; besides, %w", fault, err)
			return
		}
	}
	<-console
	m.err = m.verdict(off, fault)
}

// diskFault is the error that a BLOCK_IO_ERROR event stands for.
func (m *Machine) diskFault(data []byte) error {
	var e ioError
	if err := json.Unmarshal(data, &e); err != nil {
		return m.spec.Errorf(arm.CodeMachine, "a disk failed, and QEMU's report of it is not valid: %w", err)
	}
	if e.NoSpace {
		return m.spec.Errorf(arm.CodeNoSpace,
			"the host's disk is full: the machine could not write to %s; free some space and run again", m.spec.Disk)
	}
	return m.spec.Errorf(arm.CodeMachine, "the host could not %s the machine's disk (%s): %s", e.Operation, m.spec.Disk, e.Reason)
}

// verdict is Wait's result.
func (m *Machine) verdict(off *shutdown, fault error) error {
	status := m.process.Status()
	clean := status == (guardian.Status{})
	switch {
	case fault != nil:
		return fault
	case m.leaving.Load() && clean:
		return nil
	case off != nil && off.Guest && clean:
		return nil
	case m.closing.Load():
		return m.spec.Errorf(arm.CodeMachine, "the machine was closed while it ran")
	case status.Signal == syscall.SIGBUS && m.spec.RAMFile != "":
		return m.spec.Errorf(arm.CodeNoSpace,
			"the host's disk is full: the machine's memory in %s could not grow; free some space and run again", m.spec.RAMFile)
	}
	said := m.output.String()
	if said == "" {
		said = "QEMU said nothing"
	}
	return m.spec.Errorf(arm.CodeMachine, "QEMU died (%s): %s", status, said)
}
