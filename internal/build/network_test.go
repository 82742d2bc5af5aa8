package build_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/event"
	"goldsmith/internal/machine/machinetest"
	"goldsmith/internal/network/topology"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
	"goldsmith/internal/vnet"
)

const networkGroup = "networks"

func networkID(l *buildtest.Lab, rest string) string {
	return "/subscriptions/" + l.Engine.Subscription() + "/resourceGroups/" + networkGroup + "/providers/Microsoft.Network/" + rest
}

// putNetwork makes a network "v" with the subnets "build" and "aci" and a security
// group "g" with rules.
func putNetwork(t testing.TB, l *buildtest.Lab, location, policies, prefix string, rules ...string) {
	t.Helper()
	put := func(id, typ, props string) {
		t.Helper()
		_, _, err := l.Engine.Resources().Put(t.Context(), resource.Record{
			ID: id, Type: typ, Name: id[strings.LastIndex(id, "/")+1:], Location: location, Properties: json.RawMessage(props),
		}, resource.Condition{})
		if err != nil {
			t.Fatal(err)
		}
	}
	group := networkID(l, "networkSecurityGroups/g")
	put(arm.GroupID(l.Engine.Subscription(), networkGroup), "Microsoft.Resources/resourceGroups", `{}`)
	put(group, vnet.TypeGroup, `{"securityRules": [`+strings.Join(rules, ",")+`]}`)
	put(networkID(l, "virtualNetworks/v"), vnet.TypeNetwork, fmt.Sprintf(`{"addressSpace": {"addressPrefixes": ["10.7.0.0/16"]}, "subnets": [
		{"name": "build", "properties": {"addressPrefix": %q, "networkSecurityGroup": {"id": %q}, "privateLinkServiceNetworkPolicies": %q}},
		{"name": "aci", "properties": {"addressPrefix": "10.7.1.0/24", "delegations": [{"name": "d", "properties": {"serviceName": "Microsoft.ContainerInstance/containerGroups"}}]}}]}`,
		prefix, group, policies))
}

// onNetwork is a template with a vnetConfig.
func onNetwork(version string, config buildtest.Object) buildtest.Template {
	return buildtest.Template{
		Version: version, Customize: []buildtest.Object{buildtest.Shell("one", "echo one")},
		VMProfile: buildtest.Object{"vnetConfig": config},
	}
}

func TestBuildOnAnExistingNetwork(t *testing.T) {
	for _, tt := range []struct {
		name, version string
		config        func(l *buildtest.Lab) buildtest.Object
		kind          string
		staged        []string // types that are there meanwhile
		none          []string
		guest         string
		rule          string // that lets the builder in
	}{
		{"by name", "2019-05-01-preview", func(*buildtest.Lab) buildtest.Object {
			return buildtest.Object{"name": "v", "subnetName": "build", "resourceGroupName": networkGroup}
		}, "proxied", []string{vnet.TypeLoadBalancer, vnet.TypeLinkService, vnet.TypePrivateEndpoint, vnet.TypeInterface}, []string{vnet.TypePublicAddress}, "10.7.0.7", "AllowVnetInBound"},
		{"by id", "2022-07-01", func(l *buildtest.Lab) buildtest.Object {
			return buildtest.Object{"subnetId": networkID(l, "virtualNetworks/v/subnets/build"), "proxyVmSize": "Standard_A2_v2"}
		}, "proxied", []string{vnet.TypeLoadBalancer, vnet.TypeLinkService, vnet.TypePrivateEndpoint}, []string{vnet.TypePublicAddress}, "10.7.0.7", "AllowVnetInBound"},
		{"isolated", "2024-02-01", func(l *buildtest.Lab) buildtest.Object {
			return buildtest.Object{"subnetId": networkID(l, "virtualNetworks/v/subnets/build"), "containerInstanceSubnetId": networkID(l, "virtualNetworks/v/subnets/aci")}
		}, "isolated", []string{vnet.TypeInterface}, []string{vnet.TypePublicAddress, vnet.TypeLoadBalancer, vnet.TypeLinkService}, "10.7.0.4", "AllowVnetInBound"},
		{"without", "2022-07-01", func(*buildtest.Lab) buildtest.Object { return buildtest.Object{} },
			"public", []string{vnet.TypePublicAddress, vnet.TypeGroup, vnet.TypeNetwork}, []string{vnet.TypeLoadBalancer}, "10.0.0.4", "builder"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := buildtest.New(t)
			putNetwork(t, l, buildtest.Location, "Disabled", "10.7.0.0/24")
			var during []resource.Record
			l.SetScript(buildtest.Script{Command: func(ctx context.Context, g *buildtest.Guest, command, text string) (int, bool) {
				if strings.Contains(text, "echo one") {
					during, _, _ = l.Engine.Resources().List(ctx, resource.Query{Scope: "/subscriptions/" + l.Engine.Subscription()})
				}
				return 0, false
			}})
			tpl := onNetwork(tt.version, tt.config(l))
			rec, recording, err := l.Build(t.Context(), l.Request("t", tpl))
			if err != nil {
				t.Fatal(err)
			}
			if rec.State != run.Succeeded {
				t.Fatalf("run is %s: %s", rec.State, rec.Message)
			}
			have := map[string]bool{}
			guest := false
			for _, r := range during {
				if strings.Contains(strings.ToLower(r.ID), "/resourcegroups/it_") {
					have[strings.ToLower(r.Type)] = true
				}
				guest = guest || strings.Contains(r.Name, "pkrni") && strings.Contains(string(r.Properties), tt.guest)
			}
			for _, typ := range tt.staged {
				if !have[strings.ToLower(typ)] {
					t.Errorf("no %s was there meanwhile", typ)
				}
			}
			for _, typ := range tt.none {
				if have[strings.ToLower(typ)] {
					t.Errorf("a %s was there", typ)
				}
			}
			if !guest {
				t.Errorf("no card has %s", tt.guest)
			}
			var kind string
			var last topology.Topology
			for _, e := range recording.Events() {
				if e.Kind == event.Topology {
					drawn, err := topology.Decode(e.Text)
					if err != nil {
						t.Fatal(err)
					}
					kind, last = drawn.Kind, drawn
				}
			}
			if kind != tt.kind {
				t.Errorf("topology %q, want %q", kind, tt.kind)
			}
			if !slices.ContainsFunc(last.Nodes, func(n topology.Node) bool { return n.Name == "build vm" && n.Address == tt.guest }) {
				t.Errorf("the drawing has no build vm at %s: %+v", tt.guest, last.Nodes)
			}
			if !slices.ContainsFunc(last.Rules, func(r topology.Rule) bool {
				return r.Card == "build" && r.Direction == "inbound" && r.Allow && r.Name == tt.rule && r.Count > 0
			}) {
				t.Errorf("the drawing does not say that rule %s let the builder in: %+v", tt.rule, last.Rules)
			}
			l.CheckClean(rec)
		})
	}
}

func TestTheChecklistStopsABuildBeforeItsMachine(t *testing.T) {
	deny := `{"name": "deny", "properties": {"priority": 4000, "direction": "Inbound", "access": "Deny", "protocol": "*",
		"sourceAddressPrefix": "*", "sourcePortRange": "*", "destinationAddressPrefix": "*", "destinationPortRange": "*"}}`
	for _, tt := range []struct {
		name, location, policies, prefix string
		rules                            []string
		want                             []string
	}{
		{"rules", buildtest.Location, "Disabled", "10.7.0.0/24", []string{deny}, []string{"the load balancer cannot reach the proxy vm on port 60001", "az network nsg rule create", "the proxy vm cannot reach the build vm on port 22"}},
		{"policies", buildtest.Location, "Enabled", "10.7.0.0/24", nil, []string{"--disable-private-link-service-network-policies true"}},
		{"region", "northeurope", "Disabled", "10.7.0.0/24", nil, []string{"the network must be in the region of the service"}},
		{"full", buildtest.Location, "Disabled", "10.7.0.0/29", nil, []string{"has 3 free addresses; the build needs 4"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := buildtest.New(t)
			putNetwork(t, l, tt.location, tt.policies, tt.prefix, tt.rules...)
			tpl := onNetwork("2020-02-14", buildtest.Object{"subnetId": networkID(l, "virtualNetworks/v/subnets/build")})
			_, _, err := l.Build(t.Context(), l.Request("t", tpl))
			if err == nil {
				t.Fatal("built")
			}
			for _, want := range tt.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %v\nwant %q", err, want)
				}
			}
			if calls := l.Fake.Calls(); len(calls) > 0 {
				t.Errorf("machines: %v", calls)
			}
		})
	}
}

func TestAProxyThatDiesFailsTheBuild(t *testing.T) {
	l := buildtest.New(t)
	putNetwork(t, l, buildtest.Location, "Disabled", "10.7.0.0/24")
	board := make(chan *machinetest.Board, 1)
	l.SetScript(buildtest.Script{
		Proxy: func(b *machinetest.Board) { board <- b },
		Command: func(ctx context.Context, _ *buildtest.Guest, _, text string) (int, bool) {
			if strings.Contains(text, "echo one") {
				(<-board).Crash(errors.New("killed"))
				<-ctx.Done()
			}
			return 0, false
		},
	})
	tpl := onNetwork("2020-02-14", buildtest.Object{"subnetId": networkID(l, "virtualNetworks/v/subnets/build")})
	rec, _, err := l.Build(t.Context(), l.Request("t", tpl))
	if err == nil || !strings.Contains(err.Error(), "the proxy vm is gone") {
		t.Fatalf("got %v", err)
	}
	if rec.State != run.Failed {
		t.Errorf("run is %s", rec.State)
	}
	l.CheckClean(rec)
}

// A saved proxy VM that no build was given for long goes, and is made again.
func TestSavedProxiesAreCollected(t *testing.T) {
	l := buildtest.New(t)
	putNetwork(t, l, buildtest.Location, "Disabled", "10.7.0.0/24")
	tpl := onNetwork("2022-07-01", buildtest.Object{"subnetId": networkID(l, "virtualNetworks/v/subnets/build")})
	built := func(name string) {
		t.Helper()
		if rec, events, err := l.Build(t.Context(), l.Request(name, tpl)); err != nil || rec.State != run.Succeeded {
			t.Fatalf("%v\n%s", err, events.Text())
		}
	}
	collected := func(want int) {
		t.Helper()
		if c, err := l.Engine.Collect(t.Context()); err != nil || c.Proxies != want {
			t.Fatalf("%d saved proxy vms are collected, want %d: %v", c.Proxies, want, err)
		}
	}
	age := func() {
		t.Helper()
		long := time.Now().Add(-30 * 24 * time.Hour)
		saved, err := filepath.Glob(filepath.Join(l.Data, "proxyvm", "*", "state"))
		if err != nil || len(saved) != 1 {
			t.Fatalf("saved proxy vms: %v, %v", saved, err)
		}
		if err := os.Chtimes(filepath.Dir(saved[0]), long, long); err != nil {
			t.Fatal(err)
		}
	}
	built("one")
	collected(0)
	age()
	built("two")
	collected(0)
	age()
	collected(1)
	built("three")
}

// A booted image is a member of a network: builds there reach its port while it
// runs, and not afterwards.
func TestAMachineIsAMemberOfANetwork(t *testing.T) {
	l := buildtest.New(t)
	putNetwork(t, l, buildtest.Location, "Disabled", "10.7.0.0/24")
	rec, _, err := l.Build(t.Context(), l.Request("first", buildtest.Template{}))
	if err != nil {
		t.Fatal(err)
	}
	image, err := l.Engine.FindImage(t.Context(), rec.Outputs[0].ArtifactID)
	if err != nil {
		t.Fatal(err)
	}
	joined := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	member := build.Member{VNet: networkID(l, "virtualNetworks/v"), Name: "db.corp", At: netip.MustParseAddr("10.7.0.60"), Ports: []uint16{22}}
	boot := func(ctx context.Context, m build.Member, sink event.Sink) error {
		_, err := l.Engine.Boot(ctx, image.ShortName(), image.Content, build.BootOptions{Member: &m}, sink)
		return err
	}
	ended := make(chan error, 1)
	go func() {
		ended <- boot(ctx, member, event.SinkFunc(func(e event.Event) {
			if strings.Contains(e.Text, "reach the machine at 10.7.0.60") {
				close(joined)
			}
		}))
	}()
	select {
	case <-joined:
	case err := <-ended:
		t.Fatal(err)
	}
	if err := boot(t.Context(), member, event.Discard); !arm.IsCode(err, arm.CodeConflict) {
		t.Errorf("a second member at the address: %v", err)
	}

	// The lowest address of the subnet is published, too: no build is given it.
	err = l.Engine.ChangeNetworkSettings(t.Context(), member.VNet, func(s *build.NetworkSettings) error {
		s.Exposed = append(s.Exposed, build.Exposed{At: netip.MustParseAddrPort("10.7.0.4:80"), Target: "127.0.0.1:9"})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}

	var said string
	var during []resource.Record
	l.SetScript(buildtest.Script{Command: func(ctx context.Context, g *buildtest.Guest, _, text string) (int, bool) {
		if strings.Contains(text, "echo one") {
			c, err := g.Dial(ctx, "10.7.0.60:22")
			if err != nil {
				said = err.Error()
				return 0, false
			}
			defer c.Close()
			during, _, _ = l.Engine.Resources().List(ctx, resource.Query{Scope: "/subscriptions/" + l.Engine.Subscription()})
			said, _ = bufio.NewReader(c).ReadString('\n')
		}
		return 0, false
	}})
	tpl := onNetwork("2022-07-01", buildtest.Object{"subnetId": networkID(l, "virtualNetworks/v/subnets/build")})
	if rec, events, err := l.Build(t.Context(), l.Request("two", tpl)); err != nil || rec.State != run.Succeeded {
		t.Fatalf("%v\n%s", err, events.Text())
	}
	if !strings.HasPrefix(said, "SSH-2.0-") {
		t.Errorf("the member says %q", said)
	}
	for _, r := range during {
		if strings.Contains(string(r.Properties), `"10.7.0.4"`) {
			t.Errorf("%s has the address of the exposed service", r.ID)
		}
	}
	// A rule of the member's subnet keeps builds from it.
	putNetwork(t, l, buildtest.Location, "Disabled", "10.7.0.0/24", `{"name": "no-db", "properties": {"priority": 200, "direction": "Inbound", "access": "Deny",
		"protocol": "Tcp", "sourceAddressPrefix": "VirtualNetwork", "sourcePortRange": "*", "destinationAddressPrefix": "10.7.0.60", "destinationPortRange": "22"}}`)
	said = ""
	denied, events, err := l.Build(t.Context(), l.Request("three", tpl))
	if err != nil || denied.State != run.Succeeded {
		t.Fatalf("%v\n%s", err, events.Text())
	}
	if strings.HasPrefix(said, "SSH-2.0-") || said == "" {
		t.Errorf("behind a rule that denies it the member says %q", said)
	}
	if !strings.Contains(events.Text(), "the build vm may not reach the machine at 10.7.0.60:22: denied by rule no-db (priority 200)") {
		t.Errorf("no warning:\n%s", events.Text())
	}
	cancel()
	if err := <-ended; err == nil || !errors.Is(err, context.Canceled) {
		t.Errorf("the member ended with %v", err)
	}
	settings, err := l.Engine.NetworkSettings(t.Context(), member.VNet)
	if err != nil || len(settings.Exposed) != 1 {
		t.Errorf("left: %+v, %v", settings.Exposed, err)
	}
}
