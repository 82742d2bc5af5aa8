// Package linuxguest makes the guest that the conformance suite boots on a real
// hypervisor: Debian's cloud kernel, a handful of its modules, and one program.
package linuxguest

import (
	"context"

	"goldsmith/internal/machine/cloudkernel"
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

// Build makes the guest's initial RAM file system in the file initrd and returns
// its kernel.
func Build(ctx context.Context, initrd string) (kernel string, err error) {
	return cloudkernel.Build(ctx, initrd, "goldsmith/internal/machine/machinetest/linuxguest/init", modules)
}
