// Package stream is TCP connections of a netstack, and the relaying between one
// of them and any other.
package stream

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// A peer that answers nothing any more is given up after keepaliveIdle and
// keepaliveCount times keepaliveInterval.
const (
	keepaliveIdle     = 15 * time.Second
	keepaliveInterval = 15 * time.Second
	keepaliveCount    = 4
)

// Conn is a connection of a netstack.
type Conn struct {
	*gonet.TCPConn
	ep     tcpip.Endpoint
	forget func() bool // lets go of what watches the connection; may be nil
}

// NewConn makes a connection of an endpoint.
func NewConn(queue *waiter.Queue, ep tcpip.Endpoint) *Conn {
	idle, interval := tcpip.KeepaliveIdleOption(keepaliveIdle), tcpip.KeepaliveIntervalOption(keepaliveInterval)
	_ = ep.SetSockOpt(&idle) // these can fail on an ended connection only
	_ = ep.SetSockOpt(&interval)
	_ = ep.SetSockOptInt(tcpip.KeepaliveCountOption, keepaliveCount)
	ep.SocketOptions().SetKeepAlive(true)
	return &Conn{TCPConn: gonet.NewTCPConn(queue, ep), ep: ep}
}

// Abort resets the connection; reads and writes fail at once.
func (c *Conn) Abort() { c.ep.Abort() }

// Close implements net.Conn.
func (c *Conn) Close() error {
	if c.forget != nil {
		c.forget()
	}
	return c.TCPConn.Close()
}

// Dial opens a connection of s from an address to another. It ends with ctx's
// cause when ctx ends first, and with net.ErrClosed when epoch does, which also
// resets the connection.
func Dial(ctx, epoch context.Context, s *stack.Stack, nic tcpip.NICID, from netip.Addr, to netip.AddrPort) (*Conn, error) {
	queue := new(waiter.Queue)
	ep, terr := s.NewEndpoint(tcp.ProtocolNumber, ipv4.ProtocolNumber, queue)
	if terr != nil {
		return nil, errors.New(terr.String())
	}
	entry, connected := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	queue.EventRegister(&entry)
	defer queue.EventUnregister(&entry)
	if terr := ep.Bind(tcpip.FullAddress{NIC: nic, Addr: Addr(from)}); terr != nil {
		ep.Close()
		return nil, errors.New(terr.String())
	}
	terr = ep.Connect(tcpip.FullAddress{NIC: nic, Addr: Addr(to.Addr()), Port: to.Port()})
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
	conn := NewConn(queue, ep)
	conn.forget = context.AfterFunc(epoch, conn.Abort)
	return conn, nil
}

// Addr is an address as the netstack has it.
func Addr(a netip.Addr) tcpip.Address { return tcpip.AddrFromSlice(a.AsSlice()) }

// Tune sets a netstack's TCP for a link without delay or damage.
func Tune(s *stack.Stack) error {
	sack := tcpip.TCPSACKEnabled(true)
	moderate := tcpip.TCPModerateReceiveBufferOption(true)
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4 << 10, Default: 256 << 10, Max: 4 << 20}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4 << 10, Default: 256 << 10, Max: 1 << 20}
	// A guest must not pile up ended connections here.
	timeWait := tcpip.TCPTimeWaitTimeoutOption(5 * time.Second)
	for _, opt := range []tcpip.SettableTransportProtocolOption{&sack, &moderate, &receive, &send, &timeWait} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, opt); err != nil {
			return errors.New(err.String())
		}
	}
	return nil
}
