package build

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/nsg"
	"goldsmith/internal/vnet"
)

// networkRules is a digest of everything that decides what a build of t reaches on
// the existing network that it asks for; "" when it gets a network of its own.
// Layers of one subnet are of no use when its rules have changed: a step may find
// another world.
func (e *Engine) networkRules(ctx context.Context, t *imagetemplate.Template) (string, error) {
	d, ok := WantedNetwork(t, e.subscription, false)
	if !ok {
		return "", nil
	}
	s, err := e.NetworkSnapshot(ctx)
	if err != nil {
		return "", err
	}
	sub, n, err := s.Subnet(d.SubnetID)
	if err != nil {
		return "", err
	}
	f, err := e.furnishings(ctx, s, n)
	if err != nil {
		return "", err
	}
	return e.subnetRules(s, sub, n, f)
}

// reach is what networkRules digests. What changes from run to run, such as the
// addresses of the build's own machines, is not in it, nor are names of rules.
type reach struct {
	Subnet  netip.Prefix          `json:"subnet"`
	Space   []netip.Prefix        `json:"space"` // of the network and its peers
	Guarded bool                  `json:"guarded"`
	Rules   []reachRule           `json:"rules"` // in the order of application
	Siloed  bool                  `json:"siloed"`
	Allow   []netip.Prefix        `json:"allow"`
	Exposed []string              `json:"exposed"`
	Records map[string]netip.Addr `json:"records"`
	Bridge  string                `json:"bridge,omitempty"` // of the host, that the subnet is on
}

// reachRule is a security rule without its name and its priority, which only
// orders it.
type reachRule struct {
	Direction, Protocol           string
	Allow                         bool
	Sources, Destinations         []string
	SourcePorts, DestinationPorts []nsg.PortRange
}

// subnetRules is networkRules for a subnet of n, which f is in.
func (e *Engine) subnetRules(s *vnet.Snapshot, sub vnet.Subnet, n vnet.Network, f furnishing) (string, error) {
	r := reach{Subnet: sub.Prefix, Space: sortedPrefixes(s.Space(n)), Guarded: sub.Group != "",
		Siloed: f.siloed, Allow: sortedPrefixes(f.allow), Records: f.records}
	if r.Guarded {
		g, err := s.Group(sub.Group)
		if err != nil {
			return "", err
		}
		r.Rules = reachRules(g)
	}
	if b, ok := e.bridgeOf(sub.ID); ok {
		r.Bridge = b.Bridge
	}
	for _, x := range f.exposed {
		target := x.Target
		if x.Socket != "" {
			target = "a member" // its socket has another name each time
			g, err := x.group(s)
			if err != nil {
				return "", err
			}
			if g != nil {
				rules, err := json.Marshal(reachRules(*g))
				if err != nil {
					return "", arm.Errorf(arm.CodeInternal, "the rules of %s do not encode: %w", g.ID, err)
				}
				target += " behind " + string(rules)
			}
		}
		r.Exposed = append(r.Exposed, fmt.Sprintf("%v is %s", x.At, target))
	}
	slices.Sort(r.Exposed)
	text, err := json.Marshal(r)
	if err != nil {
		return "", arm.Errorf(arm.CodeInternal, "the rules of %s do not encode: %w", sub.ID, err)
	}
	return hexDigest(text), nil
}

// reachRules are a group's rules in the order in which they apply.
func reachRules(g nsg.Group) []reachRule {
	rules := slices.SortedStableFunc(slices.Values(g.Rules), func(a, b nsg.Rule) int {
		return cmp.Or(cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.Priority, b.Priority))
	})
	var out []reachRule
	for _, r := range rules {
		out = append(out, reachRule{
			Direction: r.Direction.String(), Protocol: r.Protocol.String(), Allow: r.Allow,
			Sources: sortedTerms(r.Sources), Destinations: sortedTerms(r.Destinations),
			SourcePorts: sortedPorts(r.SourcePorts), DestinationPorts: sortedPorts(r.DestinationPorts),
		})
	}
	return out
}

func sortedPrefixes(all []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range all {
		out = append(out, p.Masked())
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return slices.Compact(out)
}

func sortedTerms(all []string) []string {
	var out []string
	for _, t := range all {
		out = append(out, strings.ToLower(t)) // tags are written in any case
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func sortedPorts(all []nsg.PortRange) []nsg.PortRange {
	out := slices.Clone(all)
	slices.SortFunc(out, func(a, b nsg.PortRange) int {
		return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(a.Last, b.Last))
	})
	return slices.Compact(out)
}
