package network_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"goldsmith/internal/machine/guardian"
	"goldsmith/internal/network"
	"goldsmith/internal/network/networktest"
)

func TestMain(m *testing.M) {
	guardian.Main() // the guardian of a machine is this program once more
	goleak.VerifyTestMain(m)
}

// patience is how long anything in these tests may take.
const patience = 20 * time.Second

func testContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func newNetwork(t testing.TB, cfg network.Config) *network.Private {
	t.Helper()
	n, err := network.NewPrivate(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n.(*network.Private)
}

// plug attaches a guest that has its lease.
func plug(t testing.TB, n network.Network) *networktest.Guest {
	t.Helper()
	wire, err := n.AttachBuildVM(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	g, err := networktest.NewGuest(wire, network.BuildMAC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := g.Configure(testContext(t)); err != nil {
		t.Fatal(err)
	}
	return g
}

// outside is a world of servers on loopback that stand for outside addresses.
type outside struct {
	mu    sync.Mutex
	hosts map[string]string // "tcp 203.0.113.1:80" to a loopback address
	dials []string
}

func (o *outside) dial(ctx context.Context, proto string, addr netip.AddrPort) (net.Conn, error) {
	o.mu.Lock()
	key := proto + " " + addr.String()
	o.dials = append(o.dials, key)
	to, ok := o.hosts[key]
	o.mu.Unlock()
	if !ok {
		return nil, errors.New("connection refused by the test's outside")
	}
	var d net.Dialer
	return d.DialContext(ctx, proto, to)
}

func (o *outside) dialled() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.dials...)
}

func (o *outside) add(key, to string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.hosts == nil {
		o.hosts = map[string]string{}
	}
	o.hosts[key] = to
}

// serve answers each connection to a loopback listener until the test ends.
func serve(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, handle)
	return l.Addr().String()
}

func serveOn(t testing.TB, l net.Listener, handle func(net.Conn)) {
	t.Helper()
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		all.Wait()
	})
}

func echo(c net.Conn) {
	_, _ = io.Copy(c, c)
	if h, ok := c.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
	}
}

// flows collects what a network reports.
type flows struct {
	ch chan network.Flow
}

func newFlows() *flows { return &flows{ch: make(chan network.Flow, 8192)} }

func (f *flows) add(flow network.Flow) { f.ch <- flow }

// next waits for a flow that ended.
func (f *flows) next(t testing.TB) network.Flow {
	t.Helper()
	ctx := testContext(t)
	for {
		select {
		case flow := <-f.ch:
			if flow.Ended {
				return flow
			}
		case <-ctx.Done():
			t.Fatal("no flow was reported")
		}
	}
}

// mustFail checks that a dial fails, and long before any time-out.
func mustFail(t testing.TB, g *networktest.Guest, proto, addr string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := g.Dial(ctx, proto, addr)
	if err == nil {
		_ = c.Close()
		t.Errorf("%s %s was reached", proto, addr)
		return
	}
	if ctx.Err() != nil {
		t.Errorf("%s %s timed out instead of being refused: %v", proto, addr, err)
	}
}
