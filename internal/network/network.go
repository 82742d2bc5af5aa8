// Package network gives a build its private network: a user-space switch, a
// gateway with DHCP, DNS and filtered egress, and the builder's own way in.
package network

import (
	"context"
	"net"
	"net/netip"
	"os"
)

// Addresses of every private build network. They are always the same, so that
// a lease survives the restore of a saved guest; networks do not see each other.
var (
	BuildSubnet  = netip.MustParsePrefix("10.0.0.0/24")
	BuildGateway = netip.MustParseAddr("10.0.0.1")
	BuildAddress = netip.MustParseAddr("10.0.0.4") // Azure reserves the first four
)

// BuildMAC is the build VM's hardware address on its private network.
const BuildMAC = "52:54:00:67:6d:04"

// Network is one isolated network with the build VM in it. Close stops every
// goroutine it owns.
type Network interface {
	// AttachBuildVM makes the port of the build VM and returns the machine's end
	// of its wire. One at a time; closing the machine frees the port.
	AttachBuildVM(ctx context.Context) (*os.File, error)
	// DialGuest opens a TCP connection from the builder to a port of the build
	// VM. It is the only way in.
	DialGuest(ctx context.Context, port uint16) (net.Conn, error)
	// Close tears the network down.
	Close() error
}
