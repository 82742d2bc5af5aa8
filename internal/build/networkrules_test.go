package build_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"goldsmith/internal/build"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/event"
	"goldsmith/internal/vnet"
)

// rule is a security rule, with its fields in the order of what identifies it and
// what it does.
func rule(name string, priority int, direction, access, destination, port string) string {
	text, _ := json.Marshal(buildtest.Object{"name": name, "properties": buildtest.Object{ // strings and a number
		"priority": priority, "direction": direction, "access": access, "protocol": "Tcp",
		"sourceAddressPrefix": "*", "sourcePortRange": "*", "destinationAddressPrefix": destination, "destinationPortRange": port,
	}})
	return string(text)
}

// A network that changes after the keys of the layers were made and before the machine
// has its card ends the build: its layers would be of neither network.
func TestNetworkThatChangesWhileABuildIsPrepared(t *testing.T) {
	l := buildtest.New(t)
	put := func(rules ...string) { putNetwork(t, l, buildtest.Location, "Disabled", "10.7.0.0/24", rules...) }
	put()
	req := l.Request("one", buildtest.Template{Version: "2024-02-01", Customize: steps("a"),
		VMProfile: buildtest.Object{"vnetConfig": buildtest.Object{"subnetId": networkID(l, "virtualNetworks/v") + "/subnets/build"}}})
	rec, err := l.Engine.Build(t.Context(), req, event.SinkFunc(func(e event.Event) {
		if e.Kind == event.Info && strings.HasPrefix(e.Text, "source ") { // the keys are made
			put(rule("mail", 300, "Outbound", "Deny", "*", "25"))
		}
	}))
	if err == nil || !strings.Contains(err.Error(), "the rules of the network changed while the build was prepared: build again") {
		t.Errorf("the build of a changed network: %v", err)
	}
	l.CheckClean(rec)
	if _, _, err := l.Build(t.Context(), req); err != nil {
		t.Errorf("the next build: %v", err)
	}
}

// A layer of a subnet is of use for as long as what a step reaches there is the same.
func TestLayersGoByTheRulesOfTheNetwork(t *testing.T) {
	l := buildtest.New(t, everyStep)
	network := networkID(l, "virtualNetworks/v")
	rules := func(rules ...string) func() {
		return func() { putNetwork(t, l, buildtest.Location, "Disabled", "10.7.0.0/24", rules...) }
	}
	settings := func(change func(*build.NetworkSettings)) func() {
		return func() {
			err := l.Engine.ChangeNetworkSettings(t.Context(), network, func(s *build.NetworkSettings) error {
				change(s)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	zone := networkID(l, "privateDnsZones/corp.example")
	record := func(address string) func() {
		return func() {
			l.Put(zone, vnet.TypeZone, buildtest.Object{})
			l.Put(zone+"/virtualNetworkLinks/v", vnet.TypeZoneLink, buildtest.Object{"virtualNetwork": buildtest.Object{"id": network}})
			l.Put(zone+"/A/mirror", vnet.TypeZoneRecord, buildtest.Object{"aRecords": []buildtest.Object{{"ipv4Address": address}}})
		}
	}
	web, mail := rule("web", 200, "Outbound", "Deny", "192.0.2.0/24", "80"), rule("mail", 300, "Outbound", "Deny", "*", "25")
	service := build.Exposed{Name: "git", At: netip.MustParseAddrPort("10.7.0.200:443"), Target: "127.0.0.1:443"}
	for _, c := range []struct {
		change func()
		why    string
		reused bool
	}{
		{rules(web, mail), "the first build", false},
		{func() {}, "nothing changed", true},
		{rules(rule("www", 210, "Outbound", "Deny", "192.0.2.0/24", "80"), rule("smtp", 310, "Outbound", "Deny", "*", "25")), "other names and priorities in the same order", true},
		{rules(mail, web), "another order on the wire", true},
		{rules(mail, rule("web", 200, "Outbound", "Deny", "192.0.2.0/24", "8080")), "another port", false},
		{rules(mail), "a rule less", false},
		{func() {
			l.Put(networkID(l, "networkSecurityGroups/other"), vnet.TypeGroup, json.RawMessage(`{"securityRules": [`+web+`]}`))
		}, "a group of nobody", true},
		{settings(func(s *build.NetworkSettings) { s.Allow = []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")} }), "more of the outside", false},
		{settings(func(s *build.NetworkSettings) { s.Siloed = true }), "nothing but that", false},
		{settings(func(s *build.NetworkSettings) { s.Exposed = []build.Exposed{service} }), "a published service", false},
		{settings(func(s *build.NetworkSettings) { s.Exposed[0].Target = "127.0.0.1:444" }), "another one in its place", false},
		{record("10.7.0.7"), "a name", false},
		{record("10.7.0.8"), "its address", false},
		{record("10.7.0.7"), "as two builds before", true},
	} {
		c.change()
		req := l.Request("one", buildtest.Template{Version: "2024-02-01", Customize: steps("a", "b"),
			VMProfile: buildtest.Object{"vnetConfig": buildtest.Object{"subnetId": network + "/subnets/build"}}})
		req.Cache.MaxAge, req.Cache.Explain = build.DefaultMaxAge, true
		_, got, events := mustBuild(t, l, req)
		want := "|a b"
		if c.reused {
			want = "a b|"
		}
		if got != want {
			t.Fatalf("%s: %s, want %s\n%s", c.why, got, want, events.Text())
		}
		if !c.reused && c.why != "the first build" && !events.Has(event.Decision, "since the last run the network's rules changed") {
			t.Errorf("%s: no reason is given\n%s", c.why, events.Text())
		}
	}
}
