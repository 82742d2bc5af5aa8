package gateway

import (
	"math"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"goldsmith/internal/network/frame"
)

var (
	clientMAC  = frame.MAC{0x52, 0x54, 0, 0, 0, 4}
	strangeMAC = frame.MAC{0x52, 0x54, 0, 0, 0, 9}
	serverMAC  = frame.MAC{0x52, 0x54, 0, 0, 0, 1}
	serverAddr = netip.MustParseAddr("10.0.0.1")
	clientAddr = netip.MustParseAddr("10.0.0.4")
	everybody  = netip.MustParseAddr("255.255.255.255")
)

func testServer() *dhcpServer {
	return &dhcpServer{
		mac: serverMAC, addr: serverAddr, subnet: netip.MustParsePrefix("10.0.0.0/24"), mtu: 1500,
		leases: []Lease{{MAC: clientMAC, Addr: clientAddr}},
	}
}

func request(t testing.TB, from frame.MAC, to netip.Addr, mods ...dhcpv4.Modifier) []byte {
	t.Helper()
	msg, err := dhcpv4.New(append([]dhcpv4.Modifier{dhcpv4.WithHwAddr(clientMAC[:])}, mods...)...)
	if err != nil {
		t.Fatal(err)
	}
	return frame.Datagram{
		From: from, To: frame.Broadcast, Source: netip.AddrPortFrom(netip.IPv4Unspecified(), 68),
		Target: netip.AddrPortFrom(to, 67), Payload: msg.ToBytes(),
	}.Frame()
}

func TestDHCPDecides(t *testing.T) {
	kind := dhcpv4.WithMessageType
	wants := func(ip string) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(net.ParseIP(ip)))
	}
	server := func(ip string) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.ParseIP(ip)))
	}
	const silence = dhcpv4.MessageTypeNone
	tests := []struct {
		name  string
		frame []byte
		want  dhcpv4.MessageType
	}{
		{"discover", request(t, clientMAC, everybody, kind(dhcpv4.MessageTypeDiscover)), dhcpv4.MessageTypeOffer},
		{"discover wanting another", request(t, clientMAC, everybody, kind(dhcpv4.MessageTypeDiscover), wants("10.0.0.9")), dhcpv4.MessageTypeOffer},
		{"request", request(t, clientMAC, everybody, kind(dhcpv4.MessageTypeRequest), wants("10.0.0.4"), server("10.0.0.1")), dhcpv4.MessageTypeAck},
		{"request after a reboot", request(t, clientMAC, everybody, kind(dhcpv4.MessageTypeRequest), wants("10.0.0.4")), dhcpv4.MessageTypeAck},
		{"request of another address", request(t, clientMAC, everybody, kind(dhcpv4.MessageTypeRequest), wants("192.168.0.9")), dhcpv4.MessageTypeNak},
		{"request of another server", request(t, clientMAC, everybody, kind(dhcpv4.MessageTypeRequest), wants("10.0.0.4"), server("10.0.0.2")), silence},
		{"renewal", request(t, clientMAC, serverAddr, kind(dhcpv4.MessageTypeRequest), dhcpv4.WithClientIP(net.ParseIP("10.0.0.4"))), dhcpv4.MessageTypeAck},
		{"inform", request(t, clientMAC, serverAddr, kind(dhcpv4.MessageTypeInform), dhcpv4.WithClientIP(net.ParseIP("10.0.0.4"))), dhcpv4.MessageTypeAck},
		{"release", request(t, clientMAC, serverAddr, kind(dhcpv4.MessageTypeRelease)), silence},
		{"offer", request(t, clientMAC, everybody, kind(dhcpv4.MessageTypeOffer)), silence},
		{"bootp", request(t, clientMAC, everybody), silence},
		{"of another machine", request(t, strangeMAC, everybody, kind(dhcpv4.MessageTypeDiscover)), silence},
		{"unknown machine", request(t, strangeMAC, everybody, kind(dhcpv4.MessageTypeDiscover), dhcpv4.WithHwAddr(strangeMAC[:])), silence},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			answer, handled := testServer().reply(tt.frame)
			if !handled {
				t.Fatal("not taken as dhcp")
			}
			if tt.want == silence {
				if answer != nil {
					t.Fatalf("answered by %x", answer)
				}
				return
			}
			d, ok := frame.ParseDatagram(answer)
			if !ok {
				t.Fatal("the answer is not a datagram")
			}
			resp, err := dhcpv4.FromBytes(d.Payload)
			if err != nil {
				t.Fatal(err)
			}
			if resp.MessageType() != tt.want {
				t.Fatalf("got %v, want %v", resp.MessageType(), tt.want)
			}
			if tt.want == dhcpv4.MessageTypeNak {
				if d.To != frame.Broadcast || d.Target.Addr() != everybody || !resp.YourIPAddr.IsUnspecified() {
					t.Errorf("nak to %v, %v for %v", d.To, d.Target, resp.YourIPAddr)
				}
				return
			}
			if d.To != clientMAC || d.Target != netip.AddrPortFrom(clientAddr, 68) || d.Source != netip.AddrPortFrom(serverAddr, 67) {
				t.Errorf("from %v to %v %v", d.Source, d.To, d.Target)
			}
			mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, resp.Options)
			ones, _ := resp.SubnetMask().Size()
			if err != nil || mtu != 1500 || ones != 24 || !resp.Router()[0].Equal(serverAddr.AsSlice()) || !resp.DNS()[0].Equal(serverAddr.AsSlice()) {
				t.Errorf("options: %s", resp.Summary())
			}
			if tt.name != "inform" && (!resp.YourIPAddr.Equal(clientAddr.AsSlice()) || resp.IPAddressLeaseTime(0) != math.MaxUint32*time.Second) {
				t.Errorf("lease: %s", resp.Summary())
			}
		})
	}
}

func TestDHCPBroadcastFlag(t *testing.T) {
	answer, _ := testServer().reply(request(t, clientMAC, everybody, dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover), dhcpv4.WithBroadcast(true)))
	d, ok := frame.ParseDatagram(answer)
	if !ok || d.To != frame.Broadcast || d.Target.Addr() != everybody {
		t.Errorf("answer went to %v %v", d.To, d.Target)
	}
}

func TestDHCPLeavesTheRestAlone(t *testing.T) {
	other := frame.Datagram{From: clientMAC, To: serverMAC, Source: netip.MustParseAddrPort("10.0.0.4:68"), Target: netip.MustParseAddrPort("203.0.113.1:67")}
	dnsQuery := frame.Datagram{From: clientMAC, To: serverMAC, Source: netip.MustParseAddrPort("10.0.0.4:5353"), Target: netip.MustParseAddrPort("10.0.0.1:53")}
	for _, f := range [][]byte{other.Frame(), dnsQuery.Frame(), {}, make([]byte, 14)} {
		if answer, handled := testServer().reply(f); handled || answer != nil {
			t.Errorf("%x was taken", f)
		}
	}
}

func FuzzDHCP(f *testing.F) {
	f.Add(request(f, clientMAC, everybody, dhcpv4.WithMessageType(dhcpv4.MessageTypeDiscover)))
	f.Add(request(f, clientMAC, serverAddr, dhcpv4.WithMessageType(dhcpv4.MessageTypeRequest), dhcpv4.WithClientIP(net.ParseIP("10.0.0.4"))))
	s := testServer()
	f.Fuzz(func(t *testing.T, payload []byte) {
		for _, b := range [][]byte{payload, frame.Datagram{
			From: clientMAC, To: frame.Broadcast, Source: netip.AddrPortFrom(netip.IPv4Unspecified(), 68),
			Target: netip.AddrPortFrom(everybody, 67), Payload: payload,
		}.Frame()} {
			answer, _ := s.reply(b)
			if answer == nil {
				continue
			}
			d, ok := frame.ParseDatagram(answer)
			if !ok || d.From != serverMAC || (d.To != clientMAC && d.To != frame.Broadcast) {
				t.Fatalf("answer %x", answer)
			}
			resp, err := dhcpv4.FromBytes(d.Payload)
			if err != nil || (!resp.YourIPAddr.IsUnspecified() && !resp.YourIPAddr.Equal(clientAddr.AsSlice())) {
				t.Fatalf("answer %v, %v", resp, err)
			}
		}
	})
}
