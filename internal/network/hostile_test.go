package network_test

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"goldsmith/internal/network"
	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/netswitch"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// rawWire plugs in a machine that is nothing but its wire.
func rawWire(t testing.TB, n network.Network) net.Conn {
	t.Helper()
	wire, err := n.AttachBuildVM(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.FileConn(wire)
	_ = wire.Close()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func arpRequest(t testing.TB, sender, target netip.Addr) []byte {
	own := mac(t, network.BuildMAC)
	b := make([]byte, frame.HeaderSize+header.ARPSize)
	header.Ethernet(b).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(own[:]), DstAddr: tcpip.LinkAddress(frame.Broadcast[:]), Type: header.ARPProtocolNumber,
	})
	arp := header.ARP(b[frame.HeaderSize:])
	arp.SetIPv4OverEthernet()
	arp.SetOp(header.ARPRequest)
	copy(arp.HardwareAddressSender(), own[:])
	s, d := sender.As4(), target.As4()
	copy(arp.ProtocolAddressSender(), s[:])
	copy(arp.ProtocolAddressTarget(), d[:])
	return b
}

func ping(t testing.TB, to netip.Addr, id uint16) []byte {
	echo := header.ICMPv4(make([]byte, 64))
	echo.SetType(header.ICMPv4Echo)
	echo.SetIdent(id)
	echo.SetChecksum(header.ICMPv4Checksum(echo, 0))
	return ipv4Frame(t, to, header.ICMPv4ProtocolNumber, echo)
}

func TestSpoofingIsDroppedAndCounted(t *testing.T) {
	n := newNetwork(t, network.Config{})
	wire := rawWire(t, n)
	foreignMAC := ping(t, network.BuildGateway, 1)
	foreignMAC[11]++
	foreignIP := ping(t, network.BuildGateway, 2)
	foreignIP[29]++
	rogue := frame.Datagram{
		From: mac(t, network.BuildMAC), To: frame.Broadcast,
		Source: netip.AddrPortFrom(network.BuildAddress, 67), Target: netip.MustParseAddrPort("255.255.255.255:68"),
	}.Frame()
	var stream []byte
	for _, f := range [][]byte{
		foreignMAC, foreignIP, rogue,
		arpRequest(t, network.BuildGateway, network.BuildAddress), // claims to be the gateway
		make([]byte, 10),                  // runt
		make([]byte, 2000),                // above the MTU
		ping(t, network.BuildGateway, 99), // and one that is right
	} {
		stream = frame.Append(stream, f)
	}
	if _, err := wire.Write(stream); err != nil {
		t.Fatal(err)
	}
	awaitPong(t, wire, 99)
	want := map[netswitch.Reason]uint64{
		netswitch.SpoofedMAC: 1, netswitch.SpoofedIP: 1, netswitch.DHCPServer: 1, netswitch.SpoofedARP: 1,
		netswitch.Runt: 1, netswitch.Oversize: 1,
	}
	got := n.Stats().Dropped
	for reason, count := range want {
		if got[reason] != count {
			t.Errorf("%v: %d dropped, want %d", reason, got[reason], count)
		}
	}
}

// awaitPong reads until the answer to ping id and fails on any other answer.
func awaitPong(t testing.TB, wire net.Conn, id uint16) {
	t.Helper()
	if err := wire.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	frames := frame.NewReader(wire)
	b, err := frames.Next()
	if err != nil {
		t.Fatal(err)
	}
	ip := header.IPv4(b[frame.HeaderSize:])
	if header.Ethernet(b).Type() != header.IPv4ProtocolNumber || ip.TransportProtocol() != header.ICMPv4ProtocolNumber {
		t.Fatalf("unexpected answer %x", b)
	}
	if m := header.ICMPv4(ip.Payload()); m.Type() != header.ICMPv4EchoReply || m.Ident() != id {
		t.Fatalf("unexpected message %v of ping %d", m.Type(), m.Ident())
	}
}

func TestGatewayAnswersForItselfOnly(t *testing.T) {
	service := netip.MustParseAddrPort("10.0.0.50:80")
	n := newNetwork(t, network.Config{Services: map[netip.AddrPort]network.Service{service: nil}})
	wire := rawWire(t, n)
	var stream []byte
	for _, target := range []string{"10.0.0.9", "10.0.0.4", "192.168.1.1", "169.254.169.254", "10.0.0.50", "10.0.0.1"} {
		stream = frame.Append(stream, arpRequest(t, network.BuildAddress, netip.MustParseAddr(target)))
	}
	// An outside address is not pinged, and no loopback address exists.
	stream = frame.Append(stream, ping(t, netip.MustParseAddr("203.0.113.1"), 1))
	stream = frame.Append(stream, ping(t, netip.MustParseAddr("127.0.0.1"), 2))
	stream = frame.Append(stream, ping(t, network.BuildGateway, 3))
	if _, err := wire.Write(stream); err != nil {
		t.Fatal(err)
	}
	if err := wire.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	frames := frame.NewReader(wire)
	for _, owner := range []string{"10.0.0.50", "10.0.0.1"} {
		b, err := frames.Next()
		if err != nil {
			t.Fatal(err)
		}
		arp := header.ARP(b[frame.HeaderSize:])
		if header.Ethernet(b).Type() != header.ARPProtocolNumber || net.IP(arp.ProtocolAddressSender()).String() != owner {
			t.Fatalf("got %x, want the answer of %s", b, owner)
		}
	}
	b, err := frames.Next()
	if err != nil {
		t.Fatal(err)
	}
	ip := header.IPv4(b[frame.HeaderSize:])
	if src := ip.SourceAddress().String(); src != network.BuildGateway.String() || header.ICMPv4(ip.Payload()).Ident() != 3 {
		t.Errorf("%s answered a ping", src)
	}
}

func TestNoRouteToHostLoopback(t *testing.T) {
	var world outside
	n := newNetwork(t, network.Config{
		Dial: world.dial, Egress: network.Egress{Allow: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}},
	})
	wire := rawWire(t, n)
	stream := frame.Append(nil, syn(t, netip.MustParseAddrPort("127.0.0.1:22")))
	stream = frame.Append(stream, syn(t, netip.MustParseAddrPort("203.0.113.1:80")))
	if _, err := wire.Write(stream); err != nil {
		t.Fatal(err)
	}
	awaitTCP(t, wire, header.TCPFlagRst) // the second is refused by the outside
	for _, d := range world.dialled() {
		if d != "tcp 203.0.113.1:80" {
			t.Errorf("outside saw %s", d)
		}
	}
}

func TestHalfCloseFromOutside(t *testing.T) {
	got := make(chan []byte, 1)
	var world outside
	world.add("tcp 203.0.113.10:80", serve(t, func(c net.Conn) {
		_, _ = io.WriteString(c, "that is all")
		_ = c.(*net.TCPConn).CloseWrite()
		b, _ := io.ReadAll(c)
		got <- b
	}))
	g := plug(t, newNetwork(t, network.Config{Dial: world.dial}))
	c, err := g.Dial(testContext(t), "tcp", "203.0.113.10:80")
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(c); err != nil || string(b) != "that is all" {
		t.Fatalf("got %q, %v", b, err)
	}
	want := bytes.Repeat([]byte("still here "), 10000)
	if _, err := c.Write(want); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	select {
	case b := <-got:
		if !bytes.Equal(b, want) {
			t.Errorf("outside got %d bytes, want %d", len(b), len(want))
		}
	case <-testContext(t).Done():
		t.Fatal("the end did not reach the outside")
	}
}

func TestResetIsCarried(t *testing.T) {
	var world outside
	world.add("tcp 203.0.113.10:80", serve(t, func(c net.Conn) {
		_, _ = io.ReadFull(c, make([]byte, 1))
		_ = c.(*net.TCPConn).SetLinger(0)
	}))
	g := plug(t, newNetwork(t, network.Config{Dial: world.dial}))
	c, err := g.Dial(testContext(t), "tcp", "203.0.113.10:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("a reset arrives as %v", err)
	}
}

// FuzzBuildVMFrame sends a hostile machine's frame through the port, the switch
// and the gateway, and then expects the gateway to be alive.
func FuzzBuildVMFrame(f *testing.F) {
	f.Add(ping(f, network.BuildGateway, 7))
	f.Add(arpRequest(f, network.BuildAddress, network.BuildGateway))
	f.Add(frame.Datagram{
		From: mac(f, network.BuildMAC), To: frame.Broadcast, Source: netip.MustParseAddrPort("0.0.0.0:68"),
		Target: netip.MustParseAddrPort("255.255.255.255:67"), Payload: make([]byte, 300),
	}.Frame())
	f.Add(frame.Datagram{
		From: mac(f, network.BuildMAC), To: mac(f, network.GatewayMAC), Source: netip.AddrPortFrom(network.BuildAddress, 5000),
		Target: netip.AddrPortFrom(network.BuildGateway, 53), Payload: make([]byte, 40),
	}.Frame())
	var world outside
	n := newNetwork(f, network.Config{Dial: world.dial, Resolvers: []netip.AddrPort{}})
	wire := rawWire(f, n)
	frames := frame.NewReader(wire)
	alive := frame.Append(nil, ping(f, network.BuildGateway, 4711))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > frame.MaxSize {
			return
		}
		if len(b) >= frame.HeaderSize { // let most get past the address check
			own := mac(t, network.BuildMAC)
			copy(b[6:], own[:])
		}
		if _, err := wire.Write(append(frame.Append(nil, b), alive...)); err != nil {
			t.Fatal(err)
		}
		if err := wire.SetReadDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		for {
			got, err := frames.Next()
			if err != nil {
				t.Fatal(err)
			}
			if len(got) > 42 && header.ICMPv4(got[34:]).Type() == header.ICMPv4EchoReply && header.ICMPv4(got[34:]).Ident() == 4711 {
				return
			}
		}
	})
}
