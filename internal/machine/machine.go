// Package machine is the seam to virtual machines: what a build asks of one,
// whatever runs it. machine/qemu is the real thing, machine/machinetest a fake
// that behaves; both pass machinetest.Conformance.
package machine

import (
	"context"
	"errors"
	"io"
	"os"

	"goldsmith/internal/arm"
)

// Firmware is how a machine boots.
type Firmware string

// Firmwares; Azure calls them generation 1 and 2.
const (
	BIOS Firmware = "bios"
	UEFI Firmware = "uefi"
)

// Shape is what of a machine affects what runs in it. It is part of the key of
// a memory layer.
type Shape struct {
	CPUs      int      `json:"cpus"`
	MemoryMiB int      `json:"memoryMiB"`
	Firmware  Firmware `json:"firmware"`
}

// Spec is a machine to start. All paths are absolute; nothing outside them is
// touched.
type Spec struct {
	Name  string // for process titles and errors
	Shape Shape
	// Dir is a private directory of this machine for sockets and scratch files.
	Dir string
	// Disk is the qcow2 overlay the machine writes to; "" for a machine without a
	// disk, which then needs a Kernel.
	Disk string
	// Kernel is a Linux kernel to boot directly, with the optional initial RAM
	// file system Initrd and the command line Cmdline; "" boots from Disk.
	Kernel, Initrd, Cmdline string
	// Seed is a raw, read-only disk image with first-boot data; "" for none.
	Seed string
	// RAMFile backs the guest's memory. A new machine that will be saved creates
	// it shared; a restored one maps the saved file privately. "" for anonymous
	// memory, which cannot be saved.
	RAMFile string
	// Vars is this machine's own writable copy of the UEFI variables; it is
	// created from the firmware's template when the file does not exist. Unused
	// with BIOS.
	Vars string
	// Console receives the serial console; nil drops it. The machine owns writing;
	// the caller closes it after Wait.
	Console *os.File
	// NICAtBoot plugs a NIC before power-on; nil boots without one.
	NICAtBoot *NIC
	// DiskBytes is the virtual size of Disk; only used by fakes and checks.
	DiskBytes int64
}

// Errorf makes an error of code about the machine of s.
func (s Spec) Errorf(code arm.Code, format string, args ...any) *arm.Error {
	return arm.Errorf(code, format, args...).At("machine " + s.Name)
}

// NIC is a virtual network card. Frames go over Conn: a connected stream socket
// on which every Ethernet frame follows its length as a big-endian uint32.
type NIC struct {
	MAC  string   // "52:54:00:..."
	Conn *os.File // the machine's end; ownership passes to the machine
}

// ErrMemoryNotSaved is the failure of a Checkpoint that has sealed the disk.
var ErrMemoryNotSaved = errors.New("the disk is sealed, but the memory was not saved")

// Hypervisor starts machines.
type Hypervisor interface {
	// Fingerprint identifies everything of the hypervisor that a saved state
	// depends on (version, machine type, CPU model, command line shape,
	// firmware image digest). Equal fingerprints can restore each other's states.
	Fingerprint(ctx context.Context, shape Shape) (string, error)
	// Start boots a machine. It returns when the machine runs, not when the
	// guest is ready.
	Start(ctx context.Context, spec Spec) (Machine, error)
	// Restore starts a machine from a state written by Save or Checkpoint, and lets
	// it run. spec.Disk is an overlay over the saved disk, and spec.Seed is empty.
	// For a state of Save spec.RAMFile is the saved file, for one of Checkpoint "".
	// spec.NICAtBoot is the NIC that was plugged, with its address, or nil when
	// there was none.
	Restore(ctx context.Context, spec Spec, state string) (Machine, error)
}

// Machine is one running virtual machine. Close is always needed, and is safe
// after any error.
type Machine interface {
	// Helper is the byte stream of the guest helper's virtio-serial port.
	Helper() io.ReadWriteCloser
	// PlugNIC hot-plugs the machine's only NIC.
	PlugNIC(ctx context.Context, nic NIC) error
	// UnplugNIC removes the NIC and waits for the guest to let go of it.
	UnplugNIC(ctx context.Context) error
	// UnplugSeed removes the seed disk and waits for the guest to let go of it.
	UnplugSeed(ctx context.Context) error
	// Seal freezes the disk as it is: from now on the machine writes to overlay,
	// an existing empty qcow2 file whose backing file is the current disk, and
	// the current disk never changes again. The machine is stopped for
	// milliseconds; the caller has synced the guest before.
	Seal(ctx context.Context, overlay string) error
	// Checkpoint is a Seal that also writes the machine's whole state, memory
	// included, to file as it is at the moment of the seal; the machine runs on.
	// The NIC may stay plugged. With an error that is ErrMemoryNotSaved the disk is
	// sealed and file is gone; after any other nothing was sealed.
	Checkpoint(ctx context.Context, overlay, file string) error
	// Resize grows the disk to bytes while the machine runs.
	Resize(ctx context.Context, bytes int64) error
	// Save stops the machine, writes its device state to file and leaves RAMFile
	// and Disk complete; the process is gone afterwards. The seed must be unplugged;
	// the NIC may stay. Only a machine that was started, not restored, with a RAMFile
	// can be saved. After a failure the machine runs on and file is gone.
	Save(ctx context.Context, file string) error
	// PowerDown presses the power button.
	PowerDown(ctx context.Context) error
	// Exited is closed when the machine is gone; Wait tells how.
	Exited() <-chan struct{}
	// Wait blocks until the machine is gone: nil after the guest powered off or
	// the machine was saved, an arm.Error when it died or was closed: CodeNoSpace
	// when the host's disk is full, else CodeMachine.
	Wait(ctx context.Context) error
	// PID is the process to kill should everything else fail, 0 for fakes.
	PID() int
	// Close kills the machine and releases what it holds.
	Close() error
}
