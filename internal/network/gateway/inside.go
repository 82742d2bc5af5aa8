package gateway

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"goldsmith/internal/network/stream"
)

// Dial opens a TCP connection from the gateway to an address inside. It ends
// with ctx's cause when ctx ends first, and with net.ErrClosed when the gateway
// does. The connection is reset by Reset and Close.
func (g *Gateway) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	return g.DialFrom(ctx, g.cfg.Addr, to)
}

// DialFrom is Dial from another address than the gateway's, which must be one
// that machines inside reach by the gateway.
func (g *Gateway) DialFrom(ctx context.Context, from netip.Addr, to netip.AddrPort) (net.Conn, error) {
	if !g.cfg.Subnet.Contains(to.Addr()) {
		return nil, fmt.Errorf("%v is not inside %v", to, g.cfg.Subnet)
	}
	epoch, done, ok := g.enter()
	if !ok {
		return nil, net.ErrClosed
	}
	defer done()
	conn, err := stream.Dial(ctx, epoch, g.stack, nic, from, to)
	if err != nil {
		return nil, err
	}
	return conn, nil
}
