// Package cloudkernel finds the kernel of small virtual machines, Debian's for
// clouds, and makes initial RAM file systems for it.
package cloudkernel

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
	"github.com/u-root/u-root/pkg/cpio"

	"goldsmith/internal/arm"
)

// metapackage depends on Debian's current cloud kernel.
const metapackage = "linux-image-cloud-amd64"

// Find returns a Debian cloud kernel and the directory of its modules. The
// package is downloaded with APT once and kept in the user's cache. The error is
// arm.CodeMissingTool where that is not possible.
func Find(ctx context.Context) (vmlinuz, moduleDir string, err error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", "", err
	}
	cache = filepath.Join(cache, "goldsmith", "kernel")
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
		return "", arm.Errorf(arm.CodeMissingTool, "apt-cache depends %s: %w; run apt-get update", metapackage, err)
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
		return nil // another process was faster
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

// Build makes the initial RAM file system of a machine in the file initrd and
// returns its kernel. Its /init is the Go program of the package with the import
// path program, which is compiled; modules are as Initramfs has them.
func Build(ctx context.Context, initrd, program string, modules []string) (vmlinuz string, err error) {
	vmlinuz, moduleDir, err := Find(ctx)
	if err != nil {
		return "", err
	}
	binary := initrd + ".init"
	defer os.Remove(binary)
	compile := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, program)
	compile.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := compile.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build of %s: %w\n%s", program, err, out)
	}
	content, err := os.ReadFile(binary)
	if err != nil {
		return "", err
	}
	archive, err := Initramfs(content, moduleDir, modules)
	if err != nil {
		return "", err
	}
	return vmlinuz, renameio.WriteFile(initrd, archive, 0o644)
}

// Initramfs is a compressed initial RAM file system whose /init is program, with
// modules, each after those that it needs, from below moduleDir. They lie in
// /modules, numbered in their order.
func Initramfs(program []byte, moduleDir string, modules []string) ([]byte, error) {
	var buffer bytes.Buffer
	zip, err := gzip.NewWriterLevel(&buffer, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	records := []cpio.Record{}
	for _, dir := range []string{"dev", "proc", "sys", "modules"} {
		records = append(records, cpio.Directory(dir, 0o755))
	}
	records = append(records, cpio.StaticFile("init", string(program), 0o755))
	for i, m := range modules {
		content, err := os.ReadFile(filepath.Join(moduleDir, m))
		if err != nil {
			return nil, fmt.Errorf("kernel module: %w", err)
		}
		records = append(records, cpio.StaticFile(fmt.Sprintf("modules/%02d-%s", i, filepath.Base(m)), string(content), 0o644))
	}
	cpio.MakeAllReproducible(records)
	w := cpio.Newc.Writer(zip)
	if err := cpio.WriteRecords(w, records); err != nil {
		return nil, fmt.Errorf("initial RAM file system: %w", err)
	}
	if err := errors.Join(cpio.WriteTrailer(w), zip.Close()); err != nil {
		return nil, err
	}
	return buffer.Bytes(), nil
}
