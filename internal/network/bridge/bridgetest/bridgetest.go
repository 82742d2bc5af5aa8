// Package bridgetest has bridges of the host for tests, in a network namespace of
// their own, and hosts on them.
package bridgetest

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"goldsmith/internal/network/bridge"
	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/networktest"
)

// marker names the test that runs in a namespace of its own.
const marker = "GOLDSMITH_TEST_NAMESPACE"

// Apart runs the test that calls it once more, in a process with a network namespace
// of its own, and reports whether this is that process. In the other it returns
// false when the test passed there. It needs root, or the right to make user
// namespaces.
func Apart(t *testing.T) bool {
	t.Helper()
	if os.Getenv(marker) == t.Name() {
		control(t, unix.SIOCSIFFLAGS, "lo", func(r *unix.Ifreq) { r.SetUint16(unix.IFF_UP) })
		return true
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^"+t.Name()+"$", "-test.count=1")
	cmd.Env = append(os.Environ(), marker+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if len(out) == 0 && err != nil {
		t.Fatalf("a network namespace of its own needs root or user namespaces: %v", err)
	}
	if err != nil {
		t.Fatalf("%v in a network namespace of its own:\n%s", err, out)
	}
	return false
}

// control asks the kernel for something about an interface.
func control(t testing.TB, request uint, name string, set func(*unix.Ifreq)) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	r, err := unix.NewIfreq(name)
	if err != nil {
		t.Fatal(err)
	}
	set(r)
	if err := unix.IoctlIfreq(fd, request, r); err != nil {
		t.Fatalf("interface %s: %v", name, err)
	}
}

// Drop takes every capability from the calling test's thread for the rest of the
// process.
func Drop(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	var none [2]unix.CapUserData
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
		t.Fatal(err)
	}
}

// Make makes a bridge with an address of the host, or without if addr is zero. It
// goes with the namespace.
func Make(t testing.TB, name string, addr netip.Prefix) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	text, err := unix.BytePtrFromString(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCBRADDBR, uintptr(unsafe.Pointer(text))); errno != 0 {
		t.Fatalf("make bridge %s: %v", name, errno)
	}
	if addr.IsValid() {
		set := func(request uint, value []byte) {
			control(t, request, name, func(r *unix.Ifreq) {
				if err := r.SetInet4Addr(value); err != nil {
					t.Fatal(err)
				}
			})
		}
		set(unix.SIOCSIFADDR, addr.Addr().AsSlice())
		set(unix.SIOCSIFNETMASK, net.CIDRMask(addr.Bits(), 32))
	}
	control(t, unix.SIOCSIFFLAGS, name, func(r *unix.Ifreq) { r.SetUint16(unix.IFF_UP) })
}

// Plug gives the frames of a bridge, as a host's card sees them.
func Plug(t testing.TB, name string) *os.File {
	t.Helper()
	f, err := bridge.OpenTAP(name, bridge.HardwareAddress("device "+t.Name()), false)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Host puts a host on a bridge, with an address that nobody gave it.
func Host(t testing.TB, name, mac string, addr netip.Prefix) *networktest.Guest {
	t.Helper()
	card := Plug(t, name)
	near, far := net.Pipe()
	var copying sync.WaitGroup
	copying.Go(func() {
		defer far.Close()
		buf := make([]byte, frame.MaxSize)
		for {
			n, err := card.Read(buf)
			if err != nil {
				return
			}
			if _, err := far.Write(frame.Append(nil, buf[:n])); err != nil {
				return
			}
		}
	})
	copying.Go(func() {
		defer card.Close()
		frames := frame.NewReader(far)
		for {
			b, err := frames.Next()
			if err != nil {
				return
			}
			if _, err := card.Write(b); err != nil {
				return
			}
		}
	})
	g, err := networktest.NewGuestConn(near, mac)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		_ = card.Close()
		copying.Wait()
	})
	if err := g.Assume(networktest.Lease{Addr: addr, Router: addr.Addr()}); err != nil {
		t.Fatal(err)
	}
	return g
}
