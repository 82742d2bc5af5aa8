package network_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"goldsmith/internal/network"
	"goldsmith/internal/network/bridge"
	"goldsmith/internal/network/bridge/bridgetest"
	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/networktest"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const hostBridge = "br-test"

var (
	bridged    = netip.MustParsePrefix("10.1.9.0/24")
	routerHere = netip.MustParseAddr("10.1.9.1")
	guestHere  = netip.MustParseAddr("10.1.9.4")
	otherGuest = netip.MustParseAddr("10.1.9.5")
	neighbour  = netip.MustParseAddr("10.1.9.200") // on the bridge
	hostHere   = netip.MustParseAddr("10.1.9.254") // the host's own
)

const neighbourMAC = "52:54:00:aa:bb:cc"

// onBridge is a network whose subnet is on the host's bridge.
func onBridge(owner string, guest netip.Addr) network.Config {
	return network.Config{
		Subnet: bridged, Router: routerHere, Guest: guest, GuestPorts: []uint16{22, 80},
		Bridge: &network.Bridge{Name: hostBridge, Owner: owner},
	}
}

// answers makes a guest's port echo.
func answers(t testing.TB, g *networktest.Guest, port uint16) {
	t.Helper()
	l, err := g.Listen(port)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, echo)
}

// reaches dials and exchanges something.
func reaches(t testing.TB, g *networktest.Guest, to netip.Addr, port uint16) {
	t.Helper()
	c, err := g.Dial(testContext(t), "tcp", netip.AddrPortFrom(to, port).String())
	if err != nil {
		t.Fatalf("%v port %d: %v", to, port, err)
	}
	defer c.Close()
	exchange(t, c, []byte("hello"))
}

// misses checks that nothing answers a dial.
func misses(t testing.TB, g *networktest.Guest, to netip.Addr, port uint16) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if c, err := g.Dial(ctx, "tcp", netip.AddrPortFrom(to, port).String()); err == nil {
		_ = c.Close()
		t.Errorf("%v port %d was reached", to, port)
	}
}

func TestBuildsOnABridge(t *testing.T) {
	if !bridgetest.Apart(t) {
		return
	}
	bridgetest.Make(t, hostBridge, netip.PrefixFrom(hostHere, 24))
	host := bridgetest.Host(t, hostBridge, neighbourMAC, netip.PrefixFrom(neighbour, 24))
	answers(t, host, 80)
	before, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	policy := policyOf(t, `{"name": "no81", "properties": {"priority": 100, "direction": "Outbound", "access": "Deny", "protocol": "Tcp",
		"sourceAddressPrefix": "*", "sourcePortRange": "*", "destinationAddressPrefix": "*", "destinationPortRange": "81"}},
		{"name": "only80", "properties": {"priority": 100, "direction": "Inbound", "access": "Deny", "protocol": "Tcp",
		"sourceAddressPrefix": "10.1.9.0/24", "sourcePortRange": "*", "destinationAddressPrefix": "*", "destinationPortRange": "81-90"}}`)
	answers(t, host, 81)
	cfg := onBridge("one", guestHere)
	cfg.Policy = policy
	cfg.Egress.Allow = []netip.Prefix{netip.PrefixFrom(hostHere, 32)}
	one, err := network.NewPrivate(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g := plug(t, one)
	answers(t, g, 80)
	answers(t, g, 82)

	reaches(t, g, neighbour, 80)
	reaches(t, host, guestHere, 80)
	misses(t, g, neighbour, 81)
	misses(t, host, guestHere, 82)
	misses(t, host, routerHere, 53)

	// A second build, at the same time: both reach the host, and not each other.
	two, err := network.NewPrivate(onBridge("two", otherGuest))
	if err != nil {
		t.Fatal(err)
	}
	h := plug(t, two)
	answers(t, h, 80)
	reaches(t, h, neighbour, 80)
	reaches(t, host, otherGuest, 80)
	reaches(t, g, neighbour, 80)
	misses(t, h, guestHere, 80)
	misses(t, g, otherGuest, 80)

	// The host's own address only where it is allowed.
	l, err := net.Listen("tcp", netip.AddrPortFrom(hostHere, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, echo)
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	reaches(t, g, hostHere, port)
	misses(t, h, hostHere, port)

	for _, n := range []network.Network{one, two} {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
	after, err := net.Interfaces()
	if err != nil || len(after) != len(before) {
		t.Errorf("interfaces %v are left of %v (%v)", after, before, err)
	}
}

// arpFrom is an ARP packet of a host.
func arpFrom(t testing.TB, own string, op header.ARPOp, sender, target netip.Addr) []byte {
	b := arpRequest(t, sender, target)
	m := mac(t, own)
	copy(b[6:12], m[:])
	arp := header.ARP(b[frame.HeaderSize:])
	arp.SetOp(op)
	copy(arp.HardwareAddressSender(), m[:])
	return b
}

// pingFrom is a ping with addresses of both kinds.
func pingFrom(t testing.TB, from, to string, source, target netip.Addr, id uint16) []byte {
	b := ping(t, target, id)
	src, dst := mac(t, from), frame.Broadcast
	if to != "" {
		dst = mac(t, to)
	}
	copy(b[:6], dst[:])
	copy(b[6:12], src[:])
	ip := header.IPv4(b[frame.HeaderSize:])
	ip.SetSourceAddress(tcpip.AddrFrom4(source.As4()))
	ip.SetChecksum(0)
	ip.SetChecksum(^ip.CalculateChecksum())
	return b
}

func dhcpFrom(t testing.TB, own string, source, target string) []byte {
	return frame.Datagram{
		From: mac(t, own), To: frame.Broadcast, Source: netip.MustParseAddrPort(source), Target: netip.MustParseAddrPort(target), Payload: make([]byte, 300),
	}.Frame()
}

// seen describes frames that matter.
func seen(b []byte) string {
	switch header.Ethernet(b).Type() {
	case header.ARPProtocolNumber:
		arp := header.ARP(b[frame.HeaderSize:])
		return fmt.Sprintf("arp %v -> %v: %v is %v asks %v", frame.Source(b), frame.Destination(b),
			netip.AddrFrom4([4]byte(arp.ProtocolAddressSender())), frame.MAC(arp.HardwareAddressSender()), netip.AddrFrom4([4]byte(arp.ProtocolAddressTarget())))
	case header.IPv4ProtocolNumber:
		ip := header.IPv4(b[frame.HeaderSize:])
		return fmt.Sprintf("ip %v -> %v: %v to %v", frame.Source(b), frame.Destination(b), ip.SourceAddress(), ip.DestinationAddress())
	}
	return "other"
}

// ofHost reports whether one of the host's interfaces has a hardware address.
func ofHost(t testing.TB, m frame.MAC) bool {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(all, func(i net.Interface) bool { return i.HardwareAddr.String() == m.String() })
}

// Only what concerns the machine and hosts of its subnet passes, whatever either
// side sends.
func TestABridgeKeepsTheRestApart(t *testing.T) {
	if !bridgetest.Apart(t) {
		return
	}
	bridgetest.Make(t, hostBridge, netip.Prefix{})
	card := bridgetest.Plug(t, hostBridge)
	defer card.Close()
	trouble := make(chan error, 16)
	cfg := onBridge("one", guestHere)
	cfg.Bridge.OnTrouble = func(err error) { trouble <- err }
	n := newNetwork(t, cfg)
	wire := rawWire(t, n)
	outside := bridge.HardwareAddress("one").String()

	// read takes frames from the bridge up to the one that is described as last.
	read := func(last string) (got []string) {
		t.Helper()
		buf := make([]byte, frame.MaxSize)
		for {
			if err := card.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			k, err := card.Read(buf)
			if err != nil {
				t.Fatalf("%v after %q", err, got)
			}
			if ofHost(t, frame.Source(buf[:k])) {
				continue // its kernel announces the bridge and its ports, as it likes
			}
			got = append(got, seen(buf[:k]))
			if got[len(got)-1] == last {
				return got
			}
		}
	}
	const all = "ff:ff:ff:ff:ff:ff"
	announced := fmt.Sprintf("arp %s -> %s: %v is %s asks %v", outside, all, guestHere, outside, guestHere)
	if got := read(announced); len(got) != 1 {
		t.Errorf("the bridge saw %q", got)
	}

	// From the machine.
	var stream []byte
	for _, b := range [][]byte{
		dhcpFrom(t, network.BuildMAC, "0.0.0.0:68", "255.255.255.255:67"),
		arpFrom(t, network.BuildMAC, header.ARPRequest, guestHere, routerHere),
		arpFrom(t, network.BuildMAC, header.ARPRequest, neighbour, otherGuest),                                              // claims another's address
		pingFrom(t, network.BuildMAC, neighbourMAC, neighbour, otherGuest, 1),                                               // likewise
		pingFrom(t, network.BuildMAC, neighbourMAC, guestHere, netip.MustParseAddr("192.0.2.1"), 2),                         // by a router of the bridge
		pingFrom(t, network.BuildMAC, neighbourMAC, guestHere, routerHere, 3),                                               // to another that has the router's address
		pingFrom(t, network.BuildMAC, "", guestHere, neighbour, 4)[:20],                                                     // cut off
		pingFrom(t, network.BuildMAC, outside, guestHere, guestHere, 5),                                                     // to itself
		append(arpFrom(t, network.BuildMAC, header.ARPRequest, guestHere, neighbour)[:12], 0x86, 0xdd, 0x60, 0, 0, 0, 0, 0), // IPv6
		arpFrom(t, network.BuildMAC, header.ARPRequest, guestHere, neighbour),
		pingFrom(t, network.BuildMAC, neighbourMAC, guestHere, neighbour, 6),
	} {
		stream = frame.Append(stream, b)
	}
	if _, err := wire.Write(stream); err != nil {
		t.Fatal(err)
	}
	want := []string{
		fmt.Sprintf("arp %s -> %s: %v is %s asks %v", outside, all, guestHere, outside, neighbour),
		fmt.Sprintf("ip %s -> %s: %v to %v", outside, neighbourMAC, guestHere, neighbour),
	}
	if got := read(want[1]); !slices.Equal(got, want) {
		t.Errorf("the bridge saw\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	// From the bridge.
	for _, b := range [][]byte{
		dhcpFrom(t, neighbourMAC, "10.1.9.200:67", "255.255.255.255:68"),
		dhcpFrom(t, neighbourMAC, "10.1.9.200:68", "10.1.9.4:67"),
		arpFrom(t, neighbourMAC, header.ARPReply, routerHere, guestHere),   // claims the router's address
		arpFrom(t, neighbourMAC, header.ARPRequest, neighbour, routerHere), // nothing for the gateway
		arpFrom(t, neighbourMAC, header.ARPReply, guestHere, neighbour),    // claims the machine's
		pingFrom(t, neighbourMAC, outside, routerHere, guestHere, 1),
		pingFrom(t, neighbourMAC, outside, netip.MustParseAddr("192.0.2.1"), guestHere, 2),
		pingFrom(t, neighbourMAC, outside, neighbour, routerHere, 3),
		pingFrom(t, network.GatewayMAC, outside, neighbour, guestHere, 4),
		pingFrom(t, neighbourMAC, network.BuildMAC, neighbour, guestHere, 5), // an address of the switch
		arpFrom(t, neighbourMAC, header.ARPRequest, neighbour, guestHere),
		pingFrom(t, neighbourMAC, outside, neighbour, guestHere, 6),
	} {
		if _, err := card.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := wire.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	frames := frame.NewReader(wire)
	var got []string
	last := fmt.Sprintf("ip %s -> %s: %v to %v", neighbourMAC, network.BuildMAC, neighbour, guestHere)
	for len(got) == 0 || got[len(got)-1] != last {
		b, err := frames.Next()
		if err != nil {
			t.Fatalf("%v after %q", err, got)
		}
		d, isDatagram := frame.ParseDatagram(b)
		if isDatagram && d.Source.Addr() == routerHere {
			continue // the gateway's own lease
		}
		got = append(got, seen(b))
	}
	want = []string{fmt.Sprintf("arp %s -> %s: %v is %s asks %v", neighbourMAC, network.BuildMAC, neighbour, neighbourMAC, guestHere), last}
	// The gateway answers the machine's own question for it, and its ping.
	got = slices.DeleteFunc(got, func(s string) bool { return strings.Contains(s, network.GatewayMAC) })
	if !slices.Equal(got, want) {
		t.Errorf("the machine saw\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	select {
	case err := <-trouble:
		if !strings.Contains(err.Error(), "has the machine's address 10.1.9.4") {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("nobody was told of the conflict")
	}
}

func TestABridgeThatCannotBeUsed(t *testing.T) {
	if !bridgetest.Apart(t) {
		return
	}
	for name, want := range map[string]string{
		"br-none": "ip link add br-none type bridge",
		"lo":      "the host has no bridge lo",
		"../x":    "is not the name of a network interface",
		"":        "is not the name of a network interface",
	} {
		if err := network.CheckBridge(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
	cfg := onBridge("one", guestHere)
	cfg.Bridge.Name = "br-none"
	if _, err := network.NewPrivate(cfg); err == nil || !strings.Contains(err.Error(), "br-none") {
		t.Errorf("a network on no bridge: %v", err)
	}
	bridgetest.Make(t, hostBridge, netip.Prefix{})
	if err := network.CheckBridge(hostBridge); err != nil {
		t.Error(err)
	}
	bridgetest.Drop(t)
	if err := network.CheckBridge(hostBridge); err == nil || !strings.Contains(err.Error(), "CAP_NET_ADMIN") {
		t.Errorf("without the capability: %v", err)
	}
}
