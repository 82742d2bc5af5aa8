package network

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"goldsmith/internal/arm"
	"goldsmith/internal/network/balancer"
	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/netswitch"
	"goldsmith/internal/network/station"
	"goldsmith/internal/nsg"
)

// ServiceAddress is where the builder's connections come from when it reaches a
// build VM by its public address. It is of the range for benchmarks (RFC 2544),
// so that it is nobody's on the internet.
var ServiceAddress = netip.MustParseAddr("198.18.0.1")

// Hardware addresses of a deployment behind a private link.
const (
	FrontendMAC = "52:54:00:67:6d:02"
	LinkMAC     = "52:54:00:67:6d:03"
	ProxyMAC    = "52:54:00:67:6d:06"
)

// Health is the state of the proxy VM as the load balancer's probe finds it.
type Health = balancer.State

// States of Health.
const (
	Healthy   = balancer.Healthy
	Unhealthy = balancer.Unhealthy
)

// Proxy is a deployment in which the builder reaches the build VM only by private
// endpoint, private link service, load balancer and proxy VM, and in which the
// proxy VM is the build VM's only way out.
type Proxy struct {
	Addr     netip.Addr // of the proxy VM
	Frontend netip.Addr // of the load balancer
	NAT      netip.Addr // of the private link service
	Port     uint16     // where the proxy VM listens
	// Policy is what the security groups say about the proxy VM's card; nil lets
	// everything pass. The load balancer's address counts as AzureLoadBalancer.
	Policy *nsg.Policy
	// OnHealth hears of every change of the proxy VM's health, one at a time.
	OnHealth func(Health, error)
}

// link is the private link service and the load balancer behind it. The private
// endpoint is link.dial.
type link struct {
	proxy    Proxy
	nat      *station.Station
	frontend *station.Station
	balancer *balancer.Balancer
}

func newLink(n *Private) (made *link, err error) {
	l := &link{proxy: *n.cfg.Proxy}
	defer func() {
		if err != nil {
			made, err = nil, errors.Join(err, l.close())
		}
	}()
	macs := map[netip.Addr]frame.MAC{}
	for addr, text := range map[netip.Addr]string{l.proxy.NAT: LinkMAC, l.proxy.Frontend: FrontendMAC, l.proxy.Addr: ProxyMAC} {
		mac, err := frame.ParseMAC(text)
		if err != nil {
			return nil, err
		}
		macs[addr] = mac
	}
	if len(macs) != 3 {
		return nil, fmt.Errorf("the addresses %v, %v and %v of a private link are not three", l.proxy.NAT, l.proxy.Frontend, l.proxy.Addr)
	}
	host := func(name string, addr netip.Addr) (*station.Station, error) {
		return station.New(n.sw, station.Config{Name: name, MAC: macs[addr], Addr: addr, Subnet: n.cfg.Subnet, MTU: n.cfg.MTU, Neighbors: macs})
	}
	if l.nat, err = host("link", l.proxy.NAT); err != nil {
		return nil, err
	}
	if l.frontend, err = host("balancer", l.proxy.Frontend); err != nil {
		return nil, err
	}
	l.balancer, err = balancer.New(balancer.Config{
		Frontend: l.frontend, Port: l.proxy.Port, Backend: l.proxy.Addr, Admit: []netip.Addr{l.proxy.NAT},
		Probe: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			return n.gw.DialFrom(ctx, nsg.ProbeAddress, to)
		},
		OnChange: l.proxy.OnHealth,
	})
	return l, err
}

// dial is the private endpoint: a connection from the service by the private
// link to the load balancer, when that has somebody to pass it to.
func (l *link) dial(ctx context.Context) (net.Conn, error) {
	if err := l.balancer.Await(ctx); err != nil {
		return nil, fmt.Errorf("wait for the proxy vm to be healthy: %w", err)
	}
	conn, err := l.nat.Dial(ctx, netip.AddrPortFrom(l.proxy.Frontend, l.proxy.Port))
	if err != nil {
		return nil, err
	}
	return conn, nil
}

func (l *link) reset() {
	l.nat.Reset()
	l.frontend.Reset()
}

func (l *link) close() error {
	var errs []error
	if l.balancer != nil {
		errs = append(errs, l.balancer.Close())
	}
	for _, s := range []*station.Station{l.nat, l.frontend} {
		if s != nil {
			errs = append(errs, s.Close())
		}
	}
	return errors.Join(errs...)
}

// AttachProxy makes the port of the proxy VM and returns the machine's end of its
// wire, under the rules of AttachBuildVM. The error is arm.CodeInternal for a
// network without a proxy.
func (n *Private) AttachProxy(ctx context.Context) (*os.File, error) {
	if n.link == nil {
		return nil, arm.Errorf(arm.CodeInternal, "network of %s has no place for a proxy vm", n.cfg.Name)
	}
	mac, err := frame.ParseMAC(ProxyMAC)
	if err != nil {
		return nil, n.fault(err)
	}
	return n.attach(ctx, &n.proxy, n.link.proxy.Policy, netswitch.PortConfig{
		Name: "proxy", MAC: mac, Addrs: []netip.Addr{n.link.proxy.Addr}, Forwards: []netip.Addr{n.cfg.Guest}, MTU: n.cfg.MTU,
	})
}

// AwaitProxy waits until the load balancer finds the proxy VM healthy, which has
// said that it listens.
func (n *Private) AwaitProxy(ctx context.Context) error {
	if n.link == nil {
		return nil
	}
	n.link.balancer.Probe()
	return n.link.balancer.Await(ctx)
}

// ProxyHealth is the proxy VM's health now; "" without one.
func (n *Private) ProxyHealth() Health {
	if n.link == nil {
		return ""
	}
	return n.link.balancer.State()
}
