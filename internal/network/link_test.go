package network_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"goldsmith/internal/network"
	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/netswitch"
	"goldsmith/internal/network/networktest"
	"goldsmith/internal/nsg"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Addresses of the tests' deployment behind a private link.
var (
	vnetSubnet = netip.MustParsePrefix("10.1.0.0/24")
	vnetRouter = netip.MustParseAddr("10.1.0.1")
	natAddr    = netip.MustParseAddr("10.1.0.4")
	lbAddr     = netip.MustParseAddr("10.1.0.5")
	proxyAddr  = netip.MustParseAddr("10.1.0.6")
	guestAddr  = netip.MustParseAddr("10.1.0.7")
)

const outsideWeb = "203.0.113.10:80"

// proxied is a deployment behind a private link.
func proxied(cfg network.Config, policy *nsg.Policy) network.Config {
	cfg.Subnet, cfg.Router, cfg.Guest = vnetSubnet, vnetRouter, guestAddr
	cfg.Inside = append(cfg.Inside, netip.MustParsePrefix("10.1.0.0/16"))
	cfg.Policy = policy
	cfg.Proxy = &network.Proxy{Addr: proxyAddr, Frontend: lbAddr, NAT: natAddr, Port: 60001, Policy: policy}
	return cfg
}

// policyOf is the default rules and what rules adds, for both cards.
func policyOf(t testing.TB, rules string) *nsg.Policy {
	t.Helper()
	g, err := nsg.Parse("group", json.RawMessage(`{"securityRules": [`+rules+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	return nsg.Compile(nsg.Tags{
		nsg.TagVirtualNetwork: {netip.MustParsePrefix("10.1.0.0/16")}, nsg.TagLoadBalancer: {netip.PrefixFrom(lbAddr, 32)},
	}, &g, nil)
}

func ruleText(name string, priority int, direction, access, from, to, port string) string {
	return fmt.Sprintf(`{"name": %q, "properties": {"priority": %d, "direction": %q, "access": %q, "protocol": "*",
		"sourceAddressPrefix": %q, "sourcePortRange": "*", "destinationAddressPrefix": %q, "destinationPortRange": %q}}`, name, priority, direction, access, from, to, port)
}

// startProxy is a proxy VM without a machine: it forwards packets, and
// connections of anybody but the probe.
func startProxy(t testing.TB, n *network.Private) *networktest.Guest {
	t.Helper()
	wire, err := n.AttachProxy(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	g, err := networktest.NewGuest(wire, network.ProxyMAC)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Assume(networktest.Lease{Addr: netip.PrefixFrom(proxyAddr, 24), Router: vnetRouter, DNS: vnetRouter}); err != nil {
		t.Fatal(err)
	}
	if err := g.Forward(); err != nil {
		t.Fatal(err)
	}
	l, err := g.Listen(60001)
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			work.Go(func() {
				defer c.Close()
				if strings.HasPrefix(c.RemoteAddr().String(), nsg.ProbeAddress.String()+":") {
					return
				}
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				to, err := g.Dial(ctx, "tcp", netip.AddrPortFrom(guestAddr, 22).String())
				if err != nil {
					return
				}
				defer to.Close()
				ended := make(chan struct{})
				defer close(ended)
				go func() { // a machine's death ends its connections
					select {
					case <-g.Unplugged():
						_, _ = c.Close(), to.Close()
					case <-ended:
					}
				}()
				work.Go(func() {
					_, _ = io.Copy(c, to)
					_ = c.(interface{ CloseWrite() error }).CloseWrite()
				})
				_, _ = io.Copy(to, c)
				_ = to.(interface{ CloseWrite() error }).CloseWrite()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		_ = g.Close()
		work.Wait()
	})
	return g
}

// sshd answers at the build VM's port 22.
func sshd(t testing.TB, g *networktest.Guest) {
	t.Helper()
	l, err := g.Listen(22)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, func(c net.Conn) {
		_ = c.SetDeadline(time.Now().Add(3 * time.Second)) // nobody tells it of a dead client
		echo(c)
	})
}

// say sends a word over a connection and wants it back.
func say(t testing.TB, c net.Conn, word string) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, word); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(word))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != word {
		t.Fatalf("got %q, %v", got, err)
	}
}

func TestBuilderTakesThePathOfTheDocument(t *testing.T) {
	n := newNetwork(t, proxied(network.Config{}, policyOf(t, "")))
	var mu sync.Mutex
	var path []string // of new connections, in order
	n.SetTap(func(port string, dir netswitch.Direction, b []byte) {
		ip := header.IPv4(b[frame.HeaderSize:])
		if dir != netswitch.ToPort || header.Ethernet(b).Type() != header.IPv4ProtocolNumber || ip.TransportProtocol() != header.TCPProtocolNumber {
			return
		}
		seg := header.TCP(ip.Payload())
		if seg.Flags() != header.TCPFlagSyn || ip.SourceAddress().String() == nsg.ProbeAddress.String() {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		path = append(path, fmt.Sprintf("%s:%d", ip.DestinationAddress(), seg.DestinationPort()))
	})
	startProxy(t, n)
	g := plug(t, n)
	sshd(t, g)
	c, err := n.DialGuest(testContext(t), 22)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	say(t, c, "uname")
	mu.Lock()
	defer mu.Unlock()
	if got, want := strings.Join(path, " "), "10.1.0.5:60001 10.1.0.6:60001 10.1.0.7:22"; got != want {
		t.Errorf("path %s, want %s", got, want)
	}
	if n.ProxyHealth() != network.Healthy {
		t.Errorf("proxy is %s", n.ProxyHealth())
	}
}

func TestTheProxyIsTheOnlyWayOut(t *testing.T) {
	var world outside
	world.add("tcp "+outsideWeb, serve(t, echo))
	var flows flowRecord
	n := newNetwork(t, proxied(network.Config{Dial: world.dial, OnFlow: flows.add}, policyOf(t, "")))
	g := plug(t, n)
	lease := g.Lease()
	if lease.Routes[netip.MustParsePrefix("0.0.0.0/0")] != proxyAddr || lease.Routes[netip.MustParsePrefix("10.1.0.0/16")] != vnetRouter {
		t.Errorf("routes %v", lease.Routes)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if c, err := g.Dial(ctx, "tcp", outsideWeb); err == nil {
		c.Close()
		t.Fatal("the build vm has a way out without a proxy")
	}
	startProxy(t, n)
	c, err := g.Dial(testContext(t), "tcp", outsideWeb)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	say(t, c, "hello")
	for _, got := range world.dialled() { // the first attempt may have been repeated
		if got != "tcp "+outsideWeb {
			t.Errorf("outside saw %v", got)
		}
	}
}

func TestAGuestCannotPassTheProxyBy(t *testing.T) {
	var world outside
	world.add("tcp "+outsideWeb, serve(t, echo))
	var flows flowRecord
	n := newNetwork(t, proxied(network.Config{Dial: world.dial, OnFlow: flows.add}, policyOf(t, "")))
	startProxy(t, n)
	wire, err := n.AttachBuildVM(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	g, err := networktest.NewGuest(wire, network.BuildMAC)
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	// It routes to the gateway, against its lease.
	if err := g.Assume(networktest.Lease{Addr: netip.PrefixFrom(guestAddr, 24), Router: vnetRouter, DNS: vnetRouter}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if c, err := g.Dial(ctx, "tcp", outsideWeb); err == nil {
		c.Close()
		t.Fatal("the gateway took a packet that did not come by the proxy")
	}
	if len(world.dialled()) != 0 || !flows.has("the proxy vm is the only way out") {
		t.Errorf("outside saw %v, flows %v", world.dialled(), flows.all())
	}
}

// flowRecord remembers flows.
type flowRecord struct {
	mu    sync.Mutex
	flows []network.Flow
}

func (r *flowRecord) add(f network.Flow) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.flows = append(r.flows, f)
}

func (r *flowRecord) all() []network.Flow {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]network.Flow(nil), r.flows...)
}

func (r *flowRecord) has(reason string) bool {
	for _, f := range r.all() {
		if strings.Contains(f.Reason, reason) {
			return true
		}
	}
	return false
}

func TestRulesDecideAboutThePath(t *testing.T) {
	deny := ruleText("deny", 4096, "Inbound", "Deny", "*", "*", "*")
	probe := ruleText("probe", 400, "Inbound", "Allow", "AzureLoadBalancer", "VirtualNetwork", "60000-60001")
	ssh := ruleText("ssh", 401, "Inbound", "Allow", "VirtualNetwork", "VirtualNetwork", "22")
	for _, tt := range []struct {
		name, rules string
		reached     bool
	}{
		{"closed", deny, false},
		{"the document's rule alone", deny + "," + probe, false},
		{"both rules", deny + "," + probe + "," + ssh, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n := newNetwork(t, proxied(network.Config{}, policyOf(t, tt.rules)))
			startProxy(t, n)
			g := plug(t, n)
			sshd(t, g)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			if !tt.reached {
				ctx, cancel = context.WithTimeout(t.Context(), time.Second)
			}
			defer cancel()
			c, err := n.DialGuest(ctx, 22)
			if err == nil {
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(time.Second))
				if tt.reached {
					say(t, c, "x")
					return
				}
				_, _ = c.Write([]byte("x"))
				if k, _ := c.Read(make([]byte, 1)); k == 1 {
					t.Error("a closed port answers")
				}
			} else if tt.reached {
				t.Fatal(err)
			}
		})
	}
}

func TestAProxyThatIsGoneIsUnhealthy(t *testing.T) {
	health := make(chan network.Health, 16)
	cfg := proxied(network.Config{}, policyOf(t, ""))
	cfg.Proxy.OnHealth = func(h network.Health, _ error) { health <- h }
	n := newNetwork(t, cfg)
	proxy := startProxy(t, n)
	g := plug(t, n)
	sshd(t, g)
	c, err := n.DialGuest(testContext(t), 22)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	say(t, c, "x")
	if h := <-health; h != network.Healthy {
		t.Fatalf("first %s", h)
	}
	if err := proxy.Close(); err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("a connection outlives its proxy")
	}
	select {
	case h := <-health:
		if h != network.Unhealthy {
			t.Errorf("then %s", h)
		}
	case <-testContext(t).Done():
		t.Fatal("the probe does not notice")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := n.DialGuest(ctx, 22); err == nil {
		t.Error("dialled without a proxy")
	}
	// A new proxy is found.
	startProxy(t, n)
	c, err = n.DialGuest(testContext(t), 22)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	say(t, c, "again")
}

func TestOnlyThePrivateLinkReachesTheBalancer(t *testing.T) {
	n := newNetwork(t, proxied(network.Config{}, policyOf(t, "")))
	startProxy(t, n)
	g := plug(t, n)
	sshd(t, g)
	if err := n.AwaitProxy(testContext(t)); err != nil {
		t.Fatal(err)
	}
	c, err := g.Dial(testContext(t), "tcp", netip.AddrPortFrom(lbAddr, 60001).String())
	if err != nil {
		return // refused at once is as good
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = c.Write([]byte("x"))
	if k, _ := c.Read(make([]byte, 1)); k != 0 {
		t.Error("the balancer carries a connection of the build vm")
	}
}

func TestPublicAddressTopology(t *testing.T) {
	group, err := nsg.Parse("group", json.RawMessage(`{"securityRules": [`+ruleText("builder", 100, "Inbound", "Allow", "AzureCloud", "*", "22")+`]}`))
	if err != nil {
		t.Fatal(err)
	}
	policy := nsg.Compile(nsg.Tags{
		nsg.TagVirtualNetwork: {network.BuildSubnet}, "AzureCloud": {netip.PrefixFrom(network.ServiceAddress, 32)},
	}, nil, &group)
	denied := make(chan network.Denial, 16)
	var world outside
	world.add("tcp "+outsideWeb, serve(t, echo))
	n := newNetwork(t, network.Config{
		Builder: network.ServiceAddress, Policy: policy, GuestPorts: []uint16{22, 80}, Dial: world.dial,
		OnDenied: func(_ string, d network.Denial) { denied <- d },
	})
	g := plug(t, n)
	sshd(t, g)
	web, err := g.Listen(80)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, web, echo)
	c, err := n.DialGuest(testContext(t), 22)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	say(t, c, "x")
	if !strings.HasPrefix(c.LocalAddr().String(), network.ServiceAddress.String()) {
		t.Errorf("the builder comes from %v", c.LocalAddr())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if c, err := n.DialGuest(ctx, 80); err == nil {
		c.Close()
		t.Error("a port without a rule is open")
	}
	select {
	case d := <-denied:
		if d.Direction != nsg.Inbound || d.Port != 80 || d.Rule.Rule != "DenyAllInBound" || d.Remote != network.ServiceAddress {
			t.Errorf("denied %+v", d)
		}
	default:
		t.Error("nobody was told of the denial")
	}
	out, err := g.Dial(testContext(t), "tcp", outsideWeb)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	say(t, out, "out")
}
