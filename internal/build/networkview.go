package build

import (
	"context"
	"net/netip"

	"goldsmith/internal/arm"
	"goldsmith/internal/nsg"
	"goldsmith/internal/vnet"
)

// VirtualNetwork is a virtual network with what its subnets have left.
type VirtualNetwork struct {
	ID       string         `json:"id"`
	Name     string         `json:"name"`
	Location string         `json:"location"`
	Prefixes []netip.Prefix `json:"prefixes"`
	Subnets  []SubnetView   `json:"subnets"`
}

// SubnetView is a subnet in a VirtualNetwork.
type SubnetView struct {
	Name   string       `json:"name"`
	Prefix netip.Prefix `json:"prefix"`
	Free   int          `json:"free"` // addresses
}

// VirtualNetworks are those of the subscription.
func (e *Engine) VirtualNetworks(ctx context.Context) ([]VirtualNetwork, error) {
	s, err := e.NetworkSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	all := []VirtualNetwork{}
	for _, r := range s.OfType(vnet.TypeNetwork) {
		n, err := s.Network(r.ID)
		if err != nil {
			return nil, err
		}
		v := VirtualNetwork{ID: n.ID, Name: n.Name, Location: n.Location, Prefixes: n.Prefixes}
		for _, sub := range n.Subnets {
			v.Subnets = append(v.Subnets, SubnetView{sub.Name, sub.Prefix, s.Free(sub)})
		}
		all = append(all, v)
	}
	return all, nil
}

// Reach asks whether the security rules of a network let a connection pass.
type Reach struct {
	Network  string       `json:"network"` // id
	From     string       `json:"from"`    // an address, a service tag, or the name of something in the network
	To       string       `json:"to"`
	Protocol nsg.Protocol `json:"protocol"`
	Port     uint16       `json:"port"` // of the destination
}

// Reached is the answer to a Reach.
type Reached struct {
	From    netip.Addr  `json:"from"`
	To      netip.Addr  `json:"to"`
	Allowed bool        `json:"allowed"`
	Rules   []RuleMatch `json:"rules"` // that decided, in their order on the way
}

// RuleMatch is a decision on the way of a connection.
type RuleMatch struct {
	Where    string `json:"where"`
	Allow    bool   `json:"allow"`
	Rule     string `json:"rule"`     // "" where there is no security group
	Priority int    `json:"priority"` // of the rule
	Group    string `json:"group"`    // id of its security group
}

// Reach answers r by the rules as they are stored.
func (e *Engine) Reach(ctx context.Context, r Reach) (Reached, error) {
	s, err := e.NetworkSnapshot(ctx)
	if err != nil {
		return Reached{}, err
	}
	p := nsg.Packet{Protocol: r.Protocol, DestinationPort: r.Port}
	if r.Protocol != nsg.ICMP {
		p.SourcePort = somePort
	}
	if p.Source, err = s.Resolve(r.Network, r.From); err != nil {
		return Reached{}, err
	}
	if p.Destination, err = s.Resolve(r.Network, r.To); err != nil {
		return Reached{}, err
	}
	path, err := s.Trace(r.Network, p)
	if err != nil {
		return Reached{}, err
	}
	if len(path.Hops) == 0 {
		return Reached{}, arm.Errorf(arm.CodeUsage, "neither %v nor %v is in a subnet of this network", p.Source, p.Destination)
	}
	out := Reached{From: p.Source, To: p.Destination, Allowed: path.Allowed}
	for _, h := range path.Hops {
		if len(h.Decision.Matches) == 0 {
			out.Rules = append(out.Rules, RuleMatch{Where: h.Where, Allow: true})
		}
		for _, m := range h.Decision.Matches {
			out.Rules = append(out.Rules, RuleMatch{h.Where, m.Allow, m.Rule, m.Priority, m.Group})
		}
	}
	return out, nil
}
