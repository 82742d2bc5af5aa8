package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"goldsmith/internal/arm"
	"goldsmith/internal/network/bridge"
	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/gateway"
	"goldsmith/internal/network/netswitch"
	"goldsmith/internal/network/rules"
	"goldsmith/internal/nsg"
)

type (
	// Flow is one outside connection that the guest made or tried.
	Flow = gateway.Flow
	// Egress says which outside addresses the guest may reach.
	Egress = gateway.Egress
	// Service opens a connection to something of the host that is published inside.
	Service = gateway.Service
	// Denial is traffic that the security rules of a machine's card refused.
	Denial = rules.Denial
)

// GatewayMAC is the gateway's hardware address on every network, so that what a
// restored guest remembers of it stays true.
const GatewayMAC = "52:54:00:67:6d:01"

// sshPort is the only port of a build VM that the builder uses by default.
const sshPort = 22

// unplugGrace is how long a machine that is being closed may take to let go of
// its wire before a new one is refused.
const unplugGrace = 2 * time.Second

// Config is what can differ between networks. The zero value is a private network
// with the default egress policy, no security rules and nothing published.
type Config struct {
	Name   string // whose network it is, for errors
	Egress Egress

	// Subnet, Router and Guest are the build VM's subnet, its router, and the
	// build VM's address; zero values are those of every private network.
	Subnet        netip.Prefix
	Router, Guest netip.Addr
	// Builder is the address that the builder's connections come from; the zero
	// value is Router.
	Builder netip.Addr
	// Inside are prefixes beside Subnet that belong to the network or to its
	// peers. Services can be there; nothing of them is looked for outside.
	Inside []netip.Prefix
	// Policy is what the security groups say about the build VM's card; nil lets
	// everything pass.
	Policy *nsg.Policy
	// Proxy is the deployment behind a private link; nil gives the builder a
	// direct way to the build VM.
	Proxy *Proxy
	// Bridge joins Subnet with a bridge of the host; nil keeps it apart.
	Bridge *Bridge
	// OnDenied hears of each different packet that the rules refused, once, from
	// the path of frames: it must not wait. card is "build" or "proxy".
	OnDenied func(card string, d Denial)

	// Services are host services published inside: at an address of Subnet,
	// usually Router, or any other the guest would reach by its router.
	Services map[netip.AddrPort]Service
	// Records are names that resolve inside only.
	Records map[string]netip.Addr
	// GuestPorts are the ports DialGuest may reach; nil is 22 alone.
	GuestPorts []uint16
	MTU        int // bytes; 0 is 1500
	// OnFlow hears of every outside connection, from several goroutines at once,
	// and must return soon. Of equal refusals it hears the first.
	OnFlow func(Flow)
	// Resolvers are the DNS servers to ask; nil follows the host's /etc/resolv.conf.
	Resolvers []netip.AddrPort
	// Dial opens what the policy allows; nil dials from the host.
	Dial gateway.DialFunc
}

// Private is the network of one build.
type Private struct {
	cfg  Config
	mac  frame.MAC
	sw   *netswitch.Switch
	gw   *gateway.Gateway
	link *link // nil without a proxy
	// bridge is the build VM's port of the host's bridge; nil without one.
	bridge *bridge.Port

	attaching chan struct{} // a lock that can be waited for with a context
	watchers  sync.WaitGroup

	close  func() error // shutdown, once
	mu     sync.Mutex
	closed bool
	build  slot
	proxy  slot
	// filters are those of every machine that was plugged in, the newest last.
	filters []cardFilter
}

// cardFilter is the filter of one machine's card.
type cardFilter struct {
	card   string
	filter *rules.Filter
}

// slot is the place of one machine.
type slot struct {
	port  *netswitch.Port // the newest, possibly ended
	freed chan struct{}   // closed when port and all connections over it are gone
}

var _ Network = (*Private)(nil)

// NewPrivate makes a network; the dynamic type is *Private. The error is
// arm.CodeInternal.
func NewPrivate(cfg Config) (Network, error) {
	if cfg.Name == "" {
		cfg.Name = "private"
	}
	if cfg.GuestPorts == nil {
		cfg.GuestPorts = []uint16{sshPort}
	}
	if !cfg.Subnet.IsValid() {
		cfg.Subnet, cfg.Router, cfg.Guest = BuildSubnet, BuildGateway, BuildAddress
	}
	if !cfg.Builder.IsValid() {
		cfg.Builder = cfg.Router
	}
	n := &Private{cfg: cfg, sw: netswitch.New(), attaching: make(chan struct{}, 1)}
	n.close = sync.OnceValue(n.shutdown)
	if err := n.start(); err != nil {
		return nil, n.fault(errors.Join(err, n.Close()))
	}
	return n, nil
}

func (n *Private) start() error {
	cfg := n.cfg
	gatewayMAC, err := frame.ParseMAC(GatewayMAC)
	if err != nil {
		return err
	}
	if n.mac, err = frame.ParseMAC(BuildMAC); err != nil {
		return err
	}
	lease := gateway.Lease{MAC: n.mac, Addr: cfg.Guest}
	gc := gateway.Config{
		Name: "gateway", MAC: gatewayMAC, Addr: cfg.Router, Subnet: cfg.Subnet, Inside: cfg.Inside, MTU: cfg.MTU,
		Egress: cfg.Egress, Services: cfg.Services, Records: cfg.Records, OnFlow: cfg.OnFlow, Dial: cfg.Dial,
		Platform: []netip.Addr{ServiceAddress, nsg.ProbeAddress},
	}
	if cfg.Resolvers != nil {
		gc.Resolvers = func() ([]netip.AddrPort, error) { return cfg.Resolvers, nil }
	}
	if p := cfg.Proxy; p != nil {
		proxyMAC, err := frame.ParseMAC(ProxyMAC)
		if err != nil {
			return err
		}
		lease.Router, lease.Inside = p.Addr, slices.Concat(cfg.Inside, n.platformRoutes())
		gc.Outlet = proxyMAC
		gc.Leases = append(gc.Leases, gateway.Lease{MAC: proxyMAC, Addr: p.Addr})
	}
	gc.Leases = append(gc.Leases, lease)
	if n.gw, err = gateway.New(n.sw, gc); err != nil {
		return err
	}
	if cfg.Proxy != nil {
		if n.link, err = newLink(n); err != nil {
			return err
		}
	}
	if cfg.Bridge != nil {
		return n.joinBridge()
	}
	return nil
}

// platformRoutes are the addresses of services that are not behind the proxy VM
// though they are outside the network: the metadata endpoint's.
func (n *Private) platformRoutes() (routes []netip.Prefix) {
	for at := range n.cfg.Services {
		if at.Addr().IsLinkLocalUnicast() {
			routes = append(routes, netip.PrefixFrom(at.Addr(), at.Addr().BitLen()))
		}
	}
	return routes
}

func (n *Private) fault(err error) error {
	return arm.Errorf(arm.CodeInternal, "network of %s: %w", n.cfg.Name, err)
}

// AttachBuildVM makes the port of the build VM and returns the machine's end of
// its wire, a close-on-exec stream socket; the caller owns it. While the machine
// before still holds its end the error is arm.CodeConflict.
func (n *Private) AttachBuildVM(ctx context.Context) (*os.File, error) {
	return n.attach(ctx, &n.build, n.cfg.Policy, netswitch.PortConfig{
		Name: "build", MAC: n.mac, Addrs: []netip.Addr{n.cfg.Guest}, MTU: n.cfg.MTU,
	})
}

// attach makes the port of one machine.
func (n *Private) attach(ctx context.Context, s *slot, policy *nsg.Policy, pc netswitch.PortConfig) (*os.File, error) {
	select {
	case n.attaching <- struct{}{}:
		defer func() { <-n.attaching }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err := n.awaitFree(ctx, s); err != nil {
		return nil, err
	}
	ours, machine, err := wirePair()
	if err != nil {
		return nil, n.fault(err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, n.fault(errors.Join(netswitch.ErrClosed, ours.Close(), machine.Close()))
	}
	if policy != nil {
		report := func(d Denial) {
			if n.cfg.OnDenied != nil {
				n.cfg.OnDenied(pc.Name, d)
			}
		}
		f := rules.New(pc.Addrs[0], n.cfg.Router, policy, report)
		n.filters = append(n.filters, cardFilter{pc.Name, f})
		pc.Filter = f.Pass
	}
	port, err := n.sw.Attach(ours, pc)
	if err != nil {
		return nil, n.fault(errors.Join(err, machine.Close()))
	}
	freed := make(chan struct{})
	s.port, s.freed = port, freed
	n.watchers.Go(func() {
		<-port.Done()
		n.reset() // nobody is left at the other end of these connections
		close(freed)
	})
	return machine, nil
}

// reset ends every connection of the network.
func (n *Private) reset() {
	n.gw.Reset()
	if n.link != nil {
		n.link.reset()
	}
}

// awaitFree waits until a slot has no machine, for a short time.
func (n *Private) awaitFree(ctx context.Context, s *slot) error {
	n.mu.Lock()
	freed := s.freed
	n.mu.Unlock()
	if freed == nil {
		return nil
	}
	grace := time.NewTimer(unplugGrace)
	defer grace.Stop()
	select {
	case <-freed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-grace.C:
		return arm.Errorf(arm.CodeConflict, "network of %s: a machine is still plugged in; unplug its network card or close it first", n.cfg.Name)
	}
}

// DialGuest opens a TCP connection to a port of the build VM, over the private
// link where there is one, once the load balancer finds the proxy healthy. The
// error is arm.CodeNotAllowed for a port that is not open to the builder,
// arm.CodeGuestNotReady when nothing answers there, or ctx's cause. The
// connection fails when the machine's wire does.
func (n *Private) DialGuest(ctx context.Context, port uint16) (net.Conn, error) {
	if !slices.Contains(n.cfg.GuestPorts, port) {
		return nil, arm.Errorf(arm.CodeNotAllowed, "network of %s: port %d of the build vm is not open to the builder, only %v", n.cfg.Name, port, n.cfg.GuestPorts)
	}
	if !n.plugged() {
		return nil, arm.Errorf(arm.CodeGuestNotReady, "network of %s: no machine is plugged in", n.cfg.Name)
	}
	var conn net.Conn
	var err error
	if n.link != nil {
		conn, err = n.link.dial(ctx)
	} else {
		conn, err = n.gw.DialFrom(ctx, n.cfg.Builder, netip.AddrPortFrom(n.cfg.Guest, port))
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("dial port %d of the build vm: %w", port, err)
		}
		return nil, arm.Errorf(arm.CodeGuestNotReady, "dial port %d of the build vm: %w", port, err)
	}
	return conn, nil
}

func (n *Private) plugged() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.build.freed == nil {
		return false
	}
	select {
	case <-n.build.freed:
		return false
	default:
		return true
	}
}

// SetTap shows every frame that passes a port of the network ("build", "gateway",
// with a proxy "proxy", "balancer", "link", and "bridge") to tap; nil ends that.
func (n *Private) SetTap(tap netswitch.Tap) { n.sw.SetTap(tap) }

// Stats is what passed the build VM's newest port; zero before the first.
func (n *Private) Stats() netswitch.Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.build.port == nil {
		return netswitch.Stats{}
	}
	return n.build.port.Stats()
}

// Close implements Network. It can be called again.
func (n *Private) Close() error { return n.close() }

func (n *Private) shutdown() error {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	var errs []error
	if n.link != nil {
		errs = append(errs, n.link.close())
	}
	if n.bridge != nil {
		errs = append(errs, n.bridge.Close())
	}
	errs = append(errs, n.sw.Close())
	if n.gw != nil {
		errs = append(errs, n.gw.Close())
	}
	n.watchers.Wait()
	if err := errors.Join(errs...); err != nil {
		return n.fault(err)
	}
	return nil
}

// wirePair makes the two ends of a wire: ours, and the machine's.
func wirePair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make a wire: %w", err)
	}
	ours, machine := os.NewFile(uintptr(fds[0]), "switch"), os.NewFile(uintptr(fds[1]), "machine")
	conn, err := net.FileConn(ours) // its own descriptor of the same end
	_ = ours.Close()
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("make a wire: %w", err), machine.Close())
	}
	return conn, machine, nil
}
