package qemu

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"goldsmith/internal/machine"
	"goldsmith/internal/machine/accel"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func TestArgs(t *testing.T) {
	installation := Installation{QEMU: "/usr/bin/qemu-system-x86_64", Code: "/fw/code.fd", Vars: "/fw/vars.fd"}
	tcg := accel.Result{Accelerator: accel.TCG, CPUModel: accel.Portable}
	for name, l := range map[string]launch{
		"uefi-first-boot": {
			spec: machine.Spec{
				Name: "web, one", Shape: machine.Shape{CPUs: 2, MemoryMiB: 1024, Firmware: machine.UEFI},
				Disk: "/runs/1/top.qcow2", Seed: "/runs/1/seed.iso", RAMFile: "/runs/1/ram", Vars: "/runs/1/vars.fd",
				NICAtBoot: &machine.NIC{MAC: "52:54:00:12:34:56"},
			},
			installation: installation, accelerator: tcg,
		},
		"uefi-restore": {
			spec: machine.Spec{
				Name: "web", Shape: machine.Shape{CPUs: 2, MemoryMiB: 1024, Firmware: machine.UEFI},
				Disk: "/runs/2/top.qcow2", RAMFile: "/layers/ram", Vars: "/runs/2/vars.fd",
			},
			installation: installation, accelerator: tcg, restore: true,
		},
		"bios-kvm": {
			spec: machine.Spec{
				Name: "old", Shape: machine.Shape{CPUs: 1, MemoryMiB: 512, Firmware: machine.BIOS},
				Disk: `/runs/a,b="c"/ü.qcow2`,
			},
			accelerator: accel.Result{Accelerator: accel.KVM, CPUModel: "host"},
		},
		"kernel": {
			spec: machine.Spec{
				Name: "proxy", Shape: machine.Shape{CPUs: 1, MemoryMiB: 256, Firmware: machine.BIOS},
				Kernel: "/vmlinuz", Initrd: "/initrd", Cmdline: "console=ttyS0, quiet",
			},
			accelerator: tcg,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(l.args(), "\n") + "\n"
			golden := filepath.Join("testdata", name+".args")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestPathsStayThemselves checks that no path can say anything but itself.
func TestPathsStayThemselves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		path := "/" + rapid.String().Draw(t, "path")
		args := launch{spec: machine.Spec{
			Name: "x", Shape: machine.Shape{CPUs: 1, MemoryMiB: 16, Firmware: machine.BIOS}, Disk: path, Seed: path, RAMFile: path,
		}}.args()
		found := 0
		for _, arg := range args {
			var o map[string]any
			if json.Unmarshal([]byte(arg), &o) != nil {
				continue
			}
			file, _ := o["file"].(map[string]any)
			for _, v := range []any{o["filename"], o["mem-path"], file["filename"]} {
				if v == path {
					found++
				}
			}
		}
		if found != 3 {
			t.Fatalf("%q appears %d times in %q", path, found, args)
		}
	})
}

func TestTail(t *testing.T) {
	var out tail
	for range 1000 {
		out.Write([]byte("qemu: warning: TCG doesn't support requested feature: x\n"))
	}
	out.Write([]byte("qemu: the end\n"))
	if got := out.String(); got != "qemu: the end" && !strings.HasSuffix(got, "\nqemu: the end") {
		t.Errorf("got %q", got)
	}
	if len(out.text) > tailSize {
		t.Errorf("keeps %d bytes", len(out.text))
	}
}

func TestConsoleIsBounded(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "console"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	done := copyConsole(r, file)
	chunk := make([]byte, 1<<20)
	for range maxConsole>>20 + 2 {
		if _, err := w.Write(chunk); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	<-done
	info, err := file.Stat()
	if err != nil || info.Size() < maxConsole || info.Size() > maxConsole+100 {
		t.Errorf("console of %d bytes, %v", info.Size(), err)
	}
}
