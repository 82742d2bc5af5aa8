package machinetest

import (
	"context"
	"io"
	"os"

	"goldsmith/internal/machine"
)

// Guest is what runs inside a fake machine. Its methods are called on
// goroutines of their own and must return when their context ends.
type Guest interface {
	// ServeHelper is the guest's end of the helper's port, from power-on, or the
	// restore, until the machine is gone.
	ServeHelper(ctx context.Context, port io.ReadWriteCloser)
	// AttachNIC drives the network card with address mac from plugging to
	// unplugging. conn is what the machine's owner gave: each Ethernet frame
	// follows its length as a big-endian uint32. A guest that does not return
	// when ctx ends does not let go of the card.
	AttachNIC(ctx context.Context, mac string, conn *os.File)
	// PowerButton is called when the button is pressed. A guest that is to obey
	// calls Board.PowerOff.
	PowerButton(ctx context.Context)
}

// DiskWriter is a Guest with something to put on the disk. WriteDisk is called
// with the overlay that is written to before each seal, before the save and
// before power-off.
type DiskWriter interface {
	WriteDisk(overlay string) error
}

// Rememberer is a Guest with state in memory. Save keeps what it returns, and the
// guest of a restored machine gets it before anything else.
type Rememberer interface {
	SaveMemory() ([]byte, error)
	LoadMemory([]byte) error
}

// Idle is a guest that keeps its connections open, does nothing on them, and
// obeys the power button. Embed it to write others.
type Idle struct{ Board *Board }

// ServeHelper reads and ignores what it gets.
func (Idle) ServeHelper(_ context.Context, port io.ReadWriteCloser) {
	_, _ = io.Copy(io.Discard, port)
}

// AttachNIC keeps the card until it is unplugged.
func (Idle) AttachNIC(ctx context.Context, _ string, _ *os.File) { <-ctx.Done() }

// PowerButton powers off.
func (i Idle) PowerButton(context.Context) { i.Board.PowerOff() }

// Board is the machine as its guest sees it.
type Board struct {
	// Spec is what the machine was started with.
	Spec machine.Spec
	// Restored says that the guest was restored and did not boot.
	Restored bool

	m *fakeMachine
}

// PowerOff ends the machine as a guest's own power-off does. It does not wait.
func (b *Board) PowerOff() { b.m.finish(nil, true) }

// Crash ends the machine as a hypervisor's death does. It does not wait.
func (b *Board) Crash(reason error) { b.m.finish(b.m.died(reason), false) }

// Disks is the number of disks that are plugged.
func (b *Board) Disks() int {
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	n := 0
	for _, plugged := range []bool{b.m.disk != "", b.m.seed} {
		if plugged {
			n++
		}
	}
	return n
}

// DiskBytes is the disk's present size.
func (b *Board) DiskBytes() int64 {
	b.m.mu.Lock()
	defer b.m.mu.Unlock()
	return b.m.diskBytes
}

// Print writes to the serial console.
func (b *Board) Print(text string) {
	if c := b.Spec.Console; c != nil {
		_, _ = io.WriteString(c, text) // as lossy as a serial line
	}
}
