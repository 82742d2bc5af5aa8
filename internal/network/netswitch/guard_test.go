package netswitch

import (
	"net/netip"
	"testing"

	"goldsmith/internal/network/frame"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

var (
	ownMAC   = frame.MAC{2, 0, 0, 0, 0, 1}
	otherMAC = frame.MAC{2, 0, 0, 0, 0, 2}
	ownAddr  = netip.MustParseAddr("10.0.0.4")
	other    = netip.MustParseAddr("10.0.0.1")
	anyAddr  = netip.IPv4Unspecified()
	allAddr  = netip.MustParseAddr("255.255.255.255")
)

func ownGuard(t testing.TB) guard {
	g, err := newGuard(PortConfig{MAC: ownMAC, Addrs: []netip.Addr{ownAddr}, MTU: DefaultMTU})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func udpFrame(from frame.MAC, src, dst netip.Addr, sport, dport uint16) []byte {
	return frame.Datagram{From: from, To: otherMAC, Source: netip.AddrPortFrom(src, sport), Target: netip.AddrPortFrom(dst, dport), Payload: make([]byte, 64)}.Frame()
}

// fragment makes f a fragment at offset bytes.
func fragment(f []byte, offset uint16) []byte {
	ip := header.IPv4(f[frame.HeaderSize:])
	ip.SetFlagsFragmentOffset(header.IPv4FlagMoreFragments, offset)
	return f
}

func arpFrame(from frame.MAC, op header.ARPOp, senderMAC frame.MAC, sender netip.Addr) []byte {
	b := make([]byte, frame.HeaderSize+header.ARPSize)
	header.Ethernet(b).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(from[:]), DstAddr: tcpip.LinkAddress(frame.Broadcast[:]), Type: header.ARPProtocolNumber,
	})
	arp := header.ARP(b[frame.HeaderSize:])
	arp.SetIPv4OverEthernet()
	arp.SetOp(op)
	copy(arp.HardwareAddressSender(), senderMAC[:])
	s, target := sender.As4(), other.As4()
	copy(arp.ProtocolAddressSender(), s[:])
	copy(arp.ProtocolAddressTarget(), target[:])
	return b
}

func withType(f []byte, proto uint16) []byte {
	f[12], f[13] = byte(proto>>8), byte(proto)
	return f
}

func TestGuard(t *testing.T) {
	g := ownGuard(t)
	tests := []struct {
		name  string
		frame []byte
		want  Reason
	}{
		{"own datagram", udpFrame(ownMAC, ownAddr, other, 1000, 53), none},
		{"other hardware address", udpFrame(otherMAC, ownAddr, other, 1000, 53), SpoofedMAC},
		{"other network address", udpFrame(ownMAC, other, ownAddr, 1000, 53), SpoofedIP},
		{"no address", udpFrame(ownMAC, anyAddr, other, 1000, 53), SpoofedIP},
		{"dhcp request", udpFrame(ownMAC, anyAddr, allAddr, 68, 67), none},
		{"dhcp request not to all", udpFrame(ownMAC, anyAddr, other, 68, 67), SpoofedIP},
		{"dhcp renewal", udpFrame(ownMAC, ownAddr, other, 68, 67), none},
		{"dhcp answer", udpFrame(ownMAC, ownAddr, allAddr, 67, 68), DHCPServer},
		{"dhcp answer from another port", udpFrame(ownMAC, ownAddr, allAddr, 1067, 68), DHCPServer},
		{"dhcp answer to a relay", udpFrame(ownMAC, ownAddr, other, 67, 67), DHCPServer},
		{"first fragment of a dhcp answer", fragment(udpFrame(ownMAC, ownAddr, allAddr, 67, 68), 0), DHCPServer},
		{"first fragment", fragment(udpFrame(ownMAC, ownAddr, other, 1000, 53), 0), none},
		{"later fragment", fragment(udpFrame(ownMAC, ownAddr, other, 1000, 53), 1480), none},
		{"later fragment of another", fragment(udpFrame(ownMAC, other, ownAddr, 1000, 53), 1480), SpoofedIP},
		{"fragment over the ports", fragment(udpFrame(ownMAC, ownAddr, other, 1000, 53), 8), Malformed},
		{"arp request", arpFrame(ownMAC, header.ARPRequest, ownMAC, ownAddr), none},
		{"arp reply", arpFrame(ownMAC, header.ARPReply, ownMAC, ownAddr), none},
		{"arp probe", arpFrame(ownMAC, header.ARPRequest, ownMAC, anyAddr), none},
		{"arp reply for nobody", arpFrame(ownMAC, header.ARPReply, ownMAC, anyAddr), SpoofedARP},
		{"arp claims the gateway", arpFrame(ownMAC, header.ARPReply, ownMAC, other), SpoofedARP},
		{"arp for another machine", arpFrame(ownMAC, header.ARPReply, otherMAC, ownAddr), SpoofedARP},
		{"arp from another machine", arpFrame(otherMAC, header.ARPReply, ownMAC, ownAddr), SpoofedMAC},
		{"reverse arp", arpFrame(ownMAC, 3, ownMAC, ownAddr), Malformed},
		{"short arp", arpFrame(ownMAC, header.ARPRequest, ownMAC, ownAddr)[:30], Malformed},
		{"ipv6", withType(udpFrame(ownMAC, ownAddr, other, 1, 2), 0x86dd), UnsupportedProtocol},
		{"vlan", withType(udpFrame(ownMAC, ownAddr, other, 1, 2), 0x8100), UnsupportedProtocol},
		{"short ip", udpFrame(ownMAC, ownAddr, other, 1, 2)[:30], Malformed},
		{"empty packet", udpFrame(ownMAC, ownAddr, other, 1, 2)[:14], Malformed},
		{"runt", make([]byte, 13), Runt},
		{"above the mtu", make([]byte, DefaultMTU+frame.HeaderSize+1), Oversize},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := g.check(tt.frame); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestTrustedPortIsNotChecked(t *testing.T) {
	g, err := newGuard(PortConfig{MAC: ownMAC, Trusted: true, MTU: DefaultMTU})
	if err != nil {
		t.Fatal(err)
	}
	if got := g.check(udpFrame(otherMAC, other, ownAddr, 67, 68)); got != none {
		t.Errorf("got %v", got)
	}
}

// FuzzGuard holds that whatever passes carries the port's own addresses.
func FuzzGuard(f *testing.F) {
	f.Add(udpFrame(ownMAC, ownAddr, other, 1000, 53))
	f.Add(udpFrame(ownMAC, anyAddr, allAddr, 68, 67))
	f.Add(arpFrame(ownMAC, header.ARPRequest, ownMAC, ownAddr))
	g := ownGuard(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		if g.check(b) != none {
			return
		}
		if frame.Source(b) != ownMAC {
			t.Fatal("foreign hardware address")
		}
		if header.Ethernet(b).Type() == header.IPv4ProtocolNumber {
			src := netip.AddrFrom4(header.IPv4(b[frame.HeaderSize:]).SourceAddress().As4())
			if src != ownAddr && src != anyAddr {
				t.Fatalf("source %v", src)
			}
			if d, ok := frame.ParseDatagram(b); ok && d.Target.Port() == dhcpClientPort {
				t.Fatal("dhcp answer")
			}
		}
	})
}
