// Package linuxguest makes the guest that the conformance suite boots on a real
// hypervisor: Debian's cloud kernel, a handful of its modules, and one program.
package linuxguest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"
)

// Cmdline is the kernel command line of the guest.
const Cmdline = "console=ttyS0 panic=-1 quiet"

// modules are the guest's kernel modules, each after those that it needs, below
// the kernel directory of its modules.
var modules = []string{
	"drivers/virtio/virtio_ring.ko", "drivers/virtio/virtio.ko", "drivers/virtio/virtio_pci_legacy_dev.ko",
	"drivers/virtio/virtio_pci_modern_dev.ko", "drivers/virtio/virtio_pci.ko", "drivers/block/virtio_blk.ko",
	"drivers/char/virtio_console.ko", "net/core/failover.ko", "drivers/net/net_failover.ko",
	"drivers/net/virtio_net.ko", "drivers/input/evdev.ko", "drivers/acpi/button.ko",
}

// metapackage depends on Debian's current cloud kernel.
const metapackage = "linux-image-cloud-amd64"

// Kernel returns a Debian cloud kernel and the directory of its modules. The
// package is downloaded with APT once and kept in the user's cache.
func Kernel(ctx context.Context) (vmlinuz, moduleDir string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", "", err
	}
	cache = filepath.Join(cache, "goldsmith", "test-kernel")
	name, err := packageName(ctx)
	if err != nil {
		return "", "", err
	}
	dir := filepath.Join(cache, name)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		err = download(ctx, cache, name, dir)
		if err != nil {
			return "", "", fmt.Errorf("kernel package %s: %w", name, err)
		}
	}
	return one(dir, "boot/vmlinuz-*", "lib/modules/*/kernel")
}

// packageName is the kernel package that the metapackage depends on.
func packageName(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "apt-cache", "depends", metapackage).Output()
	if err != nil {
		return "", fmt.Errorf("apt-cache depends %s: %w; run apt-get update", metapackage, err)
	}
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "Depends: linux-image-"); ok {
			return "linux-image-" + name, nil
		}
	}
	return "", fmt.Errorf("%s depends on no kernel", metapackage)
}

// download fetches package name and unpacks it as dir.
func download(ctx context.Context, cache, name, dir string) error {
	if err := os.MkdirAll(cache, 0o755); err != nil {
		return err
	}
	scratch, err := os.MkdirTemp(cache, ".download-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(scratch)
	for _, script := range []string{"apt-get download " + name, "mkdir tree && dpkg-deb -x *.deb tree"} {
		cmd := exec.CommandContext(ctx, "sh", "-c", script)
		cmd.Dir = scratch
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", script, err, out)
		}
	}
	err = os.Rename(filepath.Join(scratch, "tree"), dir)
	if errors.Is(err, fs.ErrExist) {
		return nil // another test was faster
	}
	return err
}

// one resolves patterns that match one file each.
func one(dir, first, second string) (string, string, error) {
	var found [2]string
	for i, pattern := range []string{first, second} {
		matches, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(matches) != 1 {
			return "", "", fmt.Errorf("%s holds %d files %s instead of one; remove it and run again", dir, len(matches), pattern)
		}
		found[i] = matches[0]
	}
	return found[0], found[1], nil
}

// Build makes the guest's initial RAM file system in the file initrd and returns
// its kernel.
func Build(ctx context.Context, initrd string) (kernel string, err error) {
	kernel, moduleDir, err := Kernel(ctx)
	if err != nil {
		return "", err
	}
	program := initrd + ".init"
	defer os.Remove(program)
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", program, "goldsmith/internal/machine/machinetest/linuxguest/init")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build of the guest's program: %w\n%s", err, out)
	}
	content, err := os.ReadFile(program)
	if err != nil {
		return "", err
	}
	var buffer bytes.Buffer
	zip, err := gzip.NewWriterLevel(&buffer, gzip.BestSpeed)
	if err != nil {
		return "", err
	}
	a := archive{w: zip}
	for _, dir := range []string{"dev", "proc", "sys", "modules"} {
		a.dir(dir)
	}
	a.file("init", 0o755, content)
	for i, m := range modules {
		content, err := os.ReadFile(filepath.Join(moduleDir, m))
		if err != nil {
			return "", err
		}
		a.file(fmt.Sprintf("modules/%02d-%s", i, filepath.Base(m)), 0o644, content)
	}
	if err := errors.Join(a.close(), zip.Close()); err != nil {
		return "", err
	}
	return kernel, renameio.WriteFile(initrd, buffer.Bytes(), 0o644)
}
