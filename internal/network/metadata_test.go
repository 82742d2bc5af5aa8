package network_test

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"goldsmith/internal/network"
)

// The metadata endpoint is there whatever the security groups say, directly and
// not by a proxy VM; where nobody serves it, nobody answers.
func TestSecurityGroupsDoNotConcernMetadata(t *testing.T) {
	metadata := netip.MustParseAddrPort("169.254.169.254:80")
	server := serve(t, echo)
	served := map[netip.AddrPort]network.Service{metadata: func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", server)
	}}
	closed := policyOf(t, ruleText("out", 100, "Outbound", "Deny", "*", "*", "*")+","+ruleText("in", 100, "Inbound", "Deny", "*", "*", "*"))
	for name, make := range map[string]func(network.Config) network.Config{
		"of the build's own": func(c network.Config) network.Config { c.Policy = closed; return c },
		"of the user's":      func(c network.Config) network.Config { return proxied(c, closed) },
	} {
		t.Run(name, func(t *testing.T) {
			g := plug(t, newNetwork(t, make(network.Config{Services: served})))
			c, err := g.Dial(testContext(t), "tcp", metadata.String())
			if err != nil {
				t.Fatal(err)
			}
			exchange(t, c, []byte("token"))
			_ = c.Close()

			alone := plug(t, newNetwork(t, make(network.Config{})))
			for address, guest := range map[string]interface {
				Dial(context.Context, string, string) (net.Conn, error)
			}{"169.254.169.254:81": g, metadata.String(): alone} {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				if c, err := guest.Dial(ctx, "tcp", address); err == nil {
					_ = c.Close()
					t.Errorf("%s answers", address)
				}
				cancel()
			}
		})
	}
}
