//go:build vm

package qemu_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"goldsmith/internal/machine"
	"goldsmith/internal/machine/accel"
	"goldsmith/internal/machine/machinetest"
	"goldsmith/internal/machine/machinetest/linuxguest"
	"goldsmith/internal/machine/qemu"
)

// guestFiles are the real guest's kernel and initial RAM file system, made once.
var guestFiles = sync.OnceValues(func() ([2]string, error) {
	dir, err := os.MkdirTemp("", "goldsmith-linuxguest-")
	if err != nil {
		return [2]string{}, err
	}
	scratch = dir
	initrd := filepath.Join(dir, "initrd")
	kernel, err := linuxguest.Build(rootContext, initrd)
	return [2]string{kernel, initrd}, err
})

func hypervisor(t *testing.T) (*qemu.Hypervisor, accel.Result) {
	t.Helper()
	installation, err := qemu.Find(qemu.Installation{})
	if err != nil {
		t.Fatal(err)
	}
	result, err := accel.Probe(t.Context(), accel.Config{QEMU: installation.QEMU})
	if err != nil {
		t.Fatal(err)
	}
	return qemu.New(installation, result), result
}

func image(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("qemu-img", args...).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v\n%s", err, out)
	}
}

func overlay(t *testing.T, path, backing string, size int64) {
	t.Helper()
	image(t, "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", filepath.Base(backing), path, strconv.FormatInt(size, 10))
}

// spec is a machine that boots the real guest. Odd characters in its paths are
// part of the test.
func spec(t *testing.T, dir string) machine.Spec {
	t.Helper()
	guest, err := guestFiles()
	if err != nil {
		t.Fatal(err)
	}
	s := machine.Spec{
		Name: "test, one", Dir: dir, Shape: machine.Shape{CPUs: 1, MemoryMiB: 256, Firmware: machine.BIOS},
		Kernel: guest[0], Initrd: guest[1], Cmdline: linuxguest.Cmdline,
		Disk: filepath.Join(dir, `disk,a=b "ü".qcow2`), Seed: filepath.Join(dir, "seed,{}.img"),
	}
	image(t, "create", "-q", "-f", "qcow2", s.Disk, "64M")
	if err := os.WriteFile(s.Seed, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if s.Console, err = os.Create(filepath.Join(dir, "console")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Console.Close() })
	return s
}

func TestConformance(t *testing.T) {
	machinetest.Conformance(t, func(t *testing.T) machinetest.Harness {
		h, _ := hypervisor(t)
		return machinetest.Harness{
			Hypervisor: h, Spec: spec, Overlay: overlay,
			Kill: func(t *testing.T, m machine.Machine) {
				if err := syscall.Kill(m.PID(), syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}
