package bridge

import (
	"net/netip"
	"testing"

	"goldsmith/internal/network/frame"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func testTranslator() translator {
	subnet := netip.MustParsePrefix("10.1.9.0/24")
	router := netip.MustParseAddr("10.1.9.1")
	return translator{
		inside: frame.MAC{0x52, 0x54, 0, 0x67, 0x6d, 4}, outside: HardwareAddress("run"), addr: netip.MustParseAddr("10.1.9.4"),
		subnet: subnet, broadcast: lastOf(subnet), foreign: func(a netip.Addr) bool { return a != router },
	}
}

func TestHardwareAddresses(t *testing.T) {
	one, two := HardwareAddress("one"), HardwareAddress("two")
	if one == two || one != HardwareAddress("one") {
		t.Errorf("%v and %v", one, two)
	}
	for _, m := range []frame.MAC{one, deviceAddress("one")} {
		if m.IsGroup() || m[0]&2 == 0 {
			t.Errorf("%v is not a locally administered address of one host", m)
		}
	}
	if deviceAddress("one") == one {
		t.Error("the device has the machine's address: the bridge would keep its frames")
	}
}

func TestBroadcastOf(t *testing.T) {
	for prefix, want := range map[string]string{"10.1.9.0/24": "10.1.9.255", "10.0.0.0/8": "10.255.255.255", "10.1.9.8/29": "10.1.9.15"} {
		if got := lastOf(netip.MustParsePrefix(prefix)); got.String() != want {
			t.Errorf("%s: %v", prefix, got)
		}
	}
}

// Whatever comes from the bridge goes to the machine alone, and whatever goes there
// has the hardware address that the bridge knows.
func FuzzTranslate(f *testing.F) {
	t := testTranslator()
	f.Add(t.announcement())
	d := frame.Datagram{
		From: frame.MAC{0x52, 0x54, 0, 1, 2, 3}, To: t.outside,
		Source: netip.MustParseAddrPort("10.1.9.200:53"), Target: netip.MustParseAddrPort("10.1.9.4:5353"), Payload: []byte("x"),
	}
	f.Add(d.Frame())
	d.From, d.To, d.Source, d.Target = t.inside, d.From, d.Target, d.Source
	f.Add(d.Frame())
	f.Fuzz(func(tt *testing.T, b []byte) {
		in, out := append([]byte(nil), b...), append([]byte(nil), b...)
		_ = t.claims(b)
		if t.in(in) {
			if frame.Destination(in) != t.inside || frame.Source(in) == t.inside || len(in) != len(b) {
				tt.Fatalf("from the bridge: %x became %x", b, in)
			}
			if header.Ethernet(in).Type() == header.IPv4ProtocolNumber && !t.subnet.Contains(address(header.IPv4(in[frame.HeaderSize:]).SourceAddressSlice())) {
				tt.Fatalf("from another subnet: %x", in)
			}
		}
		if t.out(out) && (frame.Source(out) != t.outside || len(out) != len(b)) {
			tt.Fatalf("to the bridge: %x became %x", b, out)
		}
	})
}
