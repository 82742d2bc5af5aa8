package qemu_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/machine"
	"goldsmith/internal/machine/accel"
	"goldsmith/internal/machine/qemu"
)

// faulty starts a machine on a fake QEMU that follows s.
func faulty(t *testing.T, s script) (machine.Machine, machine.Spec, error) {
	t.Helper()
	dir := t.TempDir()
	spec := machine.Spec{
		Name: "faulty", Dir: dir, Disk: filepath.Join(dir, "disk"), Seed: filepath.Join(dir, "seed"),
		RAMFile: filepath.Join(dir, "ram"), Shape: machine.Shape{CPUs: 1, MemoryMiB: 16, Firmware: machine.BIOS},
	}
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "script.json"), string(text))
	write(t, spec.Disk, "")
	write(t, spec.Seed, "")
	if spec.Console, err = os.Create(filepath.Join(dir, "console")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { spec.Console.Close() })
	m, err := fakeHypervisor(t).Start(t.Context(), spec)
	if err == nil {
		t.Cleanup(func() {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	return m, spec, err
}

func fakeHypervisor(t *testing.T) *qemu.Hypervisor {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return qemu.New(qemu.Installation{QEMU: program}, accel.Result{Accelerator: accel.TCG, CPUModel: accel.Portable})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// commands are what the fake QEMU of spec was asked.
func commands(t *testing.T, spec machine.Spec) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(spec.Dir, "commands"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(text))
}

func code(t *testing.T, err error, want arm.Code, text string) {
	t.Helper()
	if !arm.IsCode(err, want) || !strings.Contains(err.Error(), text) {
		t.Errorf("got %v (%s), want %s with %q", err, arm.CodeOf(err), want, text)
	}
}

func TestSealGoesOnAfterEachFailure(t *testing.T) {
	for _, command := range []string{"blockdev-add", "query-named-block-nodes", "stop", "blockdev-snapshot"} {
		t.Run(command, func(t *testing.T) {
			m, spec, err := faulty(t, script{Refuse: map[string]string{command: "not today"}})
			if err != nil {
				t.Fatal(err)
			}
			overlay := filepath.Join(spec.Dir, "overlay")
			write(t, overlay, "disk")
			code(t, m.Seal(t.Context(), overlay), arm.CodeMachine, "not today")
			said := commands(t, spec)
			stopped := slices.Index(said, "stop")
			if stopped >= 0 && !slices.Contains(said[stopped:], "cont") {
				t.Errorf("the machine stands still after %v", said)
			}
			select {
			case <-m.Exited():
				t.Error("the machine is gone")
			default:
			}
		})
	}
	t.Run("cont", func(t *testing.T) {
		m, spec, err := faulty(t, script{})
		if err != nil {
			t.Fatal(err)
		}
		overlay := filepath.Join(spec.Dir, "overlay")
		write(t, overlay, "disk")
		if err := m.Seal(t.Context(), overlay); err != nil {
			t.Fatal(err)
		}
		// It is the current disk now, so it cannot be sealed onto.
		code(t, m.Seal(t.Context(), overlay), arm.CodeMachine, "stands on")
		want := []string{"cont", "blockdev-add", "blockdev-add", "query-named-block-nodes", "query-named-block-nodes", "stop", "blockdev-snapshot", "cont"}
		if got := commands(t, spec)[:len(want)]; !slices.Equal(got, want) {
			t.Errorf("commands %v", got)
		}
	})
}

func TestSaveGoesOnAfterEachFailure(t *testing.T) {
	for _, command := range []string{"stop", "migrate-set-capabilities", "migrate-set-parameters", "getfd", "migrate", "quit"} {
		t.Run(command, func(t *testing.T) {
			m, spec, err := faulty(t, script{Refuse: map[string]string{command: "No space left on device"}})
			if err != nil {
				t.Fatal(err)
			}
			if err := m.UnplugSeed(t.Context()); err != nil {
				t.Fatal(err)
			}
			state := filepath.Join(spec.Dir, "state")
			code(t, m.Save(t.Context(), state), arm.CodeNoSpace, "No space")
			said := commands(t, spec)
			if said[len(said)-1] != "cont" {
				t.Errorf("the machine stands still after %v", said)
			}
			if _, err := os.Stat(state); err == nil {
				t.Error("half a state is left")
			}
		})
	}
}

func TestDeathAtEachCommand(t *testing.T) {
	for _, command := range []string{"blockdev-add", "stop", "blockdev-snapshot", "device_del", "migrate", "system_powerdown"} {
		t.Run(command, func(t *testing.T) {
			m, spec, err := faulty(t, script{Die: command})
			if err != nil {
				t.Fatal(err)
			}
			overlay := filepath.Join(spec.Dir, "overlay")
			write(t, overlay, "disk")
			if command == "system_powerdown" {
				code(t, m.PowerDown(t.Context()), arm.CodeMachine, "struck by lightning")
				return
			}
			err = errors.Join(
				m.Seal(t.Context(), overlay), m.UnplugSeed(t.Context()),
				m.Save(t.Context(), filepath.Join(spec.Dir, "state")),
			)
			code(t, err, arm.CodeMachine, "struck by lightning")
			code(t, m.Wait(t.Context()), arm.CodeMachine, "struck by lightning")
		})
	}
	_, spec, err := faulty(t, script{Die: "cont"})
	code(t, err, arm.CodeMachine, "struck by lightning")
	if _, err := os.Stat(spec.RAMFile); err == nil {
		t.Error("a failed start left its memory file")
	}
}

func TestFullDisk(t *testing.T) {
	for name, tc := range map[string]struct {
		script script
		code   arm.Code
		text   string
	}{
		"disk image":   {script{Event: "BLOCK_IO_ERROR", Data: []byte(`{"operation": "write", "nospace": true, "reason": "x"}`)}, arm.CodeNoSpace, "free some space"},
		"other error":  {script{Event: "BLOCK_IO_ERROR", Data: []byte(`{"operation": "read", "nospace": false, "reason": "Input/output error"}`)}, arm.CodeMachine, "could not read the machine's disk"},
		"odd event":    {script{Event: "BLOCK_IO_ERROR", Data: []byte(`[]`)}, arm.CodeMachine, "not valid"},
		"memory":       {script{Signal: int(syscall.SIGBUS)}, arm.CodeNoSpace, "could not grow"},
		"other signal": {script{Signal: int(syscall.SIGKILL)}, arm.CodeMachine, "killed by signal 9"},
	} {
		t.Run(name, func(t *testing.T) {
			m, _, err := faulty(t, tc.script)
			if err == nil { // else it died before the answer to cont
				err = m.Wait(t.Context())
			}
			code(t, err, tc.code, tc.text)
		})
	}
}

func TestFailedStart(t *testing.T) {
	for name, tc := range map[string]struct {
		early string
		code  arm.Code
	}{
		"full disk": {"mkstemp: No space left on device", arm.CodeNoSpace},
		"other":     {"unsupported machine type", arm.CodeMachine},
	} {
		t.Run(name, func(t *testing.T) {
			_, spec, err := faulty(t, script{Early: tc.early})
			code(t, err, tc.code, tc.early)
			if _, err := os.Stat(spec.RAMFile); err == nil {
				t.Error("a failed start left its memory file")
			}
		})
	}
}

func TestUnplugAsksAgain(t *testing.T) {
	m, spec, err := faulty(t, script{Deaf: 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.UnplugSeed(t.Context()); err != nil {
		t.Error(err)
	}
	want := []string{"cont", "device_del", "device_del", "query-named-block-nodes", "blockdev-del"}
	if got := commands(t, spec); !slices.Equal(got, want) {
		t.Errorf("commands %v, want %v", got, want)
	}
}

func TestGuestDoesNotLetGo(t *testing.T) {
	m, _, err := faulty(t, script{Deaf: 1000})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	err = m.UnplugSeed(ctx)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "does not let go") {
		t.Errorf("got %v", err)
	}
}

func TestHangingMonitor(t *testing.T) {
	m, spec, err := faulty(t, script{Hang: "blockdev-add"})
	if err != nil {
		t.Fatal(err)
	}
	overlay := filepath.Join(spec.Dir, "overlay")
	write(t, overlay, "disk")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := m.Seal(ctx, overlay); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func TestConsoleIsWrittenOut(t *testing.T) {
	m, spec, err := faulty(t, script{})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.PowerDown(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := m.Wait(t.Context()); err != nil {
		t.Error(err)
	}
	text, err := os.ReadFile(spec.Console.Name())
	if err != nil || string(text) != "booting\n" {
		t.Errorf("console %q, %v", text, err)
	}
}

func TestMissingTools(t *testing.T) {
	_, err := qemu.Find(qemu.Installation{QEMU: "/nonexistent/qemu"})
	code(t, err, arm.CodeMissingTool, "qemu-system-x86")
	program, execErr := os.Executable()
	if execErr != nil {
		t.Fatal(execErr)
	}
	_, err = qemu.Find(qemu.Installation{QEMU: program, Code: "/nonexistent/code", Vars: "/nonexistent/vars"})
	code(t, err, arm.CodeMissingTool, "package ovmf")
	_, err = qemu.Find(qemu.Installation{QEMU: program, Code: "/nonexistent/code"})
	code(t, err, arm.CodeMissingTool, "both")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "disk"), "")
	_, err = fakeHypervisor(t).Start(t.Context(), machine.Spec{
		Name: "x", Dir: dir, Disk: filepath.Join(dir, "disk"), Vars: filepath.Join(dir, "vars"),
		Shape: machine.Shape{CPUs: 1, MemoryMiB: 16, Firmware: machine.UEFI},
	})
	code(t, err, arm.CodeMissingTool, "package ovmf")
	_, err = qemu.New(qemu.Installation{QEMU: "/nonexistent"}, accel.Result{}).Fingerprint(t.Context(), machine.Shape{})
	code(t, err, arm.CodeMissingTool, "qemu-system-x86")
}

func TestFingerprintCoversWhatAStateDependsOn(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	write(t, a, "firmware a")
	write(t, b, "firmware b")
	shape := machine.Shape{CPUs: 2, MemoryMiB: 1024, Firmware: machine.UEFI}
	seen := make(map[string]string)
	for name, tc := range map[string]struct {
		installation qemu.Installation
		accelerator  accel.Result
		shape        machine.Shape
	}{
		"base":     {qemu.Installation{QEMU: program, Code: a}, accel.Result{Accelerator: accel.TCG, CPUModel: accel.Portable}, shape},
		"firmware": {qemu.Installation{QEMU: program, Code: b}, accel.Result{Accelerator: accel.TCG, CPUModel: accel.Portable}, shape},
		"kvm":      {qemu.Installation{QEMU: program, Code: a}, accel.Result{Accelerator: accel.KVM, CPUModel: accel.Portable}, shape},
		"model":    {qemu.Installation{QEMU: program, Code: a}, accel.Result{Accelerator: accel.KVM, CPUModel: "host"}, shape},
		"host":     {qemu.Installation{QEMU: program, Code: a}, accel.Result{Accelerator: accel.KVM, CPUModel: "host", HostCPU: "x"}, shape},
		"cpus":     {qemu.Installation{QEMU: program, Code: a}, accel.Result{Accelerator: accel.TCG, CPUModel: accel.Portable}, machine.Shape{CPUs: 1, MemoryMiB: 1024, Firmware: machine.UEFI}},
		"memory":   {qemu.Installation{QEMU: program, Code: a}, accel.Result{Accelerator: accel.TCG, CPUModel: accel.Portable}, machine.Shape{CPUs: 2, MemoryMiB: 2048, Firmware: machine.UEFI}},
		"bios":     {qemu.Installation{QEMU: program, Code: a}, accel.Result{Accelerator: accel.TCG, CPUModel: accel.Portable}, machine.Shape{CPUs: 2, MemoryMiB: 1024, Firmware: machine.BIOS}},
	} {
		h := qemu.New(tc.installation, tc.accelerator)
		got, err := h.Fingerprint(t.Context(), tc.shape)
		if err != nil {
			t.Fatal(err)
		}
		again, err := h.Fingerprint(t.Context(), tc.shape)
		if err != nil || again != got {
			t.Errorf("%s: %s and then %s, %v", name, got, again, err)
		}
		if other, ok := seen[got]; ok {
			t.Errorf("%s and %s have one fingerprint", name, other)
		}
		seen[got] = name
	}
	moved := filepath.Join(dir, "moved")
	write(t, moved, "firmware a")
	got, err := qemu.New(qemu.Installation{QEMU: program, Code: moved}, accel.Result{Accelerator: accel.TCG, CPUModel: accel.Portable}).Fingerprint(t.Context(), shape)
	if err != nil || seen[got] != "base" {
		t.Errorf("the same firmware elsewhere has another fingerprint: %v", err)
	}
}

func ExampleInstallation() {
	_, err := qemu.Find(qemu.Installation{QEMU: "/opt/qemu/bin/missing"})
	fmt.Println(arm.CodeOf(err))
	// Output: MissingTool
}
