package helper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// watchKernel calls ready, which tells whether what is waited for is there, at
// once and whenever the kernel reports a change on a netlink(7) socket of the
// family and groups. It ends with ready, or with ctx and its cause.
func watchKernel(ctx context.Context, family int, groups uint32, ready func() (bool, error)) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, family)
	if err != nil {
		return fmt.Errorf("cannot listen for changes: %w", err)
	}
	changes := os.NewFile(uintptr(fd), "netlink")
	defer changes.Close()
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return fmt.Errorf("cannot listen for changes: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = changes.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	message := make([]byte, 64<<10)
	for {
		if ok, err := ready(); ok || err != nil {
			return err
		}
		// Changes that were lost for want of room are changes too.
		if _, err := changes.Read(message); err != nil && !errors.Is(err, unix.ENOBUFS) {
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("cannot listen for changes: %w", err)
		}
	}
}
