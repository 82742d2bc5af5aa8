package accel

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"goldsmith/internal/arm"
	"goldsmith/internal/machine/guardian"
)

func TestMain(m *testing.M) {
	guardian.Main()
	goleak.VerifyTestMain(m)
}

// fakeQEMU writes a program that takes QEMU's options; script runs with
// $accel and $cpu set, and the guest's console on descriptor 3. It returns the
// program and the file in which each run leaves a line.
func fakeQEMU(t *testing.T, script string) (program, runs string) {
	t.Helper()
	dir := t.TempDir()
	program, runs = filepath.Join(dir, "qemu"), filepath.Join(dir, "runs")
	text := fmt.Sprintf(`#!/bin/sh
[ "$1" = --version ] && { echo "QEMU emulator version 0 (fake)"; exit; }
kernel=probe
while [ $# -gt 0 ]; do
	case $1 in
	-accel) accel=$2 ;;
	-cpu) cpu=$2 ;;
	-append) kernel=linux ;;
	esac
	shift
done
echo "$accel $cpu $kernel" >>%s
pass() {
	[ $kernel = linux ] && { echo "VFS: Unable to mount root fs" >&3; exit 0; }
	printf PLMXFTUS >&3
	exit 33
}
%s
`, runs, script)
	if err := os.WriteFile(program, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	return program, runs
}

func lines(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

func TestProbeDecides(t *testing.T) {
	kernel := filepath.Join(t.TempDir(), "vmlinuz")
	if err := os.WriteFile(kernel, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		access, script, kernel string
		accelerator, model     string
		runs                   []string
		reason                 string
	}{
		"kvm works": {
			accessGranted, "pass", "", KVM, "host",
			[]string{"kvm host probe"}, "KVM with CPU host boots a guest",
		},
		"kvm works with a kernel": {
			accessGranted, "pass", kernel, KVM, "host",
			[]string{"kvm host probe", "kvm host linux"}, "KVM with CPU host boots a guest",
		},
		"kvm works with another model": {
			accessGranted, `[ $cpu = host ] && { echo "failed to set MSR" >&2; kill -ABRT $$; }; pass`, "", KVM, enforced,
			[]string{"kvm host probe", "kvm " + enforced + " probe"}, "KVM with CPU " + enforced + " boots a guest",
		},
		"kvm gives the CPU up": {
			accessGranted, `[ $accel = kvm ] && { printf PLM >&3; echo "KVM internal error. Suberror: 1" >&2; exec sleep 1000; }; pass`, "", TCG, Portable,
			[]string{"kvm host probe", "kvm " + enforced + " probe", "tcg " + Portable + " probe"},
			"did not get through an exception",
		},
		"kernel does not start under kvm": {
			accessGranted, `[ $kernel = linux ] && { echo "Probing EDD" >&3; exit 1; }; pass`, kernel, TCG, Portable,
			[]string{"kvm host probe", "kvm host linux", "kvm " + enforced + " probe", "kvm " + enforced + " linux", "tcg " + Portable + " probe"},
			`its last words: "Probing EDD"`,
		},
		"no kvm": {
			"/dev/kvm does not exist", "pass", "", TCG, Portable,
			[]string{"tcg " + Portable + " probe"}, "for /dev/kvm does not exist",
		},
	} {
		t.Run(name, func(t *testing.T) {
			program, runs := fakeQEMU(t, tc.script)
			got, err := probe(t.Context(), Config{QEMU: program, Kernel: tc.kernel}, facts{Access: tc.access, CPU: "c"})
			if err != nil {
				t.Fatal(err)
			}
			if got.Accelerator != tc.accelerator || got.CPUModel != tc.model || !strings.Contains(got.Reason, tc.reason) {
				t.Errorf("got %+v", got)
			}
			if (got.HostCPU == "c") != (tc.model == "host") {
				t.Errorf("host CPU %q with model %s", got.HostCPU, got.CPUModel)
			}
			if diff := cmp.Diff(tc.runs, lines(t, runs)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestNothingBoots(t *testing.T) {
	program, _ := fakeQEMU(t, "printf PL >&3; exit 1")
	_, err := probe(t.Context(), Config{QEMU: program}, facts{Access: "no KVM"})
	if !arm.IsCode(err, arm.CodeMachine) || !strings.Contains(err.Error(), "model-specific registers") {
		t.Errorf("got %v", err)
	}
}

func TestHangingGuest(t *testing.T) {
	program, _ := fakeQEMU(t, "printf P >&3; exec sleep 1000")
	hasty := probeGuest
	hasty.deadline = 300e6
	a, err := boot(t.Context(), Config{QEMU: program}, TCG, Portable, hasty)
	if err != nil || a.Passed || !strings.Contains(a.Reason, "paging and long mode (it hung)") {
		t.Errorf("got %+v, %v", a, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("user went home")
	cancel(reason)
	if _, err := boot(ctx, Config{QEMU: program}, TCG, Portable, probeGuest); !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
}

func TestCache(t *testing.T) {
	program, runs := fakeQEMU(t, `[ $accel = kvm ] && exit 1; pass`)
	config := Config{QEMU: program, CacheFile: filepath.Join(t.TempDir(), "accel.json")}
	first, err := Probe(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	n := len(lines(t, runs))
	second, err := Probe(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(first, second); diff != "" {
		t.Error(diff)
	}
	if got := len(lines(t, runs)); got != n {
		t.Errorf("the cache was not used: %d more runs", got-n)
	}
	config.Kernel = program // any other fact makes the cached result void
	if _, err := Probe(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if got := len(lines(t, runs)); got == n {
		t.Error("a stale result was used")
	}
	n = len(lines(t, runs))
	if err := os.WriteFile(config.CacheFile, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Probe(t.Context(), config); err != nil {
		t.Fatal(err)
	}
	if got := len(lines(t, runs)); got == n {
		t.Error("a broken cache was used")
	}
}

func TestOverride(t *testing.T) {
	for override, want := range map[string]Result{
		TCG: {Accelerator: TCG, CPUModel: Portable},
		KVM: {Accelerator: KVM, CPUModel: "host"},
	} {
		got, err := Probe(t.Context(), Config{QEMU: "/nonexistent", Override: override})
		if err != nil || got.Accelerator != want.Accelerator || got.CPUModel != want.CPUModel || got.Reason == "" {
			t.Errorf("%s: %+v, %v", override, got, err)
		}
	}
	if _, err := Probe(t.Context(), Config{Override: "xen"}); !arm.IsCode(err, arm.CodeUsage) {
		t.Errorf("got %v", err)
	}
	if _, err := Probe(t.Context(), Config{QEMU: "/nonexistent"}); !arm.IsCode(err, arm.CodeMissingTool) {
		t.Errorf("got %v", err)
	}
}

// TestProbeGuestIsCurrent fails when guest.S was edited but not assembled.
func TestProbeGuestIsCurrent(t *testing.T) {
	out, err := exec.Command("sh", "-c", "cd probeguest && sha256sum -c guest.S.sha256").CombinedOutput()
	if err != nil {
		t.Errorf("run generate.sh: %v\n%s", err, out)
	}
	if len(probeImage) < 512 || len(probeImage) > 4096 {
		t.Errorf("guest of %d bytes", len(probeImage))
	}
}

func FuzzParseCache(f *testing.F) {
	f.Add([]byte(`{"key": "k", "result": {"accelerator": "tcg", "cpuModel": "qemu64", "reason": "r"}}`))
	f.Add([]byte(`{}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := parseCache(text)
		if err == nil && (c.Result.CPUModel == "" || c.Result.Accelerator != KVM && c.Result.Accelerator != TCG) {
			t.Errorf("accepted %q", text)
		}
	})
}
