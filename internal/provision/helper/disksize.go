package helper

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sectorBytes is the unit of /sys/block/*/size, whatever the disk's own is.
const sectorBytes = 512

// kernelEvents is the group of NETLINK_KOBJECT_UEVENT that the kernel itself
// speaks to; udev's is another.
const kernelEvents = 1

// waitSize waits until the kernel has noticed that a disk has size bytes or more:
// the machine's word of a new size is an interrupt, which the guest works on
// after whatever it is doing. The disk's size is in the file at, in sectors.
func waitSize(ctx context.Context, at string, size int64) error {
	var now int64
	err := watchKernel(ctx, unix.NETLINK_KOBJECT_UEVENT, kernelEvents, func() (bool, error) {
		sectors, err := os.ReadFile(at)
		if err != nil {
			return false, err
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(sectors)), 10, 64)
		now = n * sectorBytes
		return now >= size, err
	})
	if err != nil {
		return fmt.Errorf("by %s the disk has %d bytes, not yet the %d it was given: %w", at, now, size, err)
	}
	return nil
}
