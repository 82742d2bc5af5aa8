// Package qemu runs machines on QEMU: q35, virtio, nothing by default, every
// descriptor passed in, sandboxed, and under a guardian that ends QEMU when its
// owner is gone. It needs QEMU 7.2 or later.
package qemu

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/zeebo/xxh3"

	"goldsmith/internal/arm"
	"goldsmith/internal/machine"
	"goldsmith/internal/machine/accel"
)

// schema is part of every fingerprint; it changes when saved states of before
// cannot be restored for a reason that the command line does not show.
const schema = 1

// startPatience is how long QEMU may take until its monitor answers, and a saved
// state until it is loaded. Both take a fraction of a second.
const startPatience = 60 * time.Second

// Hypervisor starts machines on QEMU. It implements machine.Hypervisor.
type Hypervisor struct {
	installation Installation
	accelerator  accel.Result
}

// New makes a hypervisor of what Find and accel.Probe have found. The program
// must call guardian.Main first thing in main.
func New(installation Installation, accelerator accel.Result) *Hypervisor {
	return &Hypervisor{installation: installation, accelerator: accelerator}
}

// Fingerprint identifies everything here that a saved state of a machine of
// shape depends on: QEMU's build, the firmware, the accelerator and CPU, and the
// command line.
func (h *Hypervisor) Fingerprint(ctx context.Context, shape machine.Shape) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	version, err := accel.Version(ctx, h.installation.QEMU)
	if err != nil {
		return "", err
	}
	facts := struct {
		Schema                 int
		Version, Code, HostCPU string
		Args                   []string
	}{Schema: schema, Version: version, HostCPU: h.accelerator.HostCPU}
	if shape.Firmware == machine.UEFI {
		code, err := os.ReadFile(h.installation.Code)
		if err != nil {
			return "", arm.Errorf(arm.CodeMissingTool, "UEFI firmware: %w; install the package ovmf", err)
		}
		// Not against an attacker, who has the host's firmware: quick.
		sum := xxh3.Hash128(code).Bytes()
		facts.Code = hex.EncodeToString(sum[:])
	}
	// Where the files are makes no difference.
	facts.Args = launch{
		spec:        machine.Spec{Shape: shape, Disk: "/disk", RAMFile: "/ram", Vars: "/vars"},
		accelerator: h.accelerator,
		restore:     true,
	}.args()
	text, err := json.Marshal(facts)
	if err != nil {
		return "", arm.Errorf(arm.CodeInternal, "fingerprint: %w", err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:]), nil
}

// Start boots a machine.
func (h *Hypervisor) Start(ctx context.Context, spec machine.Spec) (machine.Machine, error) {
	m, err := h.start(ctx, spec)
	if spec.NICAtBoot != nil {
		spec.NICAtBoot.Conn.Close()
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (h *Hypervisor) start(ctx context.Context, spec machine.Spec) (_ *Machine, err error) {
	if err := check(spec); err != nil {
		return nil, err
	}
	if spec.RAMFile != "" {
		if err := createMemory(spec); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				os.Remove(spec.RAMFile)
			}
		}()
	}
	m, err := h.launch(ctx, spec, false)
	if err != nil {
		return nil, err
	}
	if err := m.execute(ctx, "cont", nil, nil); err != nil {
		return nil, m.abandon("start", err)
	}
	return m, nil
}

// Restore starts a machine from the saved state in the file state.
func (h *Hypervisor) Restore(ctx context.Context, spec machine.Spec, state string) (machine.Machine, error) {
	if spec.NICAtBoot != nil {
		defer spec.NICAtBoot.Conn.Close() // QEMU has a copy
	}
	if spec.Seed != "" {
		return nil, spec.Errorf(arm.CodeMachine, "a machine is restored without a seed disk")
	}
	if err := check(spec); err != nil {
		return nil, err
	}
	if spec.RAMFile != "" {
		info, err := os.Stat(spec.RAMFile)
		if err != nil {
			return nil, spec.Errorf(arm.CodeMachine, "the saved memory is missing: %w", err)
		}
		if want := int64(spec.Shape.MemoryMiB) << 20; info.Size() != want {
			return nil, spec.Errorf(arm.CodeCorrupt, "the saved memory %s has %d bytes instead of %d", spec.RAMFile, info.Size(), want)
		}
	}
	file, err := os.Open(state)
	if err != nil {
		return nil, spec.Errorf(arm.CodeMachine, "the saved state is missing: %w", err)
	}
	defer file.Close()
	m, err := h.launch(ctx, spec, true)
	if err != nil {
		return nil, err
	}
	if err := m.load(ctx, file); err != nil {
		return nil, m.abandon("restore", err)
	}
	return m, nil
}

// check refuses specifications that QEMU would refuse less clearly, or not.
func check(spec machine.Spec) error {
	if c := spec.Shape.CPUs; c < 1 || c > 255 {
		return spec.Errorf(arm.CodeMachine, "%d CPUs are not possible: 1 to 255 are", c)
	}
	if spec.Shape.MemoryMiB < 16 {
		return spec.Errorf(arm.CodeMachine, "%d MiB of memory are not possible: 16 and more are", spec.Shape.MemoryMiB)
	}
	if f := spec.Shape.Firmware; f != machine.BIOS && f != machine.UEFI {
		return spec.Errorf(arm.CodeMachine, "firmware %q is unknown", f)
	}
	if spec.Disk == "" && spec.Kernel == "" {
		return spec.Errorf(arm.CodeMachine, "neither a disk nor a kernel to boot from is given")
	}
	if spec.Shape.Firmware == machine.UEFI && spec.Vars == "" {
		return spec.Errorf(arm.CodeMachine, "no file for the UEFI variables is given")
	}
	if spec.NICAtBoot != nil {
		if _, err := net.ParseMAC(spec.NICAtBoot.MAC); err != nil {
			return spec.Errorf(arm.CodeMachine, "network card: %w", err)
		}
	}
	for _, path := range []string{spec.Dir, spec.Disk, spec.Seed, spec.RAMFile, spec.Vars, spec.Kernel, spec.Initrd} {
		if path != "" && (!filepath.IsAbs(path) || !utf8.ValidString(path) || strings.ContainsRune(path, 0)) {
			return spec.Errorf(arm.CodeMachine, "path %q is not an absolute path in UTF-8", path)
		}
	}
	for _, path := range []string{spec.Dir, spec.Disk, spec.Seed, spec.Kernel, spec.Initrd} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err != nil {
			return spec.Errorf(arm.CodeMachine, "%w", err)
		}
	}
	return nil
}

// createMemory makes the file behind a new machine's memory. What another
// machine may have mapped is not touched.
func createMemory(spec machine.Spec) error {
	f, err := os.OpenFile(spec.RAMFile, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return spec.Errorf(codeOf(err), "memory file: %w", err)
	}
	err = f.Truncate(int64(spec.Shape.MemoryMiB) << 20)
	f.Close()
	if err != nil {
		os.Remove(spec.RAMFile)
		return spec.Errorf(codeOf(err), "memory file: %w", err)
	}
	return nil
}
