package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"
)

// connectTimeout is how long the outside may take to accept a connection.
const connectTimeout = 15 * time.Second

// refusedError is a connection that policy forbids.
type refusedError string

func (e refusedError) Error() string { return string(e) }

// permit asks the egress policy whether the guest may reach an outside address.
// The error is refusedError, or why the answer cannot be known.
func (g *Gateway) permit(addr netip.Addr) error {
	// The private subnet may exist around the host too; that one is another.
	if g.isInside(addr) || slices.Contains(g.cfg.Platform, addr) {
		return refusedError(fmt.Sprintf("%v is inside this network, and nothing is published there", addr))
	}
	own, err := g.cfg.HostNetworks()
	if err != nil {
		return err
	}
	if why := g.cfg.Egress.Refuse(addr, own); why != "" {
		return refusedError(why)
	}
	return nil
}

// open connects to what the guest asked for, if it may.
func (g *Gateway) open(ctx context.Context, network string, remote netip.AddrPort) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if service, ok := g.cfg.Services[remote]; ok && network == "tcp" {
		return service(ctx)
	}
	if err := g.permit(remote.Addr()); err != nil {
		return nil, err
	}
	return g.cfg.Dial(ctx, network, remote)
}

// dialHost dials from the host, and hangs up when the host itself answered: a
// local route can make any address the host's own.
func dialHost(egress Egress) DialFunc {
	var d net.Dialer
	return func(ctx context.Context, network string, addr netip.AddrPort) (net.Conn, error) {
		conn, err := d.DialContext(ctx, network, addr.String())
		if err != nil {
			return nil, err
		}
		if sameHost(conn) && !contains(egress.Allow, addr.Addr()) {
			_ = conn.Close()
			return nil, refusedError(fmt.Sprintf("%v is routed to the host itself; allow it to open it", addr.Addr()))
		}
		return conn, nil
	}
}

func sameHost(conn net.Conn) bool {
	local, lerr := netip.ParseAddrPort(conn.LocalAddr().String())
	remote, rerr := netip.ParseAddrPort(conn.RemoteAddr().String())
	return lerr == nil && rerr == nil && local.Addr().Unmap() == remote.Addr().Unmap()
}

// reasonOf is err for a flow's record.
func reasonOf(err error) (reason string, allowed bool) {
	var refused refusedError
	if errors.As(err, &refused) {
		return string(refused), false
	}
	return err.Error(), true
}

// lastOf is the broadcast address of an IPv4 subnet.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		b[i/8] |= 1 << (7 - i%8)
	}
	return netip.AddrFrom4(b)
}
