package rules

import (
	"net/netip"
	"testing"

	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/netswitch"
	"goldsmith/internal/nsg"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

var (
	own    = netip.MustParseAddr("10.1.0.4")
	router = netip.MustParseAddr("10.1.0.1")
	peer   = netip.MustParseAddr("10.1.0.9")
	far    = netip.MustParseAddr("203.0.113.7")
)

// closed lets nothing in and everything out.
func closed(t testing.TB) *Filter {
	t.Helper()
	g := nsg.Group{ID: "g", Rules: []nsg.Rule{{
		Name: "deny", Priority: 4000, Direction: nsg.Inbound, Protocol: nsg.AnyProtocol, Sources: []string{"*"}, Destinations: []string{"*"},
		SourcePorts: []nsg.PortRange{nsg.AllPorts}, DestinationPorts: []nsg.PortRange{nsg.AllPorts},
	}}}
	tags := nsg.Tags{nsg.TagVirtualNetwork: {netip.MustParsePrefix("10.1.0.0/16")}}
	return New(own, router, nsg.Compile(tags, &g, nil), nil)
}

// udp is a frame with a datagram.
func udp(from, to netip.Addr, source, destination uint16) []byte {
	return frame.Datagram{Source: netip.AddrPortFrom(from, source), Target: netip.AddrPortFrom(to, destination), Payload: make([]byte, 32)}.Frame()
}

// fragment marks a frame's packet as a fragment.
func fragment(b []byte, offset uint16, more bool) []byte {
	ip := header.IPv4(b[frame.HeaderSize:])
	flags := uint8(0)
	if more {
		flags = header.IPv4FlagMoreFragments
	}
	ip.SetFlagsFragmentOffset(flags, offset)
	return b
}

// unreachable is a frame with an ICMP error about another frame's packet.
func unreachable(from, to netip.Addr, about []byte) []byte {
	cited := about[frame.HeaderSize:]
	cited = cited[:min(len(cited), 28)]
	b := make([]byte, frame.HeaderSize+header.IPv4MinimumSize+header.ICMPv4MinimumSize+len(cited))
	header.Ethernet(b).Encode(&header.EthernetFields{Type: header.IPv4ProtocolNumber})
	ip := header.IPv4(b[frame.HeaderSize:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(ip)), TTL: 64, Protocol: uint8(header.ICMPv4ProtocolNumber),
		SrcAddr: tcpip.AddrFrom4(from.As4()), DstAddr: tcpip.AddrFrom4(to.As4()),
	})
	m := header.ICMPv4(ip.Payload())
	m.SetType(header.ICMPv4DstUnreachable)
	copy(m[header.ICMPv4MinimumSize:], cited)
	return b
}

func TestFilter(t *testing.T) {
	const in, out = netswitch.ToPort, netswitch.FromPort
	type frameOf struct {
		d    netswitch.Direction
		b    []byte
		want bool
	}
	tests := []struct {
		name   string
		frames []frameOf
	}{
		{"asked for nothing", []frameOf{{in, udp(peer, own, 9, 9), false}}},
		{"an answer", []frameOf{{out, udp(own, far, 5000, 9), true}, {in, udp(far, own, 9, 5000), true}, {in, udp(far, own, 8, 5000), false}}},
		{"dhcp", []frameOf{{in, udp(router, own, 67, 68), true}, {out, udp(netip.IPv4Unspecified(), netip.AddrFrom4([4]byte{255, 255, 255, 255}), 68, 67), true}}},
		{"dns of the router only", []frameOf{{in, udp(router, own, 53, 4000), true}, {in, udp(peer, own, 53, 4000), false}}},
		{"fragments follow their first", []frameOf{
			{in, fragment(udp(far, own, 9, 5000), 64, false), false},
			{out, fragment(udp(own, far, 5000, 9), 0, true), true}, {out, fragment(udp(own, far, 5000, 9), 64, false), true},
			{in, fragment(udp(far, own, 9, 5000), 0, true), true}, {in, fragment(udp(far, own, 9, 5000), 64, false), true},
		}},
		{"errors about a flow", []frameOf{
			{in, unreachable(router, own, udp(own, far, 5000, 9)), false},
			{out, udp(own, far, 5000, 9), true},
			{in, unreachable(router, own, udp(own, far, 5000, 9)), true},
			{in, unreachable(router, own, udp(own, far, 5001, 9)), false},
		}},
		{"what is passed on for another", []frameOf{{in, udp(peer, far, 9, 9), true}, {out, udp(peer, far, 9, 9), true}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := closed(t)
			for i, x := range tt.frames {
				if got := f.Pass(x.d, x.b); got != x.want {
					t.Errorf("frame %d: passes %t, want %t", i, got, x.want)
				}
			}
		})
	}
}

// FuzzPass feeds hostile frames in both directions.
func FuzzPass(f *testing.F) {
	f.Add(udp(own, far, 5000, 9), true)
	f.Add(unreachable(router, own, udp(own, far, 5000, 9)), false)
	f.Add(fragment(udp(far, own, 9, 5000), 64, false), false)
	filter := closed(f)
	f.Fuzz(func(t *testing.T, b []byte, outward bool) {
		d := netswitch.ToPort
		if outward {
			d = netswitch.FromPort
		}
		filter.Pass(d, b)
	})
}

// BenchmarkPass is the cost of the rules on a frame of an established flow.
func BenchmarkPass(b *testing.B) {
	f := closed(b)
	one := udp(own, far, 5000, 9)
	b.ReportAllocs()
	for b.Loop() {
		f.Pass(netswitch.FromPort, one)
	}
}
