package nsg

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var testTags = Tags{
	TagVirtualNetwork: {netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.2.0.0/16")},
	"Storage":         {netip.MustParsePrefix("198.51.100.0/24")},
}

func rule(name string, priority int, d Direction, allow bool, proto Protocol, from, to, port string) Rule {
	r := Rule{Name: name, Priority: priority, Direction: d, Allow: allow, Protocol: proto,
		Sources: strings.Split(from, ","), Destinations: strings.Split(to, ","), SourcePorts: allPorts}
	for _, p := range strings.Split(port, ",") {
		ports, err := ParsePorts(p)
		if err != nil {
			panic(err)
		}
		r.DestinationPorts = append(r.DestinationPorts, ports)
	}
	return r
}

func packet(proto Protocol, from, to string, port uint16) Packet {
	return Packet{Protocol: proto, Source: netip.MustParseAddr(from), Destination: netip.MustParseAddr(to), SourcePort: 40000, DestinationPort: port}
}

func TestDecide(t *testing.T) {
	subnet := &Group{ID: "subnet", Rules: []Rule{
		rule("deny-all", 4096, Inbound, false, AnyProtocol, "*", "*", "*"),
		rule("probe", 400, Inbound, true, TCP, "AzureLoadBalancer", "VirtualNetwork", "60000-60001"),
		rule("no-smtp", 300, Outbound, false, TCP, "*", "Internet", "25,465"),
		rule("no-storage", 301, Outbound, false, TCP, "*", "Storage.WestEurope", "443"),
		rule("web", 500, Inbound, true, TCP, "203.0.113.7,203.0.113.128/25", "10.1.0.4", "443"),
	}}
	card := &Group{ID: "card", Rules: []Rule{rule("no-web", 200, Inbound, false, TCP, "*", "*", "443")}}
	tests := []struct {
		name         string
		subnet, card *Group
		d            Direction
		p            Packet
		allowed      bool
		by           string // names of the rules, in order
	}{
		{"no groups", nil, nil, Inbound, packet(TCP, "203.0.113.7", "10.1.0.4", 22), true, ""},
		{"default within", &Group{ID: "g"}, nil, Inbound, packet(UDP, "10.2.3.4", "10.1.0.4", 53), true, "AllowVnetInBound"},
		{"default probe", &Group{ID: "g"}, nil, Inbound, packet(TCP, "168.63.129.16", "10.1.0.4", 60001), true, "AllowAzureLoadBalancerInBound"},
		{"default from outside", &Group{ID: "g"}, nil, Inbound, packet(TCP, "203.0.113.7", "10.1.0.4", 22), false, "DenyAllInBound"},
		{"default to outside", &Group{ID: "g"}, nil, Outbound, packet(TCP, "10.1.0.4", "203.0.113.7", 443), true, "AllowInternetOutBound"},
		{"default to loopback", &Group{ID: "g"}, nil, Outbound, packet(TCP, "10.1.0.4", "127.0.0.1", 443), false, "DenyAllOutBound"},
		{"the checklist's rule", subnet, nil, Inbound, packet(TCP, "168.63.129.16", "10.1.0.4", 60000), true, "probe"},
		{"beside its ports", subnet, nil, Inbound, packet(TCP, "168.63.129.16", "10.1.0.4", 60002), false, "deny-all"},
		{"deny-all closes the network", subnet, nil, Inbound, packet(TCP, "10.1.0.9", "10.1.0.4", 22), false, "deny-all"},
		{"subnet then card", subnet, card, Inbound, packet(TCP, "203.0.113.7", "10.1.0.4", 443), false, "web no-web"},
		{"subnet denies first", subnet, card, Inbound, packet(TCP, "203.0.113.8", "10.1.0.4", 443), false, "deny-all"},
		{"second prefix", subnet, nil, Inbound, packet(TCP, "203.0.113.200", "10.1.0.4", 443), true, "web"},
		{"other protocol", subnet, nil, Inbound, packet(UDP, "203.0.113.200", "10.1.0.4", 443), false, "deny-all"},
		{"port list", subnet, nil, Outbound, packet(TCP, "10.1.0.4", "203.0.113.7", 465), false, "no-smtp"},
		{"regional tag", subnet, nil, Outbound, packet(TCP, "10.1.0.4", "198.51.100.1", 443), false, "no-storage"},
		{"card then subnet going out", subnet, card, Outbound, packet(TCP, "10.1.0.4", "203.0.113.7", 80), true, "AllowInternetOutBound AllowInternetOutBound"},
		{"icmp", &Group{ID: "g", Rules: []Rule{rule("ping", 100, Inbound, true, ICMP, "*", "*", "*")}}, nil, Inbound,
			Packet{Protocol: ICMP, Source: netip.MustParseAddr("203.0.113.7"), Destination: netip.MustParseAddr("10.1.0.4")}, true, "ping"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := Compile(testTags, tt.subnet, tt.card)
			got := p.Decide(tt.d, tt.p)
			var names []string
			for _, m := range got.Matches {
				names = append(names, m.Rule)
			}
			if by := strings.Join(names, " "); got.Allowed != tt.allowed || by != tt.by {
				t.Errorf("allowed %t by %q, want %t by %q", got.Allowed, by, tt.allowed, tt.by)
			}
			if p.Allows(tt.d, tt.p) != got.Allowed {
				t.Error("Allows and Decide differ")
			}
		})
	}
}

func TestUnknownTags(t *testing.T) {
	p := Compile(testTags, &Group{ID: "g", Rules: []Rule{
		rule("a", 100, Outbound, false, TCP, "Sql", "Storage", "*"), rule("b", 101, Inbound, true, TCP, "Sql,ApiManagement", "*", "*"),
	}}, nil)
	if diff := cmp.Diff([]string{"ApiManagement", "Sql"}, p.Unknown()); diff != "" {
		t.Error(diff)
	}
	if p.Allows(Inbound, packet(TCP, "203.0.113.7", "10.1.0.4", 80)) {
		t.Error("a tag without prefixes matches")
	}
}

const goodRule = `{"name": "r", "properties": {"priority": 100, "direction": "inbound", "access": "ALLOW", "protocol": "tcp",
	"sourceAddressPrefixes": ["10.0.0.5", "10.9.0.0/16"], "destinationAddressPrefix": "VirtualNetwork", "sourcePortRange": "*", "destinationPortRanges": ["22", "5000-6000"]}}`

func TestParse(t *testing.T) {
	g, err := Parse("id", json.RawMessage(`{"securityRules": [`+goodRule+`]}`), json.RawMessage(goodRule))
	if err != nil {
		t.Fatal(err)
	}
	want := Group{ID: "id", Rules: []Rule{{
		Name: "r", Priority: 100, Direction: Inbound, Allow: true, Protocol: TCP,
		Sources: []string{"10.0.0.5", "10.9.0.0/16"}, Destinations: []string{"VirtualNetwork"},
		SourcePorts: []PortRange{AllPorts}, DestinationPorts: []PortRange{{22, 22}, {5000, 6000}},
	}}}
	if diff := cmp.Diff(want, g); diff != "" {
		t.Error(diff)
	}
}

func TestParseRefuses(t *testing.T) {
	tests := []struct{ name, old, new, want string }{
		{"priority", "100", "4097", "not between 100 and 4096"},
		{"direction", "inbound", "sideways", "neither Inbound nor Outbound"},
		{"access", "ALLOW", "maybe", "neither Allow nor Deny"},
		{"protocol", `"tcp"`, `"sctp"`, "protocol \"sctp\" is none of"},
		{"prefix", "10.9.0.0/16", "10.9.0.0/40", "no address, prefix or service tag"},
		{"range", "5000-6000", "6000-5000", "neither *, a port, nor a range"},
		{"both forms", `"sourcePortRange": "*"`, `"sourcePortRange": "*", "sourcePortRanges": ["1"]`, "both alone and as a list"},
		{"nothing", `"sourcePortRange": "*",`, ``, "no source port range is given"},
		{"application group", `"priority"`, `"sourceApplicationSecurityGroups": [{}], "priority"`, "not supported"},
		{"name", `"r"`, `""`, "no name"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseRule(json.RawMessage(strings.Replace(goodRule, tt.old, tt.new, 1)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	twice := strings.Replace(goodRule, `"r"`, `"s"`, 1)
	if _, err := Parse("id", json.RawMessage(`{"securityRules": [`+goodRule+`,`+twice+`]}`)); err == nil || !strings.Contains(err.Error(), "both Inbound with priority 100") {
		t.Errorf("equal priorities: %v", err)
	}
}

// anyGroup draws a group with rules of distinct priorities.
func anyGroup(t *rapid.T, label string) *Group {
	terms := []string{"*", "VirtualNetwork", "Internet", "AzureLoadBalancer", "Storage", "10.1.0.0/24", "10.1.0.4", "203.0.113.0/24"}
	g := &Group{ID: label}
	for _, priority := range rapid.SliceOfNDistinct(rapid.IntRange(MinPriority, MaxPriority), 0, 12, rapid.ID[int]).Draw(t, label+" priorities") {
		first := rapid.Uint16().Draw(t, "port")
		g.Rules = append(g.Rules, Rule{
			Name: fmt.Sprint("r", priority), Priority: priority,
			Direction: rapid.SampledFrom([]Direction{Inbound, Outbound}).Draw(t, "direction"),
			Allow:     rapid.Bool().Draw(t, "allow"),
			Protocol:  rapid.SampledFrom([]Protocol{AnyProtocol, TCP, UDP, ICMP}).Draw(t, "protocol"),
			Sources:   []string{rapid.SampledFrom(terms).Draw(t, "source")}, Destinations: []string{rapid.SampledFrom(terms).Draw(t, "destination")},
			SourcePorts: allPorts, DestinationPorts: []PortRange{{first, max(first, rapid.Uint16().Draw(t, "last"))}},
		})
	}
	return g
}

func anyPacket(t *rapid.T) Packet {
	addrs := []string{"10.1.0.4", "10.1.0.9", "10.2.0.1", "203.0.113.7", "198.51.100.3", "168.63.129.16", "192.0.2.1"}
	addr := func(l string) netip.Addr { return netip.MustParseAddr(rapid.SampledFrom(addrs).Draw(t, l)) }
	return Packet{rapid.SampledFrom([]Protocol{TCP, UDP, ICMP}).Draw(t, "proto"), addr("from"), addr("to"),
		rapid.Uint16().Draw(t, "sport"), rapid.Uint16().Draw(t, "dport")}
}

func anyDirection(t *rapid.T) Direction {
	return rapid.SampledFrom([]Direction{Inbound, Outbound}).Draw(t, "dir")
}

func TestTheLowestMatchingPriorityDecides(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g, p, d := anyGroup(t, "g"), anyPacket(t), anyDirection(t)
		got := Compile(testTags, g, nil).Decide(d, p).Matches[0]
		// A rule alone, before the default rules, decides exactly when it matches.
		var want *Rule
		for _, r := range g.Rules {
			if r.Direction != d || (want != nil && r.Priority >= want.Priority) {
				continue
			}
			if m := Compile(testTags, &Group{Rules: []Rule{r}}, nil).Decide(d, p).Matches[0]; m.Rule == r.Name {
				want = &r
			}
		}
		if want != nil && (got.Rule != want.Name || got.Allow != want.Allow) || want == nil && got.Priority < 65000 {
			t.Fatalf("decided by %+v, want %+v", got, want)
		}
	})
}

func TestOrderOfRulesDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g, p, d := anyGroup(t, "g"), anyPacket(t), anyDirection(t)
		want := Compile(testTags, g, nil).Decide(d, p)
		shuffled := &Group{ID: g.ID, Rules: rapid.Permutation(slices.Clone(g.Rules)).Draw(t, "order")}
		if diff := cmp.Diff(want, Compile(testTags, shuffled, nil).Decide(d, p)); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestBothGroupsMustAllow(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, p, d := anyGroup(t, "subnet"), anyGroup(t, "card"), anyPacket(t), anyDirection(t)
		want := Compile(testTags, a, nil).Allows(d, p) && Compile(testTags, nil, b).Allows(d, p)
		if Compile(testTags, a, b).Allows(d, p) != want {
			t.Fatal("the pair decides otherwise than both")
		}
	})
}

func TestTrackerIsStateful(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g, p, d := anyGroup(t, "g"), anyPacket(t), anyDirection(t)
		policy := Compile(testTags, g, nil)
		tracker := NewTracker(policy, 0)
		now := time.Unix(1_000_000, 0)
		answer := Packet{p.Protocol, p.Destination, p.Source, p.DestinationPort, p.SourcePort}
		back := Inbound + Outbound - d
		allowed := tracker.Pass(d, p, false, now)
		if allowed != policy.Allows(d, p) {
			t.Fatal("the first packet is not judged by the rules")
		}
		later := tracker.Pass(back, answer, false, now.Add(time.Minute))
		if want := allowed || policy.Allows(back, answer); later != want {
			t.Fatalf("answer passes: %t, want %t", later, want)
		}
		if got := tracker.Pass(back, answer, false, now.Add(time.Hour)); got != policy.Allows(back, answer) {
			t.Fatal("a forgotten flow's packet is not judged by the rules")
		}
	})
}

func TestTrackerCountsTheRulesThatDecide(t *testing.T) {
	group := &Group{ID: "g", Rules: []Rule{rule("no80", 100, Outbound, false, TCP, "*", "*", "80")}}
	tracker := NewTracker(Compile(testTags, group, nil), 0)
	now := time.Unix(1_000_000, 0)
	for _, port := range []uint16{80, 80, 443, 443, 8443} { // the second to 443 is of the same flow
		p := packet(TCP, "10.1.0.4", "203.0.113.7", port)
		tracker.Pass(Outbound, p, false, now)
	}
	want := []Hit{
		{Outbound, Match{"g", "no80", 100, false}, 2},
		{Outbound, Match{"g", "AllowInternetOutBound", 65001, true}, 2},
	}
	if diff := cmp.Diff(want, tracker.Hits()); diff != "" {
		t.Error(diff)
	}
}

func TestTrackerIsBounded(t *testing.T) {
	tracker := NewTracker(Compile(testTags, nil, nil), 100)
	now := time.Unix(1_000_000, 0)
	p := packet(TCP, "10.1.0.4", "203.0.113.7", 80)
	for port := range uint16(10000) {
		p.SourcePort = port
		if !tracker.Pass(Outbound, p, false, now) {
			t.Fatal("refused")
		}
	}
	if n := tracker.Flows(); n != 100 {
		t.Errorf("%d flows are held", n)
	}
}

func TestNewRulesLeaveFlowsAlone(t *testing.T) {
	tracker := NewTracker(Compile(testTags, nil, nil), 0)
	now := time.Unix(1_000_000, 0)
	p := packet(TCP, "10.1.0.4", "203.0.113.7", 80)
	tracker.Pass(Outbound, p, false, now)
	tracker.SetPolicy(Compile(testTags, &Group{ID: "g", Rules: []Rule{rule("closed", 100, Outbound, false, AnyProtocol, "*", "*", "*")}}, nil))
	other := p
	other.SourcePort++
	if !tracker.Pass(Outbound, p, true, now) || tracker.Pass(Outbound, other, false, now) {
		t.Error("want the old flow and no new one")
	}
	if tracker.Pass(Outbound, p, false, now.Add(endedIdle+time.Second)) {
		t.Error("an ended flow is remembered for long")
	}
}

func manyRules(n int) *Group {
	g := &Group{ID: "g"}
	for i := range n {
		g.Rules = append(g.Rules, rule(fmt.Sprint("r", i), MinPriority+i, Inbound, false, TCP, "203.0.113.0/24", "10.1.0.0/16", fmt.Sprint(1000+i)))
	}
	return g
}

func BenchmarkEstablished(b *testing.B) {
	tracker := NewTracker(Compile(testTags, manyRules(1000), manyRules(1000)), 0)
	now := time.Unix(1_000_000, 0)
	p := packet(TCP, "10.1.0.9", "10.1.0.4", 22)
	if !tracker.Pass(Inbound, p, false, now) {
		b.Fatal("refused")
	}
	b.ReportAllocs()
	for b.Loop() {
		tracker.Pass(Inbound, p, false, now)
	}
}

func BenchmarkFirstPacket(b *testing.B) {
	policy := Compile(testTags, manyRules(1000), nil)
	p := packet(TCP, "10.1.0.9", "10.1.0.4", 22)
	for b.Loop() {
		policy.Allows(Inbound, p)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"securityRules": [` + goodRule + `]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		g, err := Parse("id", b)
		if err != nil {
			return
		}
		Compile(testTags, &g, &g).Decide(Inbound, packet(TCP, "10.1.0.9", "10.1.0.4", 22))
	})
}
