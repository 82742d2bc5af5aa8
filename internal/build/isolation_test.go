package build_test

import (
	"net/netip"
	"path/filepath"
	"testing"

	"goldsmith/internal/build"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/event"
)

// A build goes on from layers on whatever network it is given, but never from those
// of a build that could reach something else.
func TestLayersOfOtherNetworksAreNotReused(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	l := buildtest.Open(t, data, everyStep)
	further := buildtest.Open(t, data, everyStep, func(c *build.Config) {
		c.Egress.Allow = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}
	})
	putNetwork(t, l, buildtest.Location, "Disabled", "10.7.0.0/24")
	subnet := buildtest.Object{"subnetId": networkID(l, "virtualNetworks/v/subnets/build")}
	isolated := buildtest.Object{"subnetId": subnet["subnetId"], "containerInstanceSubnetId": networkID(l, "virtualNetworks/v/subnets/aci")}
	for _, c := range []struct {
		why    string
		lab    *buildtest.Lab
		config buildtest.Object
		steps  []buildtest.Object
		want   string
	}{
		{"private", l, nil, steps("a", "b", "c"), "|a b c"},
		{"on a subnet", l, subnet, steps("a", "b", "c"), "|a b c"},
		{"the last step changed there", l, subnet, steps("a", "b", "d"), "a b|d"},
		{"there without a proxy", l, isolated, steps("a", "b", "e"), "a b|e"},
		{"the last step changed in private", l, nil, steps("a", "b", "d"), "a b|d"},
		{"with more of the outside", further, nil, steps("a", "b", "d"), "|a b d"},
		{"and again", further, nil, steps("a", "b", "e"), "a b|e"},
		{"as before", l, nil, steps("a", "b", "e"), "a b|e"},
	} {
		template := buildtest.Template{Version: "2024-02-01", Customize: c.steps}
		if c.config != nil {
			template.VMProfile = buildtest.Object{"vnetConfig": c.config}
		}
		req := c.lab.Request("one", template)
		req.Cache.MaxAge = build.DefaultMaxAge
		_, got, events := mustBuild(t, c.lab, req)
		if got != c.want {
			t.Errorf("%s: %s, want %s\n%s", c.why, got, c.want, events.Text())
		}
		if c.want[0] == 'a' && !events.Has(event.Decision, "restored the state after step 2") {
			t.Errorf("%s: nothing was restored\n%s", c.why, events.Text())
		}
	}
}
