package helper

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctlBytes performs an ioctl whose argument is a structure, or nothing.
func ioctlBytes(fd uintptr, request uint, arg []byte) error {
	var p unsafe.Pointer
	if len(arg) > 0 {
		p = unsafe.Pointer(&arg[0])
	}
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(request), uintptr(p))
	if errno != 0 {
		return errno
	}
	return nil
}
