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
	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/gateway"
	"goldsmith/internal/network/netswitch"
)

type (
	// Flow is one outside connection that the guest made or tried.
	Flow = gateway.Flow
	// Egress says which outside addresses the guest may reach.
	Egress = gateway.Egress
	// Service opens a connection to something of the host that is published inside.
	Service = gateway.Service
)

// GatewayMAC is the gateway's hardware address on every private network, so
// that what a restored guest remembers of it stays true.
const GatewayMAC = "52:54:00:67:6d:01"

// sshPort is the only port of a build VM that the builder uses by default.
const sshPort = 22

// unplugGrace is how long a machine that is being closed may take to let go of
// its wire before a new one is refused.
const unplugGrace = 2 * time.Second

// Config is what can differ between private networks. The zero value is a
// network with the default egress policy and nothing published.
type Config struct {
	Name   string // whose network it is, for errors
	Egress Egress
	// Services are host services published inside: at an address of BuildSubnet,
	// usually BuildGateway, or any other the guest would reach by its gateway.
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

// Private is the private network of one build.
type Private struct {
	name  string
	ports []uint16
	mtu   int
	mac   frame.MAC

	sw *netswitch.Switch
	gw *gateway.Gateway

	attaching chan struct{} // a lock that can be waited for with a context
	watchers  sync.WaitGroup

	close  func() error // shutdown, once
	mu     sync.Mutex
	closed bool
	port   *netswitch.Port // the newest, possibly ended
	freed  chan struct{}   // closed when port and all connections over it are gone
}

var _ Network = (*Private)(nil)

// NewPrivate makes a private network; the dynamic type is *Private. The error
// is arm.CodeInternal.
func NewPrivate(cfg Config) (Network, error) {
	n := &Private{name: cfg.Name, ports: cfg.GuestPorts, mtu: cfg.MTU, sw: netswitch.New(), attaching: make(chan struct{}, 1)}
	n.close = sync.OnceValue(n.shutdown)
	if n.name == "" {
		n.name = "private"
	}
	if n.ports == nil {
		n.ports = []uint16{sshPort}
	}
	gatewayMAC, err := frame.ParseMAC(GatewayMAC)
	if err != nil {
		return nil, n.fault(err)
	}
	if n.mac, err = frame.ParseMAC(BuildMAC); err != nil {
		return nil, n.fault(err)
	}
	gc := gateway.Config{
		Name: "gateway", MAC: gatewayMAC, Addr: BuildGateway, Subnet: BuildSubnet, MTU: cfg.MTU,
		Leases: []gateway.Lease{{MAC: n.mac, Addr: BuildAddress}},
		Egress: cfg.Egress, Services: cfg.Services, Records: cfg.Records, OnFlow: cfg.OnFlow, Dial: cfg.Dial,
	}
	if cfg.Resolvers != nil {
		gc.Resolvers = func() ([]netip.AddrPort, error) { return cfg.Resolvers, nil }
	}
	if n.gw, err = gateway.New(n.sw, gc); err != nil {
		return nil, n.fault(errors.Join(err, n.sw.Close()))
	}
	return n, nil
}

func (n *Private) fault(err error) error {
	return arm.Errorf(arm.CodeInternal, "network of %s: %w", n.name, err)
}

// AttachBuildVM makes the port of the build VM and returns the machine's end of
// its wire, a close-on-exec stream socket; the caller owns it. While the machine
// before still holds its end the error is arm.CodeConflict.
func (n *Private) AttachBuildVM(ctx context.Context) (*os.File, error) {
	select {
	case n.attaching <- struct{}{}:
		defer func() { <-n.attaching }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if err := n.awaitFree(ctx); err != nil {
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
	port, err := n.sw.Attach(ours, netswitch.PortConfig{
		Name: "build", MAC: n.mac, Addrs: []netip.Addr{BuildAddress}, MTU: n.mtu,
	})
	if err != nil {
		return nil, n.fault(errors.Join(err, machine.Close()))
	}
	freed := make(chan struct{})
	n.port, n.freed = port, freed
	n.watchers.Go(func() {
		<-port.Done()
		n.gw.Reset() // nobody is left at the other end of these connections
		close(freed)
	})
	return machine, nil
}

// awaitFree waits until the build VM's port has no machine, for a short time.
func (n *Private) awaitFree(ctx context.Context) error {
	n.mu.Lock()
	freed := n.freed
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
		return arm.Errorf(arm.CodeConflict, "network of %s: a machine is still plugged in; unplug its network card or close it first", n.name)
	}
}

// DialGuest opens a TCP connection to a port of the build VM. The error is
// arm.CodeNotAllowed for a port that is not open to the builder,
// arm.CodeGuestNotReady when nothing answers there, or ctx's cause. The
// connection fails when the machine's wire does.
func (n *Private) DialGuest(ctx context.Context, port uint16) (net.Conn, error) {
	if !slices.Contains(n.ports, port) {
		return nil, arm.Errorf(arm.CodeNotAllowed, "network of %s: port %d of the build vm is not open to the builder, only %v", n.name, port, n.ports)
	}
	if !n.plugged() {
		return nil, arm.Errorf(arm.CodeGuestNotReady, "network of %s: no machine is plugged in", n.name)
	}
	conn, err := n.gw.Dial(ctx, netip.AddrPortFrom(BuildAddress, port))
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
	if n.freed == nil {
		return false
	}
	select {
	case <-n.freed:
		return false
	default:
		return true
	}
}

// SetTap shows every frame that passes a port of the network ("build",
// "gateway") to tap; nil ends that.
func (n *Private) SetTap(tap netswitch.Tap) { n.sw.SetTap(tap) }

// Stats is what passed the build VM's newest port; zero before the first.
func (n *Private) Stats() netswitch.Stats {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.port == nil {
		return netswitch.Stats{}
	}
	return n.port.Stats()
}

// Close implements Network. It can be called again.
func (n *Private) Close() error { return n.close() }

func (n *Private) shutdown() error {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	err := errors.Join(n.sw.Close(), n.gw.Close())
	n.watchers.Wait()
	if err != nil {
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
