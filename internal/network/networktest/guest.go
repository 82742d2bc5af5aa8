// Package networktest is a guest without a machine: a netstack at the far end
// of a wire, with a DHCP client, that dials and listens like a virtual machine
// with one network card.
package networktest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"

	"github.com/miekg/dns"
	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/netswitch"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

const nic = tcpip.NICID(1)

// maxMTU is what the guest's own card can do; the lease sets what it does.
const maxMTU = frame.MaxSize - frame.HeaderSize

// ErrNotConfigured is returned by what needs an address before Configure.
var ErrNotConfigured = errors.New("guest has no address; configure it first")

// Guest is a machine's network side. Close is always needed.
type Guest struct {
	mac   frame.MAC
	sw    *netswitch.Switch
	wire  *netswitch.Port
	link  *netswitch.Link
	stack *stack.Stack
	dhcp  chan []byte // payloads for the DHCP client

	mu    sync.Mutex
	lease *Lease
}

// NewGuest plugs a guest into the machine's end of a wire, of which it becomes
// the owner. mac is the card's hardware address.
func NewGuest(wire *os.File, mac string) (*Guest, error) {
	conn, err := net.FileConn(wire) // its own descriptor of the same end
	_ = wire.Close()
	if err != nil {
		return nil, fmt.Errorf("plug guest in: %w", err)
	}
	return NewGuestConn(conn, mac)
}

// NewGuestConn is NewGuest for a wire that is any stream.
func NewGuestConn(conn net.Conn, mac string) (*Guest, error) {
	hw, err := frame.ParseMAC(mac)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	g := &Guest{mac: hw, sw: netswitch.New(), dhcp: make(chan []byte, 16)}
	// The card is a switch of two ports: the wire, behind which is everything
	// else, and the guest's netstack.
	g.link, err = g.sw.AttachStack(netswitch.PortConfig{Name: "guest", MAC: hw, Trusted: true, MTU: maxMTU}, g.intercept)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	far := frame.MAC{0x02, 0xff, 0xff, 0xff, 0xff, 0xff} // nobody's
	g.wire, err = g.sw.Attach(conn, netswitch.PortConfig{Name: "wire", MAC: far, Trusted: true, Uplink: true, MTU: maxMTU})
	if err != nil {
		return nil, errors.Join(err, g.sw.Close())
	}
	g.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
		HandleLocal:        true,
	})
	sack := tcpip.TCPSACKEnabled(true)
	if terr := g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &sack); terr != nil {
		return nil, errors.Join(errors.New(terr.String()), g.Close())
	}
	if terr := g.stack.CreateNIC(nic, g.link.Endpoint()); terr != nil {
		return nil, errors.Join(errors.New(terr.String()), g.Close())
	}
	return g, nil
}

// Unplugged is closed when the other end of the wire is gone.
func (g *Guest) Unplugged() <-chan struct{} { return g.wire.Done() }

// Send puts a raw Ethernet frame on the wire.
func (g *Guest) Send(frame []byte) { g.link.Send(frame) }

// Forward makes the guest a router: it passes on what is not for itself.
func (g *Guest) Forward() error {
	if err := g.stack.SetForwardingDefaultAndAllNICs(ipv4.ProtocolNumber, true); err != nil {
		return errors.New(err.String())
	}
	return nil
}

// Listen accepts TCP connections at a port of the guest's address.
func (g *Guest) Listen(port uint16) (net.Listener, error) {
	l, err := gonet.ListenTCP(g.stack, tcpip.FullAddress{Port: port}, ipv4.ProtocolNumber)
	if err != nil {
		return nil, err
	}
	return listener{l}, nil
}

// listener wakes a waiting Accept when it is closed.
type listener struct{ *gonet.TCPListener }

func (l listener) Close() error {
	l.Shutdown()
	return l.TCPListener.Close()
}

// Dial opens a connection from the guest; network is "tcp" or "udp" and address
// is host:port, where a name is resolved by the DNS server of the lease.
func (g *Guest) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, network, service)
	if err != nil {
		return nil, err
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		addrs, err := g.Lookup(ctx, host)
		if err != nil {
			return nil, err
		}
		addr = addrs[0]
	}
	to := tcpip.FullAddress{NIC: nic, Addr: tcpip.AddrFromSlice(addr.AsSlice()), Port: uint16(port)}
	switch network {
	case "tcp":
		return gonet.DialContextTCP(ctx, g.stack, to, ipv4.ProtocolNumber)
	case "udp":
		return gonet.DialUDP(g.stack, nil, &to, ipv4.ProtocolNumber)
	}
	return nil, net.UnknownNetworkError(network)
}

// Lookup resolves a name to its IPv4 addresses, at least one.
func (g *Guest) Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	resp, err := g.Exchange(ctx, "udp", new(dns.Msg).SetQuestion(dns.Fqdn(name), dns.TypeA))
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, rr := range resp.Answer {
		if a, ok := rr.(*dns.A); ok {
			addrs = append(addrs, netip.AddrFrom4([4]byte(a.A.To4())))
		}
	}
	if len(addrs) == 0 {
		return nil, &net.DNSError{Err: dns.RcodeToString[resp.Rcode], Name: name, IsNotFound: true}
	}
	return addrs, nil
}

// Exchange sends a DNS query to the lease's server; network is "tcp" or "udp".
func (g *Guest) Exchange(ctx context.Context, network string, query *dns.Msg) (*dns.Msg, error) {
	lease := g.Lease()
	if lease == nil || !lease.DNS.IsValid() {
		return nil, ErrNotConfigured
	}
	conn, err := g.Dial(ctx, network, netip.AddrPortFrom(lease.DNS, 53).String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	resp, _, err := (&dns.Client{Net: network}).ExchangeWithConnContext(ctx, query, &dns.Conn{Conn: conn})
	return resp, err
}

// Close unplugs the guest and waits for its goroutines.
func (g *Guest) Close() error {
	err := g.sw.Close()
	if g.stack != nil {
		g.stack.Close()
		g.stack.Wait()
	}
	return err
}

// intercept takes the DHCP answers out of the netstack's input.
func (g *Guest) intercept(b []byte) bool {
	if len(b) < frame.HeaderSize || header.Ethernet(b).Type() != header.IPv4ProtocolNumber {
		return false
	}
	d, ok := frame.ParseDatagram(b)
	if !ok || d.Target.Port() != dhcpClientPort {
		return false
	}
	select {
	case g.dhcp <- append([]byte(nil), d.Payload...):
	default: // the client asks again
	}
	return true
}
