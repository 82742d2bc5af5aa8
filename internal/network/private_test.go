package network_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"goldsmith/internal/arm"
	"goldsmith/internal/network"
	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/netswitch"
	"goldsmith/internal/network/networktest"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func TestLeaseIsAlwaysTheSame(t *testing.T) {
	for _, mtu := range []int{0, 9000} {
		n := newNetwork(t, network.Config{MTU: mtu})
		for range 2 { // again after a replug
			g := plug(t, n)
			want := &networktest.Lease{
				Addr:   netip.PrefixFrom(network.BuildAddress, network.BuildSubnet.Bits()),
				Router: network.BuildGateway, DNS: network.BuildGateway,
				MTU: max(mtu, 1500), Time: math.MaxUint32 * time.Second,
			}
			if diff := cmp.Diff(want, g.Lease(), cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})); diff != "" {
				t.Error(diff)
			}
			if err := g.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestBuilderReachesOpenPortsOnly(t *testing.T) {
	n := newNetwork(t, network.Config{GuestPorts: []uint16{22, 5986}})
	ctx := testContext(t)
	if _, err := n.DialGuest(ctx, 22); !arm.IsCode(err, arm.CodeGuestNotReady) {
		t.Errorf("nothing plugged in: %v", err)
	}
	g := plug(t, n)
	for _, port := range []uint16{22, 80} {
		l, err := g.Listen(port)
		if err != nil {
			t.Fatal(err)
		}
		serveOn(t, l, echo)
	}
	if _, err := n.DialGuest(ctx, 80); !arm.IsCode(err, arm.CodeNotAllowed) || !strings.Contains(err.Error(), "port 80") {
		t.Errorf("port 80: %v", err)
	}
	if _, err := n.DialGuest(ctx, 5986); !arm.IsCode(err, arm.CodeGuestNotReady) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("port without listener: %v", err)
	}
	c, err := n.DialGuest(ctx, 22)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	exchange(t, c, []byte("SSH-2.0-builder"))
}

// exchange writes data, half-closes, and expects exactly the same back.
func exchange(t testing.TB, c net.Conn, data []byte) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var writer sync.WaitGroup
	writer.Go(func() {
		if _, err := c.Write(data); err != nil {
			t.Error(err)
		}
		if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
			t.Error(err)
		}
	})
	got, err := io.ReadAll(c)
	writer.Wait()
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("sent %d bytes, got %d back (%v)", len(data), len(got), err)
	}
}

func TestDialGuestRespectsContext(t *testing.T) {
	n := newNetwork(t, network.Config{})
	wire, err := n.AttachBuildVM(testContext(t)) // a machine that says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer wire.Close()
	cause := errors.New("the build was cancelled")
	ctx, cancel := context.WithCancelCause(t.Context())
	dialled := make(chan error, 1)
	go func() {
		_, err := n.DialGuest(ctx, 22)
		dialled <- err
	}()
	cancel(cause)
	select {
	case err := <-dialled:
		if !errors.Is(err, cause) {
			t.Errorf("got %v", err)
		}
	case <-testContext(t).Done():
		t.Fatal("dial does not hear its context")
	}
}

func TestNetworksAreIsolated(t *testing.T) {
	first, second := newNetwork(t, network.Config{Name: "first"}), newNetwork(t, network.Config{Name: "second"})
	a, b := plug(t, first), plug(t, second)
	for g, say := range map[*networktest.Guest]string{a: "a", b: "b"} {
		l, err := g.Listen(22)
		if err != nil {
			t.Fatal(err)
		}
		serveOn(t, l, func(c net.Conn) { _, _ = io.WriteString(c, say) })
	}
	for n, want := range map[*network.Private]string{first: "a", second: "b"} {
		c, err := n.DialGuest(testContext(t), 22)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(c)
		if err != nil || string(got) != want {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		_ = c.Close()
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	<-a.Unplugged()
	c, err := second.DialGuest(testContext(t), 22)
	if err != nil {
		t.Fatalf("the second network died with the first: %v", err)
	}
	_ = c.Close()
}

func TestReattach(t *testing.T) {
	n := newNetwork(t, network.Config{})
	g := plug(t, n)
	l, err := g.Listen(22)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, echo)
	c, err := n.DialGuest(testContext(t), 22)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := n.AttachBuildVM(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("second machine: %v", err)
	}
	if _, err := n.AttachBuildVM(testContext(t)); !arm.IsCode(err, arm.CodeConflict) {
		t.Errorf("second machine: %v", err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("a connection to an unplugged machine ends with %v", err)
	}
	again := plug(t, n)
	l, err = again.Listen(22)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, echo)
	c, err = n.DialGuest(testContext(t), 22)
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c, []byte("again"))
	_ = c.Close()
}

func TestCloseEndsEverything(t *testing.T) {
	var world outside
	world.add("tcp 203.0.113.10:80", serve(t, echo))
	log := newFlows()
	n := newNetwork(t, network.Config{Dial: world.dial, OnFlow: log.add})
	g := plug(t, n)
	var conns []net.Conn
	for i := range 20 {
		c, err := g.Dial(testContext(t), "tcp", "203.0.113.10:80")
		if err != nil {
			t.Fatalf("connection %d: %v", i, err)
		}
		exchange(t, c, []byte("hello")) // the flow has begun
		conns = append(conns, c)
	}
	begin := time.Now()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("close took %v", took)
	}
	for range conns {
		if f := log.next(t); !f.Ended {
			t.Errorf("flow %+v", f)
		}
	}
	for _, c := range conns {
		_ = c.Close()
	}
	if _, err := n.DialGuest(testContext(t), 22); err == nil {
		t.Error("a closed network dials")
	}
	if wire, err := n.AttachBuildVM(testContext(t)); err == nil {
		_ = wire.Close()
		t.Error("a closed network attaches")
	}
}

func TestCloseWhileAHandshakeHangs(t *testing.T) {
	var world outside
	world.add("tcp 203.0.113.10:80", serve(t, echo))
	n := newNetwork(t, network.Config{Dial: world.dial})
	wire := rawWire(t, n)
	if _, err := wire.Write(frame.Append(nil, syn(t, netip.MustParseAddrPort("203.0.113.10:80")))); err != nil {
		t.Fatal(err)
	}
	awaitTCP(t, wire, header.TCPFlagSyn|header.TCPFlagAck) // and now never finish the handshake
	begin := time.Now()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("close took %v", took)
	}
}

func TestGuestThatStopsReading(t *testing.T) {
	var world outside
	world.add("tcp 203.0.113.10:80", serve(t, func(c net.Conn) {
		b := make([]byte, 1<<20)
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}))
	n := newNetwork(t, network.Config{Dial: world.dial})
	wire := rawWire(t, n)
	// Fills its own queue with answers that it never reads.
	flood(t, wire)
	if n.Stats().Dropped[netswitch.QueueFull] == 0 {
		t.Errorf("nothing was dropped: %+v", n.Stats())
	}
	other := plug(t, newNetwork(t, network.Config{Dial: world.dial}))
	c, err := other.Dial(testContext(t), "tcp", "203.0.113.10:80")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, c, 1<<20); err != nil {
		t.Error(err)
	}
	_ = c.Close()
	begin := time.Now()
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("close took %v", took)
	}
}

func TestTapNamesPorts(t *testing.T) {
	n := newNetwork(t, network.Config{})
	seen := make(chan string, 64)
	n.SetTap(func(port string, dir netswitch.Direction, _ []byte) {
		select {
		case seen <- fmt.Sprint(port, dir):
		default:
		}
	})
	plug(t, n)
	n.SetTap(nil)
	want := []string{fmt.Sprint("build", netswitch.FromPort), fmt.Sprint("gateway", netswitch.ToPort)}
	for _, w := range want {
		if got := <-seen; got != w {
			t.Errorf("got %s, want %s", got, w)
		}
	}
}
