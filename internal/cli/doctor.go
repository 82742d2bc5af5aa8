package cli

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/machine/qemu"
	"goldsmith/internal/provision"
)

// probe is one thing that doctor looked at.
type probe struct {
	Name   string `json:"name"`
	Status string `json:"status"` // ok, warning, failed
	Detail string `json:"detail"` // what was found, and what to do about it
}

// Statuses of a probe.
const (
	probeOK      = "ok"
	probeWarning = "warning" // builds work without it, with less
	probeFailed  = "failed"
)

// freeSpaceNeeded is what a first build of a small image takes.
const freeSpaceNeeded = 8 << 30

func (a *app) doctorCommand() *cobra.Command {
	format := FormatTable
	cmd := &cobra.Command{
		Use: "doctor", Short: "Check whether this host can build images, and why not", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			probes := a.examine(cmd.Context())
			err := WriteList(a.env.Stdout, format, []Column[probe]{
				{"check", func(p probe) string { return p.Name }},
				{"status", func(p probe) string { return p.Status }},
				{"detail", func(p probe) string { return p.Detail }},
			}, probes)
			if err != nil {
				return err
			}
			var failed []string
			for _, p := range probes {
				if p.Status == probeFailed {
					failed = append(failed, p.Name)
				}
			}
			if len(failed) > 0 {
				return arm.Errorf(arm.CodeMissingTool, "this host cannot build images yet: %s", strings.Join(failed, ", "))
			}
			return nil
		},
	}
	formatFlag(cmd.Flags(), &format)
	return cmd
}

// examine runs every probe.
func (a *app) examine(ctx context.Context) []probe {
	var all []probe
	add := func(name, status, format string, args ...any) {
		all = append(all, probe{name, status, fmt.Sprintf(format, args...)})
	}
	installation, err := qemu.Find(qemu.Installation{})
	if err != nil {
		add("qemu", probeFailed, "%v", err)
	} else {
		add("qemu", probeOK, "%s", version(ctx, installation.QEMU))
		if result, err := a.probe(ctx, installation); err != nil {
			add("accelerator", probeFailed, "%v", err)
		} else {
			add("accelerator", probeOK, "%s, CPU %s: %s", result.Accelerator, result.CPUModel, result.Reason)
			for _, t := range result.Attempts {
				status := probeOK
				if !t.Passed {
					status = probeWarning
				}
				add("accelerator "+t.Accelerator+" "+t.Guest, status, "%s (%d ms)", t.Reason, t.Millis)
			}
		}
		if installation.Code == "" {
			add("uefi firmware", probeWarning, "not found: generation 2 images cannot be built; install the package ovmf")
		} else {
			add("uefi firmware", probeOK, "%s", installation.Code)
		}
	}
	for _, tool := range []struct{ name, pkg, why string }{
		{"qemu-img", "qemu-utils", "VHDX and VMDK files cannot be read or written"},
		{"mmdebstrap", "mmdebstrap", "the base image Debian:debian-12:12-gen2 cannot be made"},
		{"mke2fs", "e2fsprogs", "the base image Debian:debian-12:12-gen2 cannot be made"},
		{"sfdisk", "fdisk", "the base image Debian:debian-12:12-gen2 cannot be made"},
		{"mkfs.vfat", "dosfstools", "the base image Debian:debian-12:12-gen2 cannot be made"},
		{"mcopy", "mtools", "the base image Debian:debian-12:12-gen2 cannot be made"},
		{"grub-mkimage", "grub-common", "the base image Debian:debian-12:12-gen2 cannot be made"},
	} {
		if path, err := lookPath(tool.name); err != nil {
			add(tool.name, probeWarning, "not found: %s; install the package %s", tool.why, tool.pkg)
		} else {
			add(tool.name, probeOK, "%s", path)
		}
	}
	if helper, err := provision.HelperBinary(); err != nil {
		add("guest helper", probeFailed, "%v", err)
	} else {
		add("guest helper", probeOK, "%s, built in", Bytes(int64(len(helper))))
	}
	all = append(all, a.examineHost()...)
	return append(all, a.examineData(ctx)...)
}

// examineHost looks at what the host gives to builds.
func (a *app) examineHost() []probe {
	var all []probe
	capacity, err := hostCapacity(a.host.vmSizes)
	switch {
	case err != nil:
		all = append(all, probe{"capacity", probeFailed, err.Error()})
	case capacity.MemoryMiB < 1024:
		all = append(all, probe{"capacity", probeWarning, fmt.Sprintf("%d CPUs, %d MiB for a build machine: most images need 1 GiB to boot", capacity.CPUs, capacity.MemoryMiB)})
	default:
		all = append(all, probe{"capacity", probeOK, fmt.Sprintf("%d CPUs, %d MiB for a build machine", capacity.CPUs, capacity.MemoryMiB)})
	}
	if os.Geteuid() != 0 {
		// Making a base image as an ordinary user maps further users.
		text, err := os.ReadFile("/etc/subuid")
		if err != nil || len(strings.TrimSpace(string(text))) == 0 {
			all = append(all, probe{"user namespaces", probeWarning, "no subordinate ids in /etc/subuid: base images are made as root only; see subuid(5)"})
		} else {
			all = append(all, probe{"user namespaces", probeOK, "subordinate ids in /etc/subuid"})
		}
	}
	return all
}

// examineData looks at the data directory.
func (a *app) examineData(ctx context.Context) []probe {
	dir, err := a.dataDir()
	if err != nil {
		return []probe{{"data directory", probeFailed, err.Error()}}
	}
	if err := a.withEngine(ctx, func(*build.Engine) error { return nil }); err != nil {
		return []probe{{"data directory", probeFailed, err.Error()}}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return []probe{{"data directory", probeFailed, fmt.Sprintf("%s: %v", dir, err)}}
	}
	free := int64(fs.Bavail) * int64(fs.Bsize)
	if free < freeSpaceNeeded {
		return []probe{{"data directory", probeWarning, fmt.Sprintf("%s: %s free; a first build takes up to %s", dir, Bytes(free), Bytes(freeSpaceNeeded))}}
	}
	return []probe{{"data directory", probeOK, fmt.Sprintf("%s: %s free", dir, Bytes(free))}}
}

// version is the first line of a program's --version.
func version(ctx context.Context, program string) string {
	out, err := exec.CommandContext(ctx, program, "--version").Output()
	if err != nil {
		return program
	}
	return firstLine(string(out))
}

// lookPath finds a program, in the administrator's directories too: ordinary
// users may run these without having them in their path.
func lookPath(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o111 != 0 {
			return path, nil
		}
	}
	return "", exec.ErrNotFound
}
