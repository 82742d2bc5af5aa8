// Package gateway is a network's way to everything else: a netstack on the
// switch that answers ARP for its own addresses, hands out fixed leases,
// resolves names, publishes chosen host services, and carries TCP and UDP to the
// outside under an egress policy. It is the only part of a network that opens
// sockets of the host.
package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/netswitch"
	"goldsmith/internal/network/stream"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
)

// Limits of one gateway. What is beyond them is refused at once.
const (
	DefaultMaxTCP = 512 // open TCP connections to the outside
	DefaultMaxUDP = 128 // UDP flows to the outside
)

// Service opens a connection to something of the host that is published inside.
// A connection with a CloseWrite method is half-closed when the guest does so.
type Service func(ctx context.Context) (net.Conn, error)

// DialFunc opens a connection to the outside; network is "tcp" or "udp".
type DialFunc func(ctx context.Context, network string, addr netip.AddrPort) (net.Conn, error)

// Config describes a gateway.
type Config struct {
	Name   string // the port's name on the switch
	MAC    frame.MAC
	Addr   netip.Addr   // inside address: router, DHCP and DNS server
	Subnet netip.Prefix // inside network, which holds Addr
	MTU    int          // bytes; 0 is netswitch.DefaultMTU
	Leases []Lease      // who gets which address
	// Outlet is the only machine whose packets go outside; the zero value lets
	// all do so.
	Outlet frame.MAC
	// Inside are prefixes behind the gateway that hold services only and are
	// never looked for outside. Subnet need not be among them.
	Inside []netip.Prefix
	// Platform are addresses from which this program dials machines inside.
	Platform []netip.Addr

	Egress Egress
	// Services are published inside. An address of Subnet becomes the gateway's
	// own; any other is reached through it, before the egress policy is asked.
	Services map[netip.AddrPort]Service
	// Records are names that resolve inside only, without trailing dot.
	Records map[string]netip.Addr
	// OnFlow hears of every outside connection. It is called concurrently and
	// must return soon.
	OnFlow func(Flow)

	// Resolvers are the DNS servers to ask; nil reads the host's at each query.
	Resolvers func() ([]netip.AddrPort, error)
	// Dial opens what the policy allows; nil dials from the host.
	Dial DialFunc
	// HostNetworks are the host's own addresses; nil reads them at each connection.
	HostNetworks func() ([]netip.Prefix, error)

	MaxTCP, MaxUDP int           // 0 is the default
	TCPIdle        time.Duration // a silent connection is reset; 0 is 15 minutes
	UDPIdle        time.Duration // a silent flow is forgotten; 0 is 60 s
}

const nic = tcpip.NICID(1)

// Gateway is a running gateway. Close is always needed.
type Gateway struct {
	cfg   Config
	stack *stack.Stack
	link  *netswitch.Link
	owned map[netip.Addr]bool
	dhcp  dhcpServer
	names nameMemory
	flows *flowLog
	dns   *dnsServer

	tcpSlots, udpSlots chan struct{}

	close  func() error // shutdown, once
	mu     sync.Mutex
	closed bool
	epoch  context.Context // ends with the flows that were opened under it
	reset  context.CancelFunc
	work   sync.WaitGroup // every goroutine of a flow, added to under mu
}

// New starts a gateway on a switch.
func New(sw *netswitch.Switch, cfg Config) (*Gateway, error) {
	if !cfg.Addr.Is4() || !cfg.Subnet.Contains(cfg.Addr) {
		return nil, fmt.Errorf("gateway address %v is not an ipv4 address of %v", cfg.Addr, cfg.Subnet)
	}
	cfg = withDefaults(cfg)
	g := &Gateway{
		cfg:      cfg,
		owned:    map[netip.Addr]bool{cfg.Addr: true},
		flows:    newFlowLog(cfg.OnFlow),
		dhcp:     dhcpServer{mac: cfg.MAC, addr: cfg.Addr, subnet: cfg.Subnet, mtu: cfg.MTU, leases: cfg.Leases},
		tcpSlots: make(chan struct{}, cfg.MaxTCP),
		udpSlots: make(chan struct{}, cfg.MaxUDP),
	}
	for at := range cfg.Services {
		if cfg.Subnet.Contains(at.Addr()) {
			g.owned[at.Addr()] = true
		}
	}
	g.close = sync.OnceValue(g.shutdown)
	g.epoch, g.reset = context.WithCancel(context.Background())
	link, err := sw.AttachStack(netswitch.PortConfig{
		Name: cfg.Name, MAC: cfg.MAC, Trusted: true, MTU: cfg.MTU,
	}, g.intercept)
	if err != nil {
		return nil, err
	}
	g.link = link
	if err := g.start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start gateway %s: %w", cfg.Name, err), g.Close())
	}
	return g, nil
}

func withDefaults(cfg Config) Config {
	if cfg.MTU == 0 {
		cfg.MTU = netswitch.DefaultMTU
	}
	if cfg.Resolvers == nil {
		cfg.Resolvers = hostResolvers
	}
	if cfg.Dial == nil {
		cfg.Dial = dialHost(cfg.Egress)
	}
	if cfg.HostNetworks == nil {
		cfg.HostNetworks = HostNetworks
	}
	if cfg.MaxTCP == 0 {
		cfg.MaxTCP = DefaultMaxTCP
	}
	if cfg.MaxUDP == 0 {
		cfg.MaxUDP = DefaultMaxUDP
	}
	if cfg.TCPIdle == 0 {
		cfg.TCPIdle = 15 * time.Minute
	}
	if cfg.UDPIdle == 0 {
		cfg.UDPIdle = time.Minute
	}
	return cfg
}

func (g *Gateway) start() error {
	g.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	if err := stream.Tune(g.stack); err != nil {
		return err
	}
	steps := []func() tcpip.Error{
		func() tcpip.Error { return g.stack.CreateNIC(nic, g.link.Endpoint()) },
		// The NIC takes packets to every address, and answers from it.
		func() tcpip.Error { return g.stack.SetPromiscuousMode(nic, true) },
		func() tcpip.Error { return g.stack.SetSpoofing(nic, true) },
	}
	for addr := range g.owned {
		steps = append(steps, func() tcpip.Error {
			return g.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{
				Protocol:          ipv4.ProtocolNumber,
				AddressWithPrefix: tcpip.AddressWithPrefix{Address: stream.Addr(addr), PrefixLen: g.cfg.Subnet.Bits()},
			}, stack.AddressProperties{})
		})
	}
	// Who has which address is known; nobody is asked and nobody can lie.
	for _, l := range g.cfg.Leases {
		steps = append(steps, func() tcpip.Error {
			return g.stack.AddStaticNeighbor(nic, ipv4.ProtocolNumber, stream.Addr(l.Addr), tcpip.LinkAddress(l.MAC[:]))
		})
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return errors.New(err.String())
		}
	}
	g.stack.SetRouteTable([]tcpip.Route{{Destination: header.IPv4EmptySubnet, NIC: nic}})
	// Twice the limit may knock, so that those beyond it hear a refusal.
	forward := tcp.NewForwarder(g.stack, 0, 2*g.cfg.MaxTCP, g.handleTCP)
	g.stack.SetTransportProtocolHandler(tcp.ProtocolNumber, forward.HandlePacket)
	g.stack.SetTransportProtocolHandler(udp.ProtocolNumber, g.handleUDP)
	var err error
	g.dns, err = newDNSServer(g)
	return err
}

// intercept takes what the netstack must not see: DHCP, which it cannot serve,
// and questions for addresses that are not the gateway's, which it would answer
// because its NIC takes packets to every address.
func (g *Gateway) intercept(b []byte) bool {
	if len(b) >= frame.HeaderSize+header.ARPSize && header.Ethernet(b).Type() == header.ARPProtocolNumber {
		target := header.ARP(b[frame.HeaderSize:]).ProtocolAddressTarget()
		return !g.owned[netip.AddrFrom4([4]byte(target))]
	}
	if g.cfg.Outlet != (frame.MAC{}) && g.astray(b) {
		return true
	}
	answer, handled := g.dhcp.reply(b)
	if answer != nil {
		g.link.Send(answer)
	}
	return handled
}

// astray reports whether a frame goes outside without having come by the outlet.
// The port has proved who sent it.
func (g *Gateway) astray(b []byte) bool {
	if len(b) < frame.HeaderSize+header.IPv4MinimumSize || header.Ethernet(b).Type() != header.IPv4ProtocolNumber || frame.Source(b) == g.cfg.Outlet {
		return false
	}
	ip := header.IPv4(b[frame.HeaderSize:])
	to := netip.AddrFrom4(ip.DestinationAddress().As4())
	if !ip.IsValid(len(ip)) || g.isInside(to) || to.IsMulticast() || to == broadcastAddr || slices.Contains(g.cfg.Platform, to) || g.isService(to) {
		return false
	}
	flow := Flow{Remote: netip.AddrPortFrom(to, 0)}
	switch transport := ip.Payload(); {
	case ip.FragmentOffset() != 0 || len(transport) < header.UDPMinimumSize:
		return true
	case ip.TransportProtocol() == header.TCPProtocolNumber:
		flow.Protocol, flow.Remote = "tcp", netip.AddrPortFrom(to, header.UDP(transport).DestinationPort())
	case ip.TransportProtocol() == header.UDPProtocolNumber:
		flow.Protocol, flow.Remote = "udp", netip.AddrPortFrom(to, header.UDP(transport).DestinationPort())
	default:
		return true
	}
	flow.Name = g.names.lookup(to)
	g.flows.refuse(flow, "the proxy vm is the only way out of this subnet")
	return true
}

var broadcastAddr = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// isInside reports whether addr is one of the network's.
func (g *Gateway) isInside(addr netip.Addr) bool {
	return g.cfg.Subnet.Contains(addr) || contains(g.cfg.Inside, addr)
}

func (g *Gateway) isService(addr netip.Addr) bool {
	for at := range g.cfg.Services {
		if at.Addr() == addr {
			return true
		}
	}
	return false
}

// Reset ends every connection that crosses the gateway now. New ones can be
// opened at once.
func (g *Gateway) Reset() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reset()
	if !g.closed {
		g.epoch, g.reset = context.WithCancel(context.Background())
	}
}

// Close ends everything and waits for every goroutine. It can be called again.
func (g *Gateway) Close() error { return g.close() }

func (g *Gateway) shutdown() error {
	g.mu.Lock()
	g.closed = true
	g.reset()
	g.mu.Unlock()
	var err error
	if g.dns != nil {
		err = g.dns.close()
	}
	_ = g.link.Port().Close()
	if g.stack != nil {
		g.stack.Close()
	}
	g.work.Wait()
	if g.stack != nil {
		g.stack.Wait()
	}
	return err
}

// enter counts a goroutine in; the context ends with Reset or Close. ok is
// false when the gateway is closed; otherwise done must be called.
func (g *Gateway) enter() (ctx context.Context, done func(), ok bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return nil, nil, false
	}
	g.work.Add(1)
	return g.epoch, g.work.Done, true
}

func addrPort(a tcpip.Address, port uint16) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(a.AsSlice())
	return netip.AddrPortFrom(ip, port)
}
