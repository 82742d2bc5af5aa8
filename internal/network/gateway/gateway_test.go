package gateway

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"goldsmith/internal/network/netswitch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNewRefusesAGatewayOutsideItsSubnet(t *testing.T) {
	_, err := New(netswitch.New(), Config{Addr: netip.MustParseAddr("10.1.0.1"), Subnet: netip.MustParsePrefix("10.0.0.0/24")})
	if err == nil || !strings.Contains(err.Error(), "10.1.0.1") {
		t.Errorf("got %v", err)
	}
}

func TestNewUndoesWhatItStarted(t *testing.T) {
	sw := netswitch.New()
	cfg := Config{Name: "gw", MAC: serverMAC, Addr: serverAddr, Subnet: netip.MustParsePrefix("10.0.0.0/24")}
	first, err := New(sw, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(sw, cfg); err == nil {
		t.Error("two gateways with one hardware address")
	}
	if _, err := first.Dial(t.Context(), netip.MustParseAddrPort("192.168.1.1:22")); err == nil {
		t.Error("dialled out of the subnet")
	}
	for range 2 {
		if err := first.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := first.Dial(t.Context(), netip.MustParseAddrPort("10.0.0.4:22")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed gateway dials: %v", err)
	}
	if err := sw.Close(); err != nil {
		t.Error(err)
	}
}

// A local route can make any address the host's own; only the connection shows.
func TestDialHostHangsUpOnItself(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	to := netip.MustParseAddrPort(l.Addr().String())
	var refused refusedError
	if c, err := dialHost(Egress{})(t.Context(), "tcp", to); !errors.As(err, &refused) {
		t.Errorf("got %v, %v", c, err)
	}
	c, err := dialHost(Egress{Allow: prefixes("127.0.0.0/8")})(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestOpenAsksThePolicyUnlessPublished(t *testing.T) {
	outside, service := errors.New("went outside"), errors.New("went to the service")
	g := offline("198.51.100.7/24")
	g.cfg.Dial = func(context.Context, string, netip.AddrPort) (net.Conn, error) { return nil, outside }
	g.cfg.Services = map[netip.AddrPort]Service{
		netip.MustParseAddrPort("169.254.169.254:80"): func(context.Context) (net.Conn, error) { return nil, service },
	}
	tests := []struct{ network, addr, want string }{
		{"tcp", "169.254.169.254:80", service.Error()},
		{"tcp", "169.254.169.254:81", "link-local"},
		{"udp", "169.254.169.254:80", "link-local"}, // services are TCP
		{"tcp", "10.0.0.1:80", "nothing is published"},
		{"tcp", "198.51.100.7:80", "address of the host"},
		{"tcp", "93.184.216.34:12345", outside.Error()},
		{"udp", "93.184.216.34:123", outside.Error()},
	}
	for _, tt := range tests {
		_, err := g.open(t.Context(), tt.network, netip.MustParseAddrPort(tt.addr))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %s: got %v, want %q", tt.network, tt.addr, err, tt.want)
		}
	}
	g.cfg.HostNetworks = func() ([]netip.Prefix, error) { return nil, errors.New("no netlink") }
	if _, err := g.open(t.Context(), "tcp", netip.MustParseAddrPort("93.184.216.34:80")); errors.Is(err, outside) {
		t.Error("dialled without knowing the host's addresses")
	}
}

func TestHostResolversAreAddresses(t *testing.T) {
	servers, err := hostResolvers()
	if err != nil {
		if !strings.Contains(err.Error(), "dns server") {
			t.Errorf("got %v", err)
		}
		return
	}
	if slices.ContainsFunc(servers, func(a netip.AddrPort) bool { return !a.IsValid() || a.Port() != dnsPort }) {
		t.Errorf("got %v", servers)
	}
}

func TestLastOf(t *testing.T) {
	for p, want := range map[string]string{"10.0.0.0/24": "10.0.0.255", "10.0.0.77/26": "10.0.0.127", "10.0.0.1/32": "10.0.0.1", "0.0.0.0/0": "255.255.255.255"} {
		if got := lastOf(netip.MustParsePrefix(p)).String(); got != want {
			t.Errorf("%s: got %s, want %s", p, got, want)
		}
	}
}
