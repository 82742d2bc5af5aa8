package vnet

import (
	"encoding/json"
	"net/netip"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/nsg"
	"goldsmith/internal/resource"
)

// Hop is what the groups at one end of a path say.
type Hop struct {
	Where    string // "leaving 10.1.0.4 in subnet build"
	Decision nsg.Decision
}

// Path is the answer to whether one connection can be opened in a network.
type Path struct {
	From, To netip.Addr
	Hops     []Hop // those ends that are in the network
	Allowed  bool
}

// Trace answers whether the first packet of a connection passes the groups of the
// network with id, at its source and at its destination.
func (s *Snapshot) Trace(id string, p nsg.Packet) (Path, error) {
	n, err := s.Network(id)
	if err != nil {
		return Path{}, err
	}
	path := Path{From: p.Source, To: p.Destination, Allowed: true}
	for _, end := range []struct {
		addr netip.Addr
		d    nsg.Direction
		verb string
	}{{p.Source, nsg.Outbound, "leaving"}, {p.Destination, nsg.Inbound, "entering"}} {
		for _, sub := range n.Subnets {
			if !sub.Prefix.Contains(end.addr) {
				continue
			}
			policy, err := s.CardPolicy(n, sub, end.addr)
			if err != nil {
				return path, err
			}
			dec := policy.Decide(end.d, p)
			path.Hops = append(path.Hops, Hop{end.verb + " " + end.addr.String() + " in subnet " + sub.Name, dec})
			path.Allowed = path.Allowed && dec.Allowed
		}
	}
	return path, nil
}

// CardPolicy is what the groups of a subnet and of the card with addr in it say.
func (s *Snapshot) CardPolicy(n Network, sub Subnet, addr netip.Addr) (*nsg.Policy, error) {
	var groups [2]*nsg.Group
	ids := [2]string{sub.Group}
	if by, ok := s.Taken(sub.ID)[addr]; ok {
		if rec, ok := s.Record(by); ok && strings.EqualFold(rec.Type, TypeInterface) {
			var p struct {
				Group *wireRef `json:"networkSecurityGroup"`
			}
			if json.Unmarshal(rec.Properties, &p) == nil && p.Group != nil {
				ids[1] = p.Group.ID
			}
		}
	}
	for i, id := range ids {
		if id == "" {
			continue
		}
		g, err := s.Group(id)
		if err != nil {
			return nil, err
		}
		groups[i] = &g
	}
	return nsg.Compile(s.Tags(n), groups[0], groups[1]), nil
}

// outside is an address that stands for the internet.
var outside = netip.AddrFrom4([4]byte{203, 0, 113, 1})

// Resolve finds the address that text stands for in a network: an address, a
// service tag, the name of a private zone, or the name of a resource with an
// address there.
func (s *Snapshot) Resolve(id, text string) (netip.Addr, error) {
	n, err := s.Network(id)
	if err != nil {
		return netip.Addr{}, err
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Unmap(), nil
	}
	switch {
	case strings.EqualFold(text, nsg.TagInternet):
		return outside, nil
	case strings.EqualFold(text, nsg.TagLoadBalancer):
		return nsg.ProbeAddress, nil
	case strings.EqualFold(text, nsg.TagVirtualNetwork) && len(n.Subnets) > 0:
		return n.Subnets[0].Gateway().Next().Next().Next(), nil
	}
	if a, ok := s.Names(id)[strings.ToLower(text)]; ok {
		return a, nil
	}
	for _, u := range s.uses {
		rec, ok := s.Record(u.By)
		if ok && u.Addr.IsValid() && strings.EqualFold(rec.Name, text) && strings.HasPrefix(resource.Key(u.Of), resource.Key(id)+"/") {
			return u.Addr, nil
		}
	}
	return netip.Addr{}, arm.Errorf(arm.CodeNotFound, "%q is no address, service tag, or name of something in %s", text, n.Name).At(id)
}
