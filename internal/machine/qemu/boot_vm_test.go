//go:build vm

package qemu_test

import (
	"bufio"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"goldsmith/internal/machine"
	"goldsmith/internal/machine/machinetest/talk"
)

// TestUEFI boots under UEFI, saves, and restores with other variables: the saved
// state holds the firmware's.
func TestUEFI(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	h, _ := hypervisor(t)
	dir := t.TempDir()
	s := spec(t, dir)
	s.Seed = ""
	s.Shape = machine.Shape{CPUs: 2, MemoryMiB: 256, Firmware: machine.UEFI}
	s.Vars = filepath.Join(dir, "vars.fd")
	s.RAMFile = filepath.Join(dir, "ram")
	m, err := h.Start(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	boot, err := talk.New(m.Helper()).Ask(ctx, talk.Boot)
	if err != nil {
		t.Fatal(err)
	}
	state := filepath.Join(dir, "state")
	if err := m.Save(ctx, state); err != nil {
		t.Fatal(err)
	}
	clone := s
	clone.Disk, clone.Vars = filepath.Join(dir, "clone.qcow2"), filepath.Join(dir, "clone.fd")
	overlay(t, clone.Disk, s.Disk, 64<<20)
	c, err := h.Restore(ctx, clone, state)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := talk.New(c.Helper()).Ask(ctx, talk.Boot); err != nil || got != boot {
		t.Errorf("the restored guest says %q, %v; the saved one said %q", got, err, boot)
	}
	template, err := os.Stat(s.Vars)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(clone.Vars); err != nil || info.Size() != template.Size() {
		t.Errorf("variables of the clone: %v, %v", info, err)
	}
}

// TestBIOSBootsFromDisk boots a sector that says a word on the serial line.
func TestBIOSBootsFromDisk(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	h, _ := hypervisor(t)
	s := spec(t, t.TempDir())
	s.Kernel, s.Initrd, s.Cmdline = "", "", ""
	sector := make([]byte, 1<<20)
	copy(sector, []byte{
		0xbe, 0x13, 0x7c, // mov si, 0x7c13: the text
		0xba, 0xf8, 0x03, // mov dx, 0x3f8: the first serial port
		0x2e, 0xac, // lodsb cs:
		0x84, 0xc0, // test al, al
		0x74, 0x03, // jz halt
		0xee,       // out dx, al
		0xeb, 0xf7, // jmp to lodsb
		0xf4,       // halt: hlt
		0xeb, 0xfd, // jmp halt
		0x00,
	})
	copy(sector[0x13:], "\nhello from the boot sector\n")
	copy(sector[510:], []byte{0x55, 0xaa})
	raw := filepath.Join(s.Dir, "boot.raw")
	if err := os.WriteFile(raw, sector, 0o600); err != nil {
		t.Fatal(err)
	}
	image(t, "convert", "-f", "raw", "-O", "qcow2", raw, s.Disk)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s.Console = w
	m, err := h.Start(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	defer m.Close()
	stop := context.AfterFunc(ctx, func() { m.Close(); w.Close() })
	defer stop()
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "hello from the boot sector") {
			return
		}
	}
	t.Errorf("the boot sector said nothing: %v", lines.Err())
}
