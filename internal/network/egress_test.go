package network_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"goldsmith/internal/network"
	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/gateway"
	"goldsmith/internal/network/netswitch"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func TestEgressIsCarriedAndReported(t *testing.T) {
	var world outside
	world.add("tcp 203.0.113.10:443", serve(t, echo))
	log := newFlows()
	n := newNetwork(t, network.Config{Dial: world.dial, OnFlow: log.add})
	g := plug(t, n)
	c, err := g.Dial(testContext(t), "tcp", "203.0.113.10:443")
	if err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 3<<20)
	_, _ = rand.Read(data)
	exchange(t, c, data)
	_ = c.Close()
	want := network.Flow{
		Protocol: "tcp", Remote: netip.MustParseAddrPort("203.0.113.10:443"), Allowed: true,
		Sent: int64(len(data)), Received: int64(len(data)), Ended: true,
	}
	if diff := cmp.Diff(want, log.next(t), cmpopts.EquateComparable(netip.AddrPort{})); diff != "" {
		t.Error(diff)
	}
}

func TestRefusedOutsideIsRefusedInside(t *testing.T) {
	var world outside // nothing listens anywhere
	log := newFlows()
	n := newNetwork(t, network.Config{Dial: world.dial, OnFlow: log.add})
	g := plug(t, n)
	mustFail(t, g, "tcp", "203.0.113.10:80")
	if f := log.next(t); !f.Allowed || !strings.Contains(f.Reason, "refused by the test's outside") {
		t.Errorf("flow %+v", f)
	}
}

func TestDefaultPolicyKeepsTheGuestFromTheHost(t *testing.T) {
	var world outside
	log := newFlows()
	n := newNetwork(t, network.Config{Dial: world.dial, OnFlow: log.add})
	g := plug(t, n)
	targets := []string{
		"169.254.169.254:80", "168.63.129.16:80", "10.1.2.3:22", "172.16.0.1:22", "192.168.1.1:80",
		"100.64.0.1:80", "10.0.0.1:22", "240.0.0.1:80",
	}
	own, err := gateway.HostNetworks()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range own {
		if p.Addr().Is4() && !p.Addr().IsLoopback() {
			targets = append(targets, netip.AddrPortFrom(p.Addr(), 22).String())
		}
	}
	for _, target := range targets {
		mustFail(t, g, "tcp", target)
		f := log.next(t)
		if f.Allowed || f.Reason == "" || f.Remote.String() != target || f.Protocol != "tcp" {
			t.Errorf("%s: flow %+v", target, f)
		}
	}
	if d := world.dialled(); len(d) != 0 {
		t.Errorf("outside saw %v", d)
	}
}

// An address that the policy opens stays closed when it is the private
// network's own: the same range may exist around the host.
func TestOwnSubnetIsNeverLookedForOutside(t *testing.T) {
	var world outside
	n := newNetwork(t, network.Config{
		Dial: world.dial, Egress: network.Egress{Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}},
	})
	g := plug(t, n)
	mustFail(t, g, "tcp", "10.0.0.1:8080")
	if d := world.dialled(); len(d) != 0 {
		t.Errorf("outside saw %v", d)
	}
}

func TestHostLoopbackOnlyByPublishedService(t *testing.T) {
	server := serve(t, echo)
	inside := netip.AddrPortFrom(network.BuildGateway, 3142)
	other := netip.MustParseAddrPort("10.0.0.50:80")
	metadata := netip.MustParseAddrPort("169.254.169.254:80")
	service := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", server)
	}
	n := newNetwork(t, network.Config{
		Egress:   network.Egress{None: true},
		Services: map[netip.AddrPort]network.Service{inside: service, other: service, metadata: service},
		Records:  map[string]netip.Addr{"proxy.internal": network.BuildGateway},
	})
	g := plug(t, n)
	for _, addr := range []string{inside.String(), other.String(), metadata.String(), "proxy.internal:3142"} {
		c, err := g.Dial(testContext(t), "tcp", addr)
		if err != nil {
			t.Fatalf("%s: %v", addr, err)
		}
		exchange(t, c, []byte("GET "+addr))
		_ = c.Close()
	}
	mustFail(t, g, "tcp", "10.0.0.1:3143")
	mustFail(t, g, "tcp", "198.51.100.1:80")
	mustFail(t, g, "tcp", "elsewhere.example:80")
}

func TestAllowOpensAHostAddress(t *testing.T) {
	// A real dial to the host's own address, opened and not opened.
	own, err := gateway.HostNetworks()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range own {
		if !p.Addr().Is4() || p.Addr().IsLoopback() {
			continue
		}
		l, err := net.Listen("tcp", netip.AddrPortFrom(p.Addr(), 0).String())
		if err != nil {
			t.Fatal(err)
		}
		serveOn(t, l, echo)
		mustFail(t, plug(t, newNetwork(t, network.Config{})), "tcp", l.Addr().String())
		opened := newNetwork(t, network.Config{Egress: network.Egress{Allow: []netip.Prefix{netip.PrefixFrom(p.Addr(), 32)}}})
		c, err := plug(t, opened).Dial(testContext(t), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		exchange(t, c, []byte("allowed"))
		_ = c.Close()
	}
}

func TestUDP(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var server sync.WaitGroup
	server.Go(func() {
		b := make([]byte, 64<<10)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo(b[:n], from)
		}
	})
	t.Cleanup(func() {
		_ = pc.Close()
		server.Wait()
	})
	var world outside
	world.add("udp 203.0.113.10:123", pc.LocalAddr().String())
	log := newFlows()
	n := newNetwork(t, network.Config{Dial: world.dial, OnFlow: log.add})
	g := plug(t, n)
	c, err := g.Dial(testContext(t), "udp", "203.0.113.10:123")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	for _, size := range []int{1, 1400, 9000} { // the last one in fragments
		want := bytes.Repeat([]byte{byte(size)}, size)
		if _, err := c.Write(want); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 64<<10)
		k, err := c.Read(got)
		if err != nil || !bytes.Equal(got[:k], want) {
			t.Fatalf("datagram of %d: %d bytes and %v", size, k, err)
		}
	}
	// Refusals come back at once: prohibited by policy, and nobody there.
	answers := make(chan header.ICMPv4Code, 16)
	n.SetTap(func(port string, dir netswitch.Direction, b []byte) {
		ip := header.IPv4(b[frame.HeaderSize:])
		if port == "build" && dir == netswitch.ToPort && ip.TransportProtocol() == header.ICMPv4ProtocolNumber {
			if m := header.ICMPv4(ip.Payload()); m.Type() == header.ICMPv4DstUnreachable {
				answers <- m.Code()
			}
		}
	})
	defer n.SetTap(nil)
	for to, want := range map[string]header.ICMPv4Code{
		"192.168.1.1:53": header.ICMPv4AdminProhibited,
		"10.0.0.1:9999":  header.ICMPv4PortUnreachable,
	} {
		c, err := g.Dial(testContext(t), "udp", to)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		select {
		case got := <-answers:
			if got != want {
				t.Errorf("%s: code %d, want %d", to, got, want)
			}
		case <-testContext(t).Done():
			t.Fatalf("%s: no answer", to)
		}
		_ = c.Close()
	}
	if f := log.next(t); f.Allowed || f.Protocol != "udp" || f.Remote.String() != "192.168.1.1:53" {
		t.Errorf("flow %+v", f)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	var world outside
	world.add("tcp 203.0.113.10:80", serve(t, echo))
	n := newNetwork(t, network.Config{Dial: world.dial})
	g := plug(t, n)
	const attempts = 2000
	var mu sync.Mutex
	var open []net.Conn
	var refused int
	var dials sync.WaitGroup
	slots := make(chan struct{}, 64)
	for range attempts {
		slots <- struct{}{}
		dials.Go(func() {
			defer func() { <-slots }()
			c, err := g.Dial(testContext(t), "tcp", "203.0.113.10:80")
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				refused++
				return
			}
			open = append(open, c)
		})
	}
	dials.Wait()
	if len(open) != gateway.DefaultMaxTCP || refused != attempts-gateway.DefaultMaxTCP {
		t.Errorf("%d open, %d refused", len(open), refused)
	}
	for _, c := range open {
		_ = c.Close()
	}
	// Once they are gone there is room again.
	ctx := testContext(t)
	for {
		c, err := g.Dial(ctx, "tcp", "203.0.113.10:80")
		if err == nil {
			exchange(t, c, []byte("room"))
			_ = c.Close()
			return
		}
		if ctx.Err() != nil {
			t.Fatal("no room after all connections closed")
		}
	}
}
