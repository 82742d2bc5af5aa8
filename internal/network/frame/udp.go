package frame

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Datagram is one unfragmented IPv4 UDP datagram in a frame.
type Datagram struct {
	From, To       MAC
	Source, Target netip.AddrPort
	Payload        []byte
}

// ParseDatagram reads a frame that holds a whole IPv4 UDP datagram; ok is false
// for every other frame. Payload points into frame. Checksums are not verified:
// a frame crosses no medium that could damage it.
func ParseDatagram(frame []byte) (d Datagram, ok bool) {
	if len(frame) < HeaderSize || header.Ethernet(frame).Type() != header.IPv4ProtocolNumber {
		return Datagram{}, false
	}
	ip := header.IPv4(frame[HeaderSize:])
	if !ip.IsValid(len(ip)) || ip.TransportProtocol() != header.UDPProtocolNumber ||
		ip.FragmentOffset() != 0 || ip.Flags()&header.IPv4FlagMoreFragments != 0 {
		return Datagram{}, false
	}
	udp := header.UDP(ip.Payload())
	if len(udp) < header.UDPMinimumSize || int(udp.Length()) < header.UDPMinimumSize || int(udp.Length()) > len(udp) {
		return Datagram{}, false
	}
	return Datagram{
		From:    Source(frame),
		To:      Destination(frame),
		Source:  netip.AddrPortFrom(addr4(ip.SourceAddress()), udp.SourcePort()),
		Target:  netip.AddrPortFrom(addr4(ip.DestinationAddress()), udp.DestinationPort()),
		Payload: udp[header.UDPMinimumSize:udp.Length()],
	}, true
}

// Frame is the datagram on the wire. Its addresses must be IPv4.
func (d Datagram) Frame() []byte {
	const headers = HeaderSize + header.IPv4MinimumSize + header.UDPMinimumSize
	b := make([]byte, headers+len(d.Payload))
	copy(b[headers:], d.Payload)
	src, dst := tcpip.AddrFrom4(d.Source.Addr().As4()), tcpip.AddrFrom4(d.Target.Addr().As4())

	header.Ethernet(b).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(d.From[:]), DstAddr: tcpip.LinkAddress(d.To[:]), Type: header.IPv4ProtocolNumber,
	})
	ip := header.IPv4(b[HeaderSize:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(ip)), TTL: 64, Protocol: uint8(header.UDPProtocolNumber), SrcAddr: src, DstAddr: dst,
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	udp := header.UDP(ip[header.IPv4MinimumSize:])
	udp.Encode(&header.UDPFields{
		SrcPort: d.Source.Port(), DstPort: d.Target.Port(), Length: uint16(len(udp)),
	})
	sum := header.PseudoHeaderChecksum(header.UDPProtocolNumber, src, dst, uint16(len(udp)))
	sum = checksum.Checksum(d.Payload, sum)
	udp.SetChecksum(^udp.CalculateChecksum(sum))
	return b
}

func addr4(a tcpip.Address) netip.Addr { return netip.AddrFrom4(a.As4()) }
