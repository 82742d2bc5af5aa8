package network

import (
	"net/netip"
	"slices"

	"goldsmith/internal/network/bridge"
	"goldsmith/internal/network/gateway"
)

// Bridge joins a network with a bridge of the host: the build VM and the hosts on
// the bridge that have other addresses of its subnet reach each other, as far as the
// rules of the build VM's card let them. The host's own addresses there are reached
// only if the egress policy allows them.
type Bridge struct {
	Name  string // of the host's bridge
	Owner string // whose hardware address the build VM has there; different for each network
	// OnTrouble hears what keeps the build VM from being reached there.
	OnTrouble func(error)
}

// HardwareAddress is that by which the bridge knows the build VM.
func (b *Bridge) HardwareAddress() string { return bridge.HardwareAddress(b.Owner).String() }

// CheckBridge says why this process cannot put a network on a bridge of the host,
// and what mends it; nil when it can.
func CheckBridge(name string) error { return bridge.Check(name) }

// joinBridge puts the build VM on the host's bridge.
func (n *Private) joinBridge() (err error) {
	own := []netip.Addr{n.cfg.Router, n.cfg.Guest, n.cfg.Builder}
	if p := n.cfg.Proxy; p != nil {
		own = append(own, p.Addr, p.Frontend, p.NAT)
	}
	for at := range n.cfg.Services {
		own = append(own, at.Addr())
	}
	egress := n.cfg.Egress
	n.bridge, err = bridge.New(n.sw, bridge.Config{
		Bridge: n.cfg.Bridge.Name, Owner: n.cfg.Bridge.Owner, MAC: n.mac, Addr: n.cfg.Guest, Subnet: n.cfg.Subnet,
		Own: own, MTU: n.cfg.MTU, OnTrouble: n.cfg.Bridge.OnTrouble,
		Refuse: func(a netip.Addr) bool { return within(egress.Deny, a) || isHost(a) && !within(egress.Allow, a) },
	})
	return err
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// isHost reports whether a is an address of the host; when that cannot be read, it
// may be.
func isHost(a netip.Addr) bool {
	own, err := gateway.HostNetworks()
	return err != nil || slices.ContainsFunc(own, func(p netip.Prefix) bool { return p.Addr() == a })
}
