package network

import (
	"net/netip"
	"slices"
	"sync"
	"time"

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
	egress, host := n.cfg.Egress, &hostAddresses{}
	n.bridge, err = bridge.New(n.sw, bridge.Config{
		Bridge: n.cfg.Bridge.Name, Owner: n.cfg.Bridge.Owner, MAC: n.mac, Addr: n.cfg.Guest, Subnet: n.cfg.Subnet,
		Own: own, MTU: n.cfg.MTU, OnTrouble: n.cfg.Bridge.OnTrouble,
		Refuse: func(a netip.Addr) bool { return within(egress.Deny, a) || host.has(a) && !within(egress.Allow, a) },
	})
	return err
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(a) })
}

// hostAddresses are the host's own, read again when they are older than a second.
type hostAddresses struct {
	mu   sync.Mutex
	read time.Time
	own  map[netip.Addr]bool // nil when they could not be read
}

// has reports whether a is an address of the host; when that cannot be known, it may
// be.
func (h *hostAddresses) has(a netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if now := time.Now(); now.Sub(h.read) > time.Second {
		h.read, h.own = now, nil
		if all, err := gateway.HostNetworks(); err == nil {
			h.own = map[netip.Addr]bool{}
			for _, p := range all {
				h.own[p.Addr()] = true
			}
		}
	}
	return h.own == nil || h.own[a]
}
