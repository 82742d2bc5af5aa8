// Package standin makes a small virtual machine that stands in for a build VM: a
// kernel and one program, with a network card of a fixed address. It answers TLS
// connections with what they say, or moves bytes to see how fast that goes.
package standin

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"net/netip"

	"goldsmith/internal/machine/cloudkernel"
)

// Ready is the line of the console that says that the machine does what it is for.
const Ready = "standin: ready"

// Moved begins the line of the console that says how many nanoseconds the bytes
// took.
const Moved = "standin: moved in "

// Parameters of the kernel's command line.
const (
	ParamMAC     = "standin.mac"
	ParamAddress = "standin.address"
	ParamRouter  = "standin.router"
	ParamListen  = "standin.listen"
	ParamKey     = "standin.key"
	ParamSend    = "standin.send"
	ParamReceive = "standin.receive"
	ParamBytes   = "standin.bytes"
)

// modules are the kernel's modules that it needs, each after those that it needs
// itself.
var modules = []string{
	"drivers/virtio/virtio_ring.ko", "drivers/virtio/virtio.ko", "drivers/virtio/virtio_pci_legacy_dev.ko",
	"drivers/virtio/virtio_pci_modern_dev.ko", "drivers/virtio/virtio_pci.ko",
	"net/core/failover.ko", "drivers/net/net_failover.ko", "drivers/net/virtio_net.ko",
}

// Build makes the machine's initial RAM file system in the file initrd and returns
// its kernel.
func Build(ctx context.Context, initrd string) (kernel string, err error) {
	return cloudkernel.Build(ctx, initrd, "goldsmith/internal/network/networktest/standin/init", modules)
}

// Config is what a machine is told.
type Config struct {
	MAC     string
	Address netip.Prefix // in its subnet
	Router  netip.Addr
	// Listen is the port where it answers TLS connections with Key, an ECDSA key;
	// 0 for none.
	Listen uint16
	Key    *ecdsa.PrivateKey
	// Send and Receive are where it sends Bytes to, and receives them from, once
	// each; the zero value is nowhere.
	Send, Receive netip.AddrPort
	Bytes         int64
}

// Cmdline is the kernel's command line for a machine with c.
func (c Config) Cmdline() (string, error) {
	line := fmt.Sprintf("console=ttyS0 panic=-1 quiet %s=%s %s=%v %s=%v", ParamMAC, c.MAC, ParamAddress, c.Address, ParamRouter, c.Router)
	if c.Listen != 0 {
		der, err := x509.MarshalECPrivateKey(c.Key)
		if err != nil {
			return "", err
		}
		line += fmt.Sprintf(" %s=%d %s=%s", ParamListen, c.Listen, ParamKey, base64.RawURLEncoding.EncodeToString(der))
	}
	if c.Send.IsValid() {
		line += fmt.Sprintf(" %s=%v", ParamSend, c.Send)
	}
	if c.Receive.IsValid() {
		line += fmt.Sprintf(" %s=%v", ParamReceive, c.Receive)
	}
	return line + fmt.Sprintf(" %s=%d", ParamBytes, c.Bytes), nil
}
