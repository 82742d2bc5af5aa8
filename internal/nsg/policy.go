package nsg

import (
	"net/netip"
	"slices"
	"strings"
)

// Tags says which prefixes a service tag stands for, by name in any case. A
// regional tag such as Storage.WestEurope falls back to Storage. Internet need
// not be given: it is every unicast address outside VirtualNetwork and
// AzureLoadBalancer. AzureLoadBalancer holds ProbeAddress without being told.
type Tags map[string][]netip.Prefix

// prefixes are those of a tag; known is false for one that Tags has nothing of.
func (t Tags) prefixes(tag string) (prefixes []netip.Prefix, known bool) {
	base, _, _ := strings.Cut(tag, ".")
	for _, want := range []string{tag, base} {
		for name, p := range t {
			if strings.EqualFold(name, want) {
				return p, true
			}
		}
	}
	return nil, false
}

// Packet is what rules look at. Ports are 0 where the protocol has none.
type Packet struct {
	Protocol                    Protocol
	Source, Destination         netip.Addr
	SourcePort, DestinationPort uint16
}

// Match is the rule of one group that decided.
type Match struct {
	Group    string // its id
	Rule     string
	Priority int
	Allow    bool
}

// Decision is what the groups say to one packet. Without groups everything
// passes and Matches is empty.
type Decision struct {
	Allowed bool
	Matches []Match // in the order of application; the last one denied if not Allowed
}

// Policy is the compiled groups of one network card. It never changes and may be
// used concurrently.
type Policy struct {
	inbound, outbound []chain // in the order of application
	unknown           []string
}

// chain is the rules of one group in one direction, by priority.
type chain struct {
	group string
	rules []compiled
}

type compiled struct {
	Match
	protocol                      Protocol
	sources, destinations         set
	sourcePorts, destinationPorts []PortRange
}

// set is a set of addresses.
type set struct {
	all      bool
	prefixes []netip.Prefix
	except   []netip.Prefix // with outside: everything but these
	outside  bool
}

func (s *set) contains(a netip.Addr) bool {
	if s.all || within(s.prefixes, a) {
		return true
	}
	return s.outside && !a.IsMulticast() && !a.IsLoopback() && !a.IsUnspecified() && !a.IsLinkLocalUnicast() && !within(s.except, a)
}

func within(prefixes []netip.Prefix, a netip.Addr) bool {
	for i := range prefixes {
		if prefixes[i].Contains(a) {
			return true
		}
	}
	return false
}

// Compile makes the policy of a card from the groups of its subnet and of the
// card itself, either of which may be nil. Rules whose tag stands for nothing
// here match nothing; see Unknown.
func Compile(tags Tags, subnet, card *Group) *Policy {
	p := &Policy{}
	c := compiler{tags: tags, policy: p}
	// What comes in meets the subnet's group first, what goes out the card's.
	for _, g := range []*Group{subnet, card} {
		if g != nil {
			p.inbound = append(p.inbound, c.chain(g, Inbound))
		}
	}
	for _, g := range []*Group{card, subnet} {
		if g != nil {
			p.outbound = append(p.outbound, c.chain(g, Outbound))
		}
	}
	slices.Sort(p.unknown)
	p.unknown = slices.Compact(p.unknown)
	return p
}

// Unknown are the tags of the groups that stand for no prefix here.
func (p *Policy) Unknown() []string { return p.unknown }

type compiler struct {
	tags   Tags
	policy *Policy
}

func (c compiler) chain(g *Group, d Direction) chain {
	rules := slices.Concat(g.Rules, defaults)
	rules = slices.DeleteFunc(rules, func(r Rule) bool { return r.Direction != d })
	slices.SortStableFunc(rules, func(a, b Rule) int { return a.Priority - b.Priority })
	out := chain{group: g.ID}
	for _, r := range rules {
		out.rules = append(out.rules, compiled{
			Match:    Match{Group: g.ID, Rule: r.Name, Priority: r.Priority, Allow: r.Allow},
			protocol: r.Protocol, sources: c.set(r.Sources), destinations: c.set(r.Destinations),
			sourcePorts: narrow(r.SourcePorts), destinationPorts: narrow(r.DestinationPorts),
		})
	}
	return out
}

// narrow is ranges, nil when they hold every port.
func narrow(ranges []PortRange) []PortRange {
	if slices.Contains(ranges, AllPorts) {
		return nil
	}
	return ranges
}

func (c compiler) set(terms []string) set {
	var s set
	for _, text := range terms {
		t, err := parseTerm(text)
		switch {
		case err != nil: // refused by Parse
		case t.all:
			s.all = true
		case t.tag == "":
			s.prefixes = append(s.prefixes, t.prefix)
		case strings.EqualFold(t.tag, TagInternet):
			vnet, _ := c.tags.prefixes(TagVirtualNetwork)
			s.outside, s.except = true, slices.Concat(vnet, c.balancers())
		case strings.EqualFold(t.tag, TagLoadBalancer):
			s.prefixes = append(s.prefixes, c.balancers()...)
		default:
			prefixes, known := c.tags.prefixes(t.tag)
			if !known {
				c.policy.unknown = append(c.policy.unknown, t.tag)
			}
			s.prefixes = append(s.prefixes, prefixes...)
		}
	}
	return s
}

func (c compiler) balancers() []netip.Prefix {
	given, _ := c.tags.prefixes(TagLoadBalancer)
	return append(slices.Clone(given), netip.PrefixFrom(ProbeAddress, ProbeAddress.BitLen()))
}

func (r *compiled) matches(p *Packet) bool {
	return (r.protocol == AnyProtocol || r.protocol == p.Protocol) &&
		inPorts(r.destinationPorts, p.DestinationPort) && inPorts(r.sourcePorts, p.SourcePort) &&
		r.destinations.contains(p.Destination) && r.sources.contains(p.Source)
}

func inPorts(ranges []PortRange, port uint16) bool {
	if ranges == nil {
		return true
	}
	for _, r := range ranges {
		if r.First <= port && port <= r.Last {
			return true
		}
	}
	return false
}

// first is the rule of the chain that decides; the default rules decide
// everything.
func (c *chain) first(p *Packet) *compiled {
	for i := range c.rules {
		if c.rules[i].matches(p) {
			return &c.rules[i]
		}
	}
	return &c.rules[len(c.rules)-1]
}

func (p *Policy) chains(d Direction) []chain {
	if d == Inbound {
		return p.inbound
	}
	return p.outbound
}

// Allows reports whether a packet that belongs to no known flow passes.
func (p *Policy) Allows(d Direction, packet Packet) bool {
	return p.allows(d, &packet, func(*compiled) {})
}

// allows is Allows, and calls decided with each rule that decides.
func (p *Policy) allows(d Direction, packet *Packet, decided func(rule *compiled)) bool {
	chains := p.chains(d)
	for i := range chains {
		rule := chains[i].first(packet)
		decided(rule)
		if !rule.Allow {
			return false
		}
	}
	return true
}

// Decide is Allows with the rules that decided.
func (p *Policy) Decide(d Direction, packet Packet) Decision {
	dec := Decision{Allowed: true}
	chains := p.chains(d)
	for i := range chains {
		m := chains[i].first(&packet).Match
		dec.Matches = append(dec.Matches, m)
		if !m.Allow {
			dec.Allowed = false
			break
		}
	}
	return dec
}
