package gateway

import (
	"math"
	"net"
	"net/netip"
	"slices"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"goldsmith/internal/network/frame"
)

// Lease is the address that one machine always gets.
type Lease struct {
	MAC  frame.MAC
	Addr netip.Addr
	// Router is the machine's way out of the subnet; the zero value is the gateway.
	Router netip.Addr
	// Inside are the prefixes that are reached by the gateway when Router is
	// another.
	Inside []netip.Prefix
}

// leaseSeconds is "for ever" (RFC 2131 section 3.3): a guest may be saved, and
// restored on another day, without losing its address.
const leaseSeconds = math.MaxUint32

// dhcpServer answers DHCP with fixed leases. It is stateless.
type dhcpServer struct {
	mac    frame.MAC
	addr   netip.Addr // server, router and DNS
	subnet netip.Prefix
	mtu    int
	leases []Lease
}

// reply returns the frame that answers the DHCP request in b, nil for none.
// handled is false when b is not a DHCP request at all.
func (s *dhcpServer) reply(b []byte) (answer []byte, handled bool) {
	d, ok := frame.ParseDatagram(b)
	if !ok || d.Target.Port() != dhcpv4.ServerPort {
		return nil, false
	}
	if dst := d.Target.Addr(); dst != s.addr && dst != netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return nil, false
	}
	req, err := dhcpv4.FromBytes(d.Payload)
	if err != nil || req.OpCode != dhcpv4.OpcodeBootRequest {
		return nil, true
	}
	// The port has proved the frame's source, so the request must be its own.
	if len(req.ClientHWAddr) != len(d.From) || frame.MAC(req.ClientHWAddr) != d.From {
		return nil, true
	}
	i := slices.IndexFunc(s.leases, func(l Lease) bool { return l.MAC == d.From })
	if i < 0 {
		return nil, true
	}
	resp := s.decide(req, s.leases[i])
	if resp == nil {
		return nil, true
	}
	out := frame.Datagram{
		From: s.mac, To: d.From,
		Source:  netip.AddrPortFrom(s.addr, dhcpv4.ServerPort),
		Target:  netip.AddrPortFrom(s.leases[i].Addr, dhcpv4.ClientPort),
		Payload: resp.ToBytes(),
	}
	// RFC 2131 section 4.1: who cannot take unicast yet says so, and a refusal
	// always goes to everybody.
	if req.IsBroadcast() || resp.MessageType() == dhcpv4.MessageTypeNak {
		out.To = frame.Broadcast
		out.Target = netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), dhcpv4.ClientPort)
	}
	return out.Frame(), true
}

// decide is the server's side of RFC 2131 section 4.3 for a machine with one
// lease.
func (s *dhcpServer) decide(req *dhcpv4.DHCPv4, l Lease) *dhcpv4.DHCPv4 {
	lease, router := l.Addr, l.Router
	if !router.IsValid() {
		router = s.addr
	}
	mods := []dhcpv4.Modifier{
		dhcpv4.WithServerIP(s.addr.AsSlice()),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(s.addr.AsSlice())),
	}
	kind := dhcpv4.MessageTypeAck
	switch req.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
		if id := req.ServerIdentifier(); len(id) > 0 && !id.Equal(s.addr.AsSlice()) {
			return nil // it chose another server
		}
		wanted := req.RequestedIPAddress()
		if len(wanted) == 0 || wanted.IsUnspecified() {
			wanted = req.ClientIPAddr
		}
		if !wanted.Equal(lease.AsSlice()) {
			kind = dhcpv4.MessageTypeNak
		}
	case dhcpv4.MessageTypeInform:
	default:
		return nil
	}
	mods = append(mods, dhcpv4.WithMessageType(kind))
	if kind != dhcpv4.MessageTypeNak {
		mods = append(mods,
			dhcpv4.WithNetmask(net.CIDRMask(s.subnet.Bits(), 32)),
			dhcpv4.WithRouter(router.AsSlice()),
			dhcpv4.WithDNS(s.addr.AsSlice()),
			dhcpv4.WithOption(dhcpv4.Option{Code: dhcpv4.OptionInterfaceMTU, Value: dhcpv4.Uint16(s.mtu)}),
		)
		if routes := s.routes(l); len(routes) > 0 {
			mods = append(mods, dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(routes...)))
		}
		if req.MessageType() != dhcpv4.MessageTypeInform {
			mods = append(mods, dhcpv4.WithYourIP(lease.AsSlice()), dhcpv4.WithLeaseTime(leaseSeconds))
		}
	}
	resp, err := dhcpv4.NewReplyFromRequest(req, mods...)
	if err != nil {
		return nil
	}
	return resp
}

// routes are the routes of a machine with a router of its own. A client that
// takes them ignores the router option (RFC 3442), so the default route is among
// them.
func (s *dhcpServer) routes(l Lease) []*dhcpv4.Route {
	if !l.Router.IsValid() {
		return nil
	}
	routes := []*dhcpv4.Route{{Dest: &net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, Router: l.Router.AsSlice()}}
	for _, p := range l.Inside {
		if p.Addr().Is4() && !(p.Bits() >= s.subnet.Bits() && s.subnet.Contains(p.Addr())) {
			routes = append(routes, &dhcpv4.Route{Dest: &net.IPNet{IP: p.Masked().Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}, Router: s.addr.AsSlice()})
		}
	}
	return routes
}
