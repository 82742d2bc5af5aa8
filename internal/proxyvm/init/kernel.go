package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

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

// Requests of /dev/random (linux/random.h).
const (
	addEntropy = 0x40085203
	reseed     = 0x5207
)

// stir mixes entropy into the kernel's and makes it used at once: other machines
// may have been restored from the same state.
func stir(entropy []byte) error {
	if len(entropy) == 0 {
		return nil
	}
	f, err := os.OpenFile("/dev/urandom", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	pool := binary.NativeEndian.AppendUint32(nil, uint32(len(entropy)*8))
	pool = binary.NativeEndian.AppendUint32(pool, uint32(len(entropy)))
	pool = append(pool, entropy...)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), addEntropy, uintptr(unsafe.Pointer(&pool[0]))); errno != 0 {
		return fmt.Errorf("add entropy: %w", errno)
	}
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), reseed, 0); errno != 0 {
		return fmt.Errorf("reseed: %w", errno)
	}
	return nil
}
