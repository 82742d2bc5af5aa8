// Package machinetest is a hypervisor that behaves without one, for tests of what
// builds on machines, and the suite that the fake and the real one both pass.
package machinetest

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"goldsmith/internal/arm"
	"goldsmith/internal/machine"
)

// Fake is a machine.Hypervisor whose machines run a Guest of the test's. It wants
// the files that a real one wants, in the order of calls that a real one accepts,
// and fails as the test has scripted.
type Fake struct {
	newGuest func(*Board) Guest

	mu      sync.Mutex
	faults  map[Op][]fault
	dieIn   int
	dieOf   error
	onHang  func()
	calls   []Op
	running map[*fakeMachine]struct{}
	version int
}

var _ machine.Hypervisor = (*Fake)(nil)

// NewFake makes a hypervisor; each machine runs the guest that newGuest makes for
// it, nil for Idle.
func NewFake(newGuest func(*Board) Guest) *Fake {
	if newGuest == nil {
		newGuest = func(b *Board) Guest { return Idle{b} }
	}
	return &Fake{newGuest: newGuest, faults: make(map[Op][]fault), running: make(map[*fakeMachine]struct{})}
}

// Calls are the operations so far, in order.
func (f *Fake) Calls() []Op {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

// Running is the number of machines that are not gone. A test ends with none.
func (f *Fake) Running() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.running)
}

// Upgrade changes the fingerprint, as another version of a real hypervisor has.
func (f *Fake) Upgrade() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.version++
}

// Fingerprint is made of the shape and the number of upgrades.
func (f *Fake) Fingerprint(ctx context.Context, shape machine.Shape) (string, error) {
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return fmt.Sprintf("fake %d %d %d %s", f.version, shape.CPUs, shape.MemoryMiB, shape.Firmware), nil
}

// Start boots a machine.
func (f *Fake) Start(ctx context.Context, spec machine.Spec) (machine.Machine, error) {
	m, err := f.start(ctx, spec)
	if err != nil {
		if spec.NICAtBoot != nil {
			spec.NICAtBoot.Conn.Close()
		}
		return nil, err
	}
	return m, nil
}

func (f *Fake) start(ctx context.Context, spec machine.Spec) (*fakeMachine, error) {
	if err := f.enter(ctx, Start, spec.Name, nil); err != nil {
		return nil, err
	}
	if err := check(spec); err != nil {
		return nil, err
	}
	if spec.Shape.Firmware == machine.UEFI {
		if err := create(spec.Vars, 540672); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, spec.Errorf(arm.CodeMachine, "UEFI variables: %w", err)
		}
	}
	if spec.RAMFile != "" {
		if err := create(spec.RAMFile, int64(spec.Shape.MemoryMiB)<<20); err != nil {
			return nil, spec.Errorf(arm.CodeMachine, "memory file: %w", err)
		}
	}
	return f.power(spec, nil)
}

// Restore starts a machine from the saved state in the file path.
func (f *Fake) Restore(ctx context.Context, spec machine.Spec, path string) (machine.Machine, error) {
	m, err := f.restore(ctx, spec, path)
	if err != nil {
		if spec.NICAtBoot != nil {
			spec.NICAtBoot.Conn.Close()
		}
		return nil, err
	}
	return m, nil
}

func (f *Fake) restore(ctx context.Context, spec machine.Spec, path string) (*fakeMachine, error) {
	if err := f.enter(ctx, Restore, spec.Name, nil); err != nil {
		return nil, err
	}
	if spec.Seed != "" {
		return nil, spec.Errorf(arm.CodeMachine, "a saved machine is restored without a seed disk")
	}
	if err := check(spec); err != nil {
		return nil, err
	}
	if spec.RAMFile != "" {
		info, err := os.Stat(spec.RAMFile)
		if err != nil {
			return nil, spec.Errorf(arm.CodeMachine, "the saved memory is missing: %w", err)
		}
		if info.Size() != int64(spec.Shape.MemoryMiB)<<20 {
			return nil, spec.Errorf(arm.CodeCorrupt, "the saved memory %s has the wrong size", spec.RAMFile)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, spec.Errorf(arm.CodeMachine, "the saved state is missing: %w", err)
	}
	var s state
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, spec.Errorf(arm.CodeMachine, "the saved state does not load: %w", err)
	}
	if print, err := f.Fingerprint(ctx, spec.Shape); err != nil || s.Fingerprint != print {
		return nil, spec.Errorf(arm.CodeMachine, "the saved state does not load: it is of %q", s.Fingerprint)
	}
	mac := ""
	if spec.NICAtBoot != nil {
		mac = spec.NICAtBoot.MAC
	}
	if s.Whole != (spec.RAMFile == "") || s.MAC != mac {
		return nil, spec.Errorf(arm.CodeMachine, "the saved state does not load: it is of another kind of machine")
	}
	return f.power(spec, &s)
}

// power makes the machine and lets its guest run.
func (f *Fake) power(spec machine.Spec, restored *state) (*fakeMachine, error) {
	var size int64
	if spec.Disk != "" {
		var err error
		if _, size, err = overlay(spec.Disk); err != nil {
			return nil, spec.Errorf(arm.CodeMachine, "%w", err)
		}
	}
	near, far, err := socketPair()
	if err != nil {
		return nil, spec.Errorf(arm.CodeMachine, "helper's port: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &fakeMachine{
		fake: f, spec: spec, helper: near, ctx: ctx, cancel: cancel,
		disk: spec.Disk, diskBytes: size, seed: spec.Seed != "",
		restored: restored != nil, ending: make(chan ending, 1), exited: make(chan struct{}),
	}
	m.guest = f.newGuest(&Board{Spec: spec, Restored: m.restored, m: m})
	if restored != nil {
		if r, ok := m.guest.(Rememberer); ok {
			if err := r.LoadMemory(restored.Memory); err != nil {
				cancel()
				return nil, errors.Join(spec.Errorf(arm.CodeMachine, "the saved state does not load: %w", err), near.Close(), far.Close())
			}
		}
	}
	f.mu.Lock()
	f.running[m] = struct{}{}
	f.mu.Unlock()
	if spec.NICAtBoot != nil {
		m.attach(*spec.NICAtBoot)
	}
	m.guests.Go(func() { m.guest.ServeHelper(ctx, far) })
	go m.supervise(far)
	return m, nil
}

// check refuses what a real hypervisor refuses.
func check(spec machine.Spec) error {
	if spec.Shape.CPUs < 1 || spec.Shape.CPUs > 255 || spec.Shape.MemoryMiB < 16 {
		return spec.Errorf(arm.CodeMachine, "%d CPUs with %d MiB of memory are not possible", spec.Shape.CPUs, spec.Shape.MemoryMiB)
	}
	if fw := spec.Shape.Firmware; fw != machine.BIOS && (fw != machine.UEFI || spec.Vars == "") {
		return spec.Errorf(arm.CodeMachine, "firmware %q is not possible, or has no file for its variables", fw)
	}
	if spec.Disk == "" && spec.Kernel == "" {
		return spec.Errorf(arm.CodeMachine, "neither a disk nor a kernel to boot from is given")
	}
	if spec.NICAtBoot != nil {
		if _, err := net.ParseMAC(spec.NICAtBoot.MAC); err != nil {
			return spec.Errorf(arm.CodeMachine, "network card: %w", err)
		}
	}
	for _, path := range []string{spec.Dir, spec.Disk, spec.Seed, spec.Kernel, spec.Initrd} {
		if path == "" {
			continue
		}
		if !filepath.IsAbs(path) {
			return spec.Errorf(arm.CodeMachine, "path %q is not absolute", path)
		}
		if _, err := os.Stat(path); err != nil {
			return spec.Errorf(arm.CodeMachine, "%w", err)
		}
	}
	return nil
}

// create makes a sparse file of size bytes that was not there.
func create(path string, size int64) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(file.Truncate(size), file.Close())
}

// overlay reads the header of a qcow2 image: the absolute path of its backing
// file, "" for none, and its virtual size. (QEMU's docs/interop/qcow2.txt.)
func overlay(path string) (backing string, size int64, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", 0, err
	}
	defer file.Close()
	header := make([]byte, 32)
	if _, err := file.ReadAt(header, 0); err != nil || string(header[:4]) != "QFI\xfb" {
		return "", 0, fmt.Errorf("%s is not a qcow2 image", path)
	}
	size = int64(binary.BigEndian.Uint64(header[24:]))
	at, length := binary.BigEndian.Uint64(header[8:]), binary.BigEndian.Uint32(header[16:])
	if at == 0 {
		return "", size, nil
	}
	name := make([]byte, min(length, 1023))
	if _, err := file.ReadAt(name, int64(at)); err != nil {
		return "", 0, fmt.Errorf("%s: name of the backing file: %w", path, err)
	}
	backing = string(name)
	if !filepath.IsAbs(backing) {
		backing = filepath.Join(filepath.Dir(path), backing)
	}
	return backing, size, nil
}
