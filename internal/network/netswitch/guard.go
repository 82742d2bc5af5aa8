package netswitch

import (
	"fmt"
	"net/netip"
	"slices"

	"goldsmith/internal/network/frame"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// DHCP ports, RFC 2131 section 4.1.
const (
	dhcpServerPort = 67
	dhcpClientPort = 68
)

// guard judges what comes out of a port before anything else looks at it.
type guard struct {
	mac      frame.MAC
	addrs    []netip.Addr
	forwards []netip.Addr
	trusted  bool
	maxFrame int // bytes
}

func newGuard(cfg PortConfig) (guard, error) {
	for _, a := range slices.Concat(cfg.Addrs, cfg.Forwards) {
		if !a.Is4() || a.IsUnspecified() || a.IsMulticast() {
			return guard{}, fmt.Errorf("%v is not a unicast ipv4 address", a)
		}
	}
	return guard{
		mac:      cfg.MAC,
		addrs:    slices.Clone(cfg.Addrs),
		forwards: slices.Clone(cfg.Forwards),
		trusted:  cfg.Trusted,
		maxFrame: cfg.MTU + frame.HeaderSize,
	}, nil
}

// check says why a frame is refused, or none.
func (g *guard) check(b []byte) Reason {
	switch {
	case len(b) < frame.HeaderSize:
		return Runt
	case len(b) > g.maxFrame:
		return Oversize
	case g.trusted:
		return none
	case frame.Source(b) != g.mac:
		return SpoofedMAC
	}
	switch header.Ethernet(b).Type() {
	case header.IPv4ProtocolNumber:
		return g.checkIPv4(b[frame.HeaderSize:])
	case header.ARPProtocolNumber:
		return g.checkARP(b[frame.HeaderSize:])
	}
	return UnsupportedProtocol
}

func (g *guard) checkARP(b []byte) Reason {
	arp := header.ARP(b)
	if !arp.IsValid() || (arp.Op() != header.ARPRequest && arp.Op() != header.ARPReply) {
		return Malformed
	}
	if frame.MAC(arp.HardwareAddressSender()) != g.mac {
		return SpoofedARP
	}
	sender := netip.AddrFrom4([4]byte(arp.ProtocolAddressSender()))
	// An unspecified sender is a probe for a duplicate address, RFC 5227.
	if (sender.IsUnspecified() && arp.Op() == header.ARPRequest) || slices.Contains(g.addrs, sender) {
		return none
	}
	return SpoofedARP
}

func (g *guard) checkIPv4(b []byte) Reason {
	ip := header.IPv4(b)
	if !ip.IsValid(len(b)) {
		return Malformed
	}
	udp := ip.TransportProtocol() == header.UDPProtocolNumber
	var srcPort, dstPort uint16
	switch {
	case ip.FragmentOffset() == 0:
		transport := header.UDP(ip.Payload())
		if udp && len(transport) < header.UDPMinimumSize {
			return Malformed
		}
		if udp {
			srcPort, dstPort = transport.SourcePort(), transport.DestinationPort()
		}
	case ip.FragmentOffset() < header.TCPMinimumSize:
		// It could overwrite the ports that were just judged, RFC 3128.
		return Malformed
	}
	if udp && (srcPort == dhcpServerPort || dstPort == dhcpClientPort) {
		return DHCPServer
	}
	source := netip.AddrFrom4([4]byte(b[12:16]))
	if slices.Contains(g.addrs, source) || slices.Contains(g.forwards, source) {
		return none
	}
	// A host without an address asks for one.
	if source.IsUnspecified() && [4]byte(b[16:20]) == [4]byte{255, 255, 255, 255} && srcPort == dhcpClientPort && dstPort == dhcpServerPort {
		return none
	}
	return SpoofedIP
}
