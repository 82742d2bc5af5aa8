//go:build vm

package provision

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"goldsmith/internal/catalog/recipe"
)

// baseDisk is the recipe's disk, made once and kept between runs.
func baseDisk(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	disk, err := recipe.Debian12().Base(t.Context(), filepath.Join(cache, "goldsmith", "bases"), recipe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

// vm is a running QEMU.
type vm struct {
	cmd     *exec.Cmd
	helper  net.Conn
	ssh     string // address on this host that leads to the guest's sshd
	console string
	exited  chan struct{}
	err     error
}

// boot starts disk, a qcow2 file, under firmware "uefi" or "bios".
func boot(t *testing.T, firmware, disk, seed string, mac string) *vm {
	t.Helper()
	dir := t.TempDir()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "helper"), os.NewFile(uintptr(pair[1]), "helper")
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	if err != nil {
		t.Fatal(err)
	}
	v := &vm{helper: conn, console: filepath.Join(dir, "console"), exited: make(chan struct{})}
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none",
		"-accel", "tcg,thread=multi,tb-size=128", "-machine", "q35", "-m", "1G", "-smp", "2",
		"-cpu", "qemu64,+ssse3,+sse4.1,+sse4.2,+popcnt", "-rtc", "base=utc,clock=host",
		"-drive", "if=none,id=d0,format=qcow2,discard=unmap,cache=unsafe,file=" + disk, "-device", "virtio-blk-pci,drive=d0,bootindex=1",
		"-device", "virtio-rng-pci", "-serial", "file:" + v.console, "-device", "virtio-serial-pci",
		"-chardev", "socket,id=h0,fd=3", "-device", "virtserialport,chardev=h0,name=org.goldsmith.helper.0",
	}
	if seed != "" {
		args = append(args, "-drive", "if=none,id=d1,format=raw,read-only=on,file="+seed, "-device", "virtio-blk-pci,drive=d1")
	}
	if mac != "" {
		v.ssh = freePort(t)
		args = append(args, "-netdev", "user,id=n0,hostfwd=tcp:"+v.ssh+"-:22", "-device", "virtio-net-pci,netdev=n0,romfile=,mac="+mac)
	}
	if firmware == "uefi" {
		vars := filepath.Join(dir, "vars")
		content, err := os.ReadFile("/usr/share/OVMF/OVMF_VARS_4M.fd")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(vars, content, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd", "-drive", "if=pflash,format=raw,file="+vars)
	}
	v.cmd = exec.Command("qemu-system-x86_64", args...)
	v.cmd.ExtraFiles = []*os.File{theirs}
	v.cmd.Stderr = os.Stderr
	v.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := v.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		v.err = v.cmd.Wait()
		close(v.exited)
	}()
	t.Cleanup(func() {
		_ = v.cmd.Process.Kill()
		<-v.exited
		_ = conn.Close()
		if t.Failed() {
			text, _ := os.ReadFile(v.console)
			t.Logf("console:\n%s", text[max(0, len(text)-4000):])
		}
	})
	return v
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "127.0.0.1:" + strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// waitOff waits for the guest to power off.
func (v *vm) waitOff(ctx context.Context) error {
	select {
	case <-v.exited:
		return v.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// overlayOn makes a qcow2 file over a raw or qcow2 disk.
func overlayOn(t *testing.T, format, disk string) string {
	t.Helper()
	top := filepath.Join(t.TempDir(), "top.qcow2")
	if out, err := exec.Command("qemu-img", "create", "-q", "-f", "qcow2", "-F", format, "-b", disk, top).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return top
}

// within is a context for one stage of a test.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, stop := context.WithTimeoutCause(t.Context(), d, errors.New("the test's deadline"))
	t.Cleanup(stop)
	return ctx
}
