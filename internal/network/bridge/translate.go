package bridge

import (
	"net/netip"

	"goldsmith/internal/network/frame"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// DHCP ports, RFC 2131 section 4.1.
const (
	dhcpServerPort = 67
	dhcpClientPort = 68
)

// translator decides which frames pass between a machine and a bridge, and gives
// the machine another hardware address there: all machines have the same one on
// their own switches.
type translator struct {
	inside, outside frame.MAC
	addr            netip.Addr // of the machine
	subnet          netip.Prefix
	broadcast       netip.Addr // of subnet
	// foreign reports whether an address of subnet is somebody's on the bridge with
	// whom the machine may speak.
	foreign func(netip.Addr) bool
}

// everybody is the address of all hosts of a segment.
var everybody = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// partner reports whether addr is that of a host on the bridge.
func (t *translator) partner(addr netip.Addr) bool {
	return t.subnet.Contains(addr) && addr != t.addr && addr != t.broadcast && addr != t.subnet.Addr() && t.foreign(addr)
}

// out rewrites a frame of the switch for the bridge; false keeps it back. The
// machine's port has proved that its addresses are its own.
func (t *translator) out(b []byte) bool {
	if len(b) < frame.HeaderSize || frame.Source(b) != t.inside {
		return false
	}
	switch header.Ethernet(b).Type() {
	case header.IPv4ProtocolNumber:
		ip := header.IPv4(b[frame.HeaderSize:])
		if !ip.IsValid(len(ip)) || dhcp(ip) || address(ip.SourceAddressSlice()) != t.addr {
			return false
		}
		if to := address(ip.DestinationAddressSlice()); to == everybody || to == t.broadcast {
			if !frame.Destination(b).IsGroup() {
				return false
			}
		} else if !t.partner(to) {
			return false
		}
	case header.ARPProtocolNumber:
		arp := header.ARP(b[frame.HeaderSize:])
		if !arp.IsValid() || frame.MAC(arp.HardwareAddressSender()) != t.inside {
			return false
		}
		if to := address(arp.ProtocolAddressTarget()); to != t.addr && !t.partner(to) {
			return false
		}
		copy(arp.HardwareAddressSender(), t.outside[:])
	default:
		return false
	}
	copy(b[6:12], t.outside[:])
	return true
}

// in rewrites a frame of the bridge for the switch, where it goes to the machine
// and nobody else; false keeps it back.
func (t *translator) in(b []byte) bool {
	if len(b) < frame.HeaderSize || !t.neighbour(frame.Source(b)) {
		return false
	}
	toAll := frame.Destination(b) == frame.Broadcast
	if !toAll && frame.Destination(b) != t.outside {
		return false
	}
	switch header.Ethernet(b).Type() {
	case header.IPv4ProtocolNumber:
		ip := header.IPv4(b[frame.HeaderSize:])
		if !ip.IsValid(len(ip)) || dhcp(ip) || !t.partner(address(ip.SourceAddressSlice())) {
			return false
		}
		to := address(ip.DestinationAddressSlice())
		if to != t.addr && !(toAll && (to == everybody || to == t.broadcast)) {
			return false
		}
	case header.ARPProtocolNumber:
		arp := header.ARP(b[frame.HeaderSize:])
		if !arp.IsValid() || frame.MAC(arp.HardwareAddressSender()) != frame.Source(b) {
			return false
		}
		from, to := address(arp.ProtocolAddressSender()), address(arp.ProtocolAddressTarget())
		probe := from.IsUnspecified() && arp.Op() == header.ARPRequest // RFC 5227
		if !probe && !t.partner(from) {
			return false
		}
		// Beside questions for it and answers to it the machine hears announcements.
		if to != t.addr && (probe || to != from) {
			return false
		}
		if frame.MAC(arp.HardwareAddressTarget()) == t.outside {
			copy(arp.HardwareAddressTarget(), t.inside[:])
		}
	default:
		return false
	}
	copy(b[:6], t.inside[:])
	return true
}

// claims reports whether a host on the bridge says that it has the machine's
// address.
func (t *translator) claims(b []byte) bool {
	if len(b) < frame.HeaderSize || header.Ethernet(b).Type() != header.ARPProtocolNumber || frame.Source(b) == t.outside {
		return false
	}
	arp := header.ARP(b[frame.HeaderSize:])
	return arp.IsValid() && address(arp.ProtocolAddressSender()) == t.addr
}

// neighbour reports whether a hardware address can be that of a host on the
// bridge: it is no group's, and none of those that networks of this program use
// inside.
func (t *translator) neighbour(m frame.MAC) bool {
	return !m.IsGroup() && m != t.outside && [5]byte(m[:5]) != [5]byte(t.inside[:5])
}

// announcement tells everybody on the bridge who has the machine's address (RFC
// 5227 section 2.3).
func (t *translator) announcement() []byte {
	b := make([]byte, frame.HeaderSize+header.ARPSize)
	header.Ethernet(b).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(t.outside[:]), DstAddr: tcpip.LinkAddress(frame.Broadcast[:]), Type: header.ARPProtocolNumber,
	})
	arp := header.ARP(b[frame.HeaderSize:])
	arp.SetIPv4OverEthernet()
	arp.SetOp(header.ARPRequest)
	copy(arp.HardwareAddressSender(), t.outside[:])
	copy(arp.ProtocolAddressSender(), t.addr.AsSlice())
	copy(arp.ProtocolAddressTarget(), t.addr.AsSlice())
	return b
}

// dhcp reports whether a packet is one of DHCP's. Of its fragments only the first
// is recognised, without which the others are nothing.
func dhcp(ip header.IPv4) bool {
	if ip.TransportProtocol() != header.UDPProtocolNumber || ip.FragmentOffset() != 0 {
		return false
	}
	udp := header.UDP(ip.Payload())
	if len(udp) < header.UDPMinimumSize {
		return true // it hides its ports
	}
	is := func(port uint16) bool { return port == dhcpServerPort || port == dhcpClientPort }
	return is(udp.SourcePort()) || is(udp.DestinationPort())
}

func address(b []byte) netip.Addr { return netip.AddrFrom4([4]byte(b)) }
