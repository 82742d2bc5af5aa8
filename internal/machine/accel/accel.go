// Package accel finds out how QEMU should run machines on this host: with KVM,
// or by translation (TCG). It never infers: on some hosts /dev/kvm opens, and
// firmware runs under it, while any operating system hangs. So it boots a small
// guest that does what a kernel does while it starts, and a real kernel after it
// when there is one, each under a deadline, and believes only what it saw.
package accel

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"goldsmith/internal/arm"
)

// Accelerators.
const (
	KVM = "kvm"
	TCG = "tcg"
)

// Portable is a CPU that every host can give or emulate, at level x86-64-v2,
// which current enterprise distributions ask for.
const Portable = "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt"

// enforced is Portable under KVM, which would otherwise leave out with a warning
// what the host's CPU lacks.
const enforced = Portable + ",enforce"

// device is what KVM needs.
const device = "/dev/kvm"

// Result is how to run machines here, and why.
type Result struct {
	Accelerator string    `json:"accelerator"` // KVM or TCG
	CPUModel    string    `json:"cpuModel"`    // for QEMU's -cpu
	Reason      string    `json:"reason"`      // a sentence for people
	Attempts    []Attempt `json:"attempts,omitempty"`
	// HostCPU is a digest of the host's CPU model and features. A saved state
	// depends on it when CPUModel is "host".
	HostCPU string `json:"hostCPU,omitempty"`
}

// Attempt is one guest that was booted.
type Attempt struct {
	Accelerator string `json:"accelerator"`
	CPUModel    string `json:"cpuModel"`
	Guest       string `json:"guest"` // "probe" for the small guest, "kernel" for a real one
	Passed      bool   `json:"passed"`
	Reason      string `json:"reason"`
	Millis      int64  `json:"millis"` // how long it took
}

// Config is what Probe works with.
type Config struct {
	QEMU string // the qemu-system-x86_64 program
	// CacheFile keeps the last result; it holds as long as nothing that matters
	// has changed: QEMU, the host's kernel and CPU, access to KVM, the guests.
	// "" probes each time.
	CacheFile string
	// Kernel is a Linux kernel for x86-64 that is booted under KVM after the
	// small guest; "" for none.
	Kernel string
	// Override is KVM or TCG to take that without a probe, "" to probe.
	Override string
}

// Probe decides how to run machines. The error is an arm.Error: CodeUsage for an
// unknown override, CodeMachine when QEMU runs no guest at all, or ctx's cause.
func Probe(ctx context.Context, config Config) (Result, error) {
	switch config.Override {
	case "":
	case TCG:
		return Result{Accelerator: TCG, CPUModel: Portable, Reason: "translation (TCG) is set by the configuration"}, nil
	case KVM:
		cpu, err := hostCPU()
		if err != nil {
			return Result{}, arm.Errorf(arm.CodeMachine, "the host's CPU cannot be read: %w", err)
		}
		return Result{Accelerator: KVM, CPUModel: "host", HostCPU: cpu, Reason: "KVM is set by the configuration; it was not probed"}, nil
	default:
		return Result{}, arm.Errorf(arm.CodeUsage, "accelerator %q is unknown: use %q or %q, or none to probe", config.Override, TCG, KVM)
	}
	facts, err := gather(ctx, config)
	if err != nil {
		return Result{}, err
	}
	if r, ok := load(config.CacheFile, facts.key()); ok {
		return r, nil
	}
	r, err := probe(ctx, config, facts)
	if err != nil {
		return Result{}, err
	}
	if err := store(config.CacheFile, facts.key(), r); err != nil {
		return Result{}, arm.Errorf(arm.CodeMachine, "the accelerator's cache %s cannot be written: %w", config.CacheFile, err)
	}
	return r, nil
}

// probe tries KVM's candidates and falls back to TCG.
func probe(ctx context.Context, config Config, facts facts) (Result, error) {
	var r Result
	try := func(accelerator, model string, guest guest) (bool, error) {
		a, err := boot(ctx, config, accelerator, model, guest)
		if err != nil {
			return false, err
		}
		r.Attempts = append(r.Attempts, a)
		r.Reason = a.Reason
		return a.Passed, nil
	}
	var refused string
	switch facts.Access {
	case accessGranted:
		for _, model := range []string{"host", enforced} {
			guests := []guest{probeGuest}
			if config.Kernel != "" {
				guests = append(guests, kernelGuest)
			}
			passed := true
			for _, g := range guests {
				var err error
				if passed, err = try(KVM, model, g); err != nil {
					return Result{}, err
				}
				if !passed {
					break
				}
			}
			if passed {
				r.Accelerator, r.CPUModel = KVM, model
				r.Reason = fmt.Sprintf("KVM with CPU %s boots a guest", model)
				if model == "host" {
					r.HostCPU = facts.CPU
				}
				return r, nil
			}
		}
		refused = "guests do not boot under KVM: " + r.Reason
	default:
		refused = facts.Access
	}
	passed, err := try(TCG, Portable, probeGuest)
	if err != nil {
		return Result{}, err
	}
	if !passed {
		return Result{}, arm.Errorf(arm.CodeMachine, "%s boots no guest, neither with KVM (%s) nor without: %s; check the installation of qemu-system-x86",
			config.QEMU, refused, r.Reason)
	}
	r.Accelerator, r.CPUModel = TCG, Portable
	r.Reason = "translation (TCG), for " + refused
	return r, nil
}

// accessGranted says that KVM may be tried; any other access is the reason why
// not.
const accessGranted = "granted"

// access opens KVM's device and says what came of it.
func access() string {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return device + " does not exist: the host has no KVM, or it is switched off"
	case errors.Is(err, fs.ErrPermission):
		return device + " may not be opened: add the user to the group kvm"
	case err != nil:
		return err.Error()
	}
	f.Close()
	return accessGranted
}
