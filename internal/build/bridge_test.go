package build_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/event"
	"goldsmith/internal/network/bridge/bridgetest"
	"goldsmith/internal/run"
)

// onBridges maps a subnet of putNetwork to a bridge.
func onBridges(t testing.TB, text string) buildtest.Option {
	t.Helper()
	b, err := build.ParseBridgedSubnet(text)
	if err != nil {
		t.Fatal(err)
	}
	return func(c *build.Config) { c.Bridges = append(c.Bridges, b) }
}

// A build in a subnet that is on a bridge of the host reaches a server there, behind
// a proxy VM and isolated.
func TestBuildOnABridge(t *testing.T) {
	if !bridgetest.Apart(t) {
		return
	}
	bridgetest.Make(t, "br-test", netip.Prefix{})
	server := bridgetest.Host(t, "br-test", "52:54:00:aa:bb:cc", netip.MustParsePrefix("10.7.0.200/24"))
	listener, err := server.Listen(80)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, "the server on the bridge")
			_ = c.Close()
		}
	}()
	defer func() {
		_ = listener.Close()
		<-served
	}()
	before, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"proxied", "isolated"} {
		l := buildtest.New(t, onBridges(t, strings.ToUpper(networkGroup)+"/v/build=br-test"))
		putNetwork(t, l, buildtest.Location, "Disabled", "10.7.0.0/24")
		if err := l.Engine.CheckBridges(t.Context()); err != nil {
			t.Error(err)
		}
		var said string
		l.SetScript(buildtest.Script{Command: func(ctx context.Context, g *buildtest.Guest, _, text string) (int, bool) {
			if strings.Contains(text, "echo one") {
				c, err := g.Dial(ctx, "10.7.0.200:80")
				if err != nil {
					said = err.Error()
					return 0, false
				}
				defer c.Close()
				b, err := io.ReadAll(c)
				if said = string(b); err != nil {
					said = err.Error()
				}
			}
			return 0, false
		}})
		config := buildtest.Object{"subnetId": networkID(l, "virtualNetworks/v/subnets/build")}
		if kind == "isolated" {
			config["containerInstanceSubnetId"] = networkID(l, "virtualNetworks/v/subnets/aci")
		}
		rec, recording, err := l.Build(t.Context(), l.Request("t", onNetwork("2024-02-01", config)))
		if err != nil || rec.State != run.Succeeded {
			t.Fatalf("%s: %v\n%s", kind, err, recording.Text())
		}
		if said != "the server on the bridge" {
			t.Errorf("%s: the guest heard %q", kind, said)
		}
		drawn := false
		for _, e := range recording.Events() {
			drawn = drawn || e.Kind == event.Topology && strings.Contains(e.Text, "bridge br-test")
		}
		if !drawn {
			t.Errorf("%s: the drawing has no bridge", kind)
		}
		l.CheckClean(rec)
		if after, err := net.Interfaces(); err != nil || len(after) != len(before) {
			t.Errorf("%s: interfaces %v are left of %v (%v)", kind, after, before, err)
		}
	}
}

func TestABridgeThatIsNotThereStopsABuildBeforeItsMachine(t *testing.T) {
	l := buildtest.New(t, onBridges(t, networkGroup+"/v/build=br-none"), onBridges(t, networkGroup+"/v/other=br-none"))
	putNetwork(t, l, buildtest.Location, "Disabled", "10.7.0.0/24")
	tpl := onNetwork("2022-07-01", buildtest.Object{"subnetId": networkID(l, "virtualNetworks/v/subnets/build")})
	_, _, err := l.Build(t.Context(), l.Request("t", tpl))
	if err == nil || !strings.Contains(err.Error(), "ip link add br-none type bridge") {
		t.Errorf("got %v", err)
	}
	if calls := l.Fake.Calls(); len(calls) > 0 {
		t.Errorf("machines: %v", calls)
	}
	if err := l.Engine.CheckBridges(t.Context()); err == nil || !strings.Contains(err.Error(), "az network vnet subnet create -g networks --vnet-name v -n other") {
		t.Errorf("a subnet that does not exist: %v", err)
	}
}

func TestParseBridgedSubnet(t *testing.T) {
	got, err := build.ParseBridgedSubnet("g/v/s=br0")
	if want := (build.BridgedSubnet{Group: "g", Network: "v", Subnet: "s", Bridge: "br0"}); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	for _, text := range []string{"", "g/v/s", "g/v=br0", "g/v/s=", "g//s=br0", "/g/v/s=br0"} {
		if _, err := build.ParseBridgedSubnet(text); !arm.IsCode(err, arm.CodeUsage) {
			t.Errorf("%q: %v", text, err)
		}
	}
}
