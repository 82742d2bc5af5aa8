// Package userland is what a program does that is the only one of a machine: it
// runs as /init on the kernel and with the file system of cloudkernel.
package userland

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Kernel is the running kernel with its events.
type Kernel struct{ events int }

// Start mounts the kernel's file systems and loads the modules of the initial RAM
// file system.
func Start() (Kernel, error) {
	for _, m := range []struct{ fs, dir string }{{"devtmpfs", "/dev"}, {"sysfs", "/sys"}, {"proc", "/proc"}} {
		if err := unix.Mount(m.fs, m.dir, m.fs, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return Kernel{}, fmt.Errorf("mount %s: %w", m.dir, err)
		}
	}
	events, err := listen()
	if err != nil {
		return Kernel{}, fmt.Errorf("kernel events: %w", err)
	}
	modules, err := filepath.Glob("/modules/*.ko") // numbered in the order of their needs
	if err != nil {
		return Kernel{}, err
	}
	for _, m := range modules {
		if err := load(m); err != nil {
			return Kernel{}, fmt.Errorf("load %s: %w", m, err)
		}
	}
	return Kernel{events}, nil
}

// PowerOff ends the machine.
func PowerOff() {
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

func load(module string) error {
	f, err := os.Open(module)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

// listen opens the kernel's event socket, so that nothing needs polling.
func listen() (int, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return -1, err
	}
	return fd, unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1})
}

// Await looks at each kernel event until ready says so.
func (k Kernel) Await(ready func() bool) error {
	buffer := make([]byte, 64<<10)
	for !ready() {
		if _, err := unix.Read(k.events, buffer); err != nil && !errors.Is(err, unix.EINTR) && !errors.Is(err, unix.ENOBUFS) {
			return err
		}
	}
	return nil
}

// OpenPort waits for a virtio-serial port and opens it.
func (k Kernel) OpenPort(name string) (*os.File, error) {
	var device string
	err := k.Await(func() bool {
		ports, _ := filepath.Glob("/sys/class/virtio-ports/*")
		for _, p := range ports {
			if found, err := os.ReadFile(p + "/name"); err == nil && strings.TrimSpace(string(found)) == name {
				device = "/dev/" + filepath.Base(p)
			}
		}
		return device != ""
	})
	if err != nil {
		return nil, err
	}
	return os.OpenFile(device, os.O_RDWR, 0)
}

// AwaitCard waits for the network card with a hardware address and returns its
// name.
func (k Kernel) AwaitCard(mac string) (name string, err error) {
	err = k.Await(func() bool {
		all, _ := net.Interfaces()
		for _, i := range all {
			if strings.EqualFold(i.HardwareAddr.String(), mac) {
				name = i.Name
			}
		}
		return name != ""
	})
	return name, err
}

// Configure gives a card its address and the machine its way out.
func Configure(name string, addr netip.Prefix, router netip.Addr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	mask := net.CIDRMask(addr.Bits(), 32)
	for _, s := range []struct {
		request uint
		value   []byte
	}{{unix.SIOCSIFADDR, addr.Addr().AsSlice()}, {unix.SIOCSIFNETMASK, mask}} {
		r, err := unix.NewIfreq(name)
		if err != nil {
			return err
		}
		if err := r.SetInet4Addr(s.value); err != nil {
			return err
		}
		if err := ioctl(fd, s.request, r); err != nil {
			return fmt.Errorf("address of %s: %w", name, err)
		}
	}
	up, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	up.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := ioctl(fd, unix.SIOCSIFFLAGS, up); err != nil {
		return fmt.Errorf("bring up %s: %w", name, err)
	}
	return defaultRoute(fd, router)
}

func ioctl(fd int, request uint, r *unix.Ifreq) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), uintptr(request), uintptr(unsafe.Pointer(r))); errno != 0 {
		return errno
	}
	return nil
}

// defaultRoute adds the default route (struct rtentry of linux/route.h).
func defaultRoute(fd int, router netip.Addr) error {
	const destination, gateway, mask, flags = 8, 24, 40, 56
	entry := make([]byte, 120)
	for _, at := range []int{destination, gateway, mask} {
		binary.NativeEndian.PutUint16(entry[at:], unix.AF_INET)
	}
	copy(entry[gateway+4:], router.AsSlice())
	binary.NativeEndian.PutUint16(entry[flags:], unix.RTF_UP|unix.RTF_GATEWAY)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCADDRT, uintptr(unsafe.Pointer(&entry[0]))); errno != 0 {
		return fmt.Errorf("route to %v: %w", router, errno)
	}
	return nil
}
