package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A guest that answers nothing any more is given up after keepaliveIdle and
// keepaliveCount times keepaliveInterval.
const (
	keepaliveIdle     = 15 * time.Second
	keepaliveInterval = 15 * time.Second
	keepaliveCount    = 4
)

// insideConn is a connection with a machine inside.
type insideConn struct {
	*gonet.TCPConn
	ep     tcpip.Endpoint
	forget func() bool // lets go of what watches the connection; may be nil
}

func newInsideConn(queue *waiter.Queue, ep tcpip.Endpoint) *insideConn {
	idle, interval := tcpip.KeepaliveIdleOption(keepaliveIdle), tcpip.KeepaliveIntervalOption(keepaliveInterval)
	_ = ep.SetSockOpt(&idle) // these can fail on an ended connection only
	_ = ep.SetSockOpt(&interval)
	_ = ep.SetSockOptInt(tcpip.KeepaliveCountOption, keepaliveCount)
	ep.SocketOptions().SetKeepAlive(true)
	return &insideConn{TCPConn: gonet.NewTCPConn(queue, ep), ep: ep}
}

// abort resets the connection; reads and writes fail at once.
func (c *insideConn) abort() { c.ep.Abort() }

// Close implements net.Conn.
func (c *insideConn) Close() error {
	if c.forget != nil {
		c.forget()
	}
	return c.TCPConn.Close()
}

// Dial opens a TCP connection from the gateway to an address inside. It ends
// with ctx's cause when ctx ends first, and with net.ErrClosed when the gateway
// does. The connection is reset by Reset and Close.
func (g *Gateway) Dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	if !g.cfg.Subnet.Contains(to.Addr()) {
		return nil, fmt.Errorf("%v is not inside %v", to, g.cfg.Subnet)
	}
	epoch, done, ok := g.enter()
	if !ok {
		return nil, net.ErrClosed
	}
	defer done()

	queue := new(waiter.Queue)
	ep, terr := g.stack.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, queue)
	if terr != nil {
		return nil, errors.New(terr.String())
	}
	entry, connected := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)
	if terr := ep.Bind(tcpip.FullAddress{NIC: nic, Addr: netAddr(g.cfg.Addr)}); terr != nil {
		ep.Close()
		return nil, errors.New(terr.String())
	}
	terr = ep.Connect(tcpip.FullAddress{NIC: nic, Addr: netAddr(to.Addr()), Port: to.Port()})
	if _, started := terr.(*tcpip.ErrConnectStarted); started {
		select {
		case <-connected:
			terr = ep.LastError()
		case <-ctx.Done():
			ep.Abort()
			return nil, context.Cause(ctx)
		case <-epoch.Done():
			ep.Abort()
			return nil, net.ErrClosed
		}
	}
	if terr != nil {
		ep.Close()
		return nil, errors.New(terr.String())
	}
	conn := newInsideConn(queue, ep)
	conn.forget = context.AfterFunc(epoch, conn.abort)
	return conn, nil
}
