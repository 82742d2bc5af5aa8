package vnet

import (
	"encoding/json"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/nsg"
	"goldsmith/internal/resource"
)

// Put judges the writing of a record of Microsoft.Network, and returns it with
// the private addresses that it was given where it left the choice. Records of
// other types come back as they are.
func (s *Snapshot) Put(rec resource.Record) (resource.Record, error) {
	switch typ := rec.Type; {
	case strings.EqualFold(typ, TypeNetwork):
		return rec, s.putNetwork(rec)
	case strings.EqualFold(typ, TypeSubnet), strings.EqualFold(typ, TypePeering):
		parent, err := s.parent(rec)
		if err != nil {
			return rec, err
		}
		return rec, s.With(rec).putNetworkAfter(s, parent)
	case strings.EqualFold(typ, TypeGroup):
		_, err := nsg.Parse(rec.ID, rec.Properties)
		return rec, err
	case strings.EqualFold(typ, TypeGroupRule):
		_, err := nsg.ParseRule(ruleOf(rec))
		return rec, err
	case strings.EqualFold(typ, TypeInterface), strings.EqualFold(typ, TypeLoadBalancer),
		strings.EqualFold(typ, TypeLinkService), strings.EqualFold(typ, TypePrivateEndpoint):
		return s.putMember(rec)
	}
	return rec, nil
}

func (s *Snapshot) parent(rec resource.Record) (resource.Record, error) {
	id, err := arm.ParseID(rec.ID)
	if err != nil {
		return resource.Record{}, err
	}
	p, _ := id.Parent()
	parent, ok := s.Record(p.String())
	if !ok {
		return parent, arm.Errorf(arm.CodeNotFound, "the parent %s does not exist", p.Name).At(rec.ID)
	}
	return parent, nil
}

func ruleOf(rec resource.Record) json.RawMessage {
	raw, err := json.Marshal(map[string]any{"name": rec.Name, "properties": rec.Properties})
	if err != nil {
		return nil
	}
	return raw
}

// Group is the security group with id and the rules below it.
func (s *Snapshot) Group(id string) (nsg.Group, error) {
	rec, ok := s.Record(id)
	if !ok || !strings.EqualFold(rec.Type, TypeGroup) {
		return nsg.Group{}, arm.Errorf(arm.CodeNotFound, "the network security group does not exist").At(id)
	}
	var extra []json.RawMessage
	for _, r := range s.Below(id) {
		if strings.EqualFold(r.Type, TypeGroupRule) {
			extra = append(extra, ruleOf(r))
		}
	}
	return nsg.Parse(rec.ID, rec.Properties, extra...)
}

func (s *Snapshot) putNetwork(rec resource.Record) error {
	return s.With(rec).putNetworkAfter(s, rec)
}

// putNetworkAfter judges network rec in s, in which it was written over before.
func (s *Snapshot) putNetworkAfter(before *Snapshot, rec resource.Record) error {
	n, err := ParseNetwork(rec, s.Below(rec.ID)...)
	if err != nil {
		return err
	}
	if err := n.Check(); err != nil {
		return err
	}
	for _, sub := range n.Subnets {
		if err := s.checkSubnet(n, sub); err != nil {
			return err
		}
	}
	for _, peer := range n.Peers {
		other, err := s.Network(peer)
		if err != nil {
			return err
		}
		for _, p := range n.Prefixes {
			for _, q := range other.Prefixes {
				if p.Overlaps(q) {
					return arm.Errorf(arm.CodeValidationFailed, "%v overlaps %v of %s: networks that overlap cannot be peered", p, q, other.Name).At(n.ID)
				}
			}
		}
	}
	old, err := before.Network(rec.ID)
	if err != nil {
		return nil // new, or broken before
	}
	for _, sub := range old.Subnets {
		if _, stays := n.Subnet(sub.Name); !stays {
			if err := before.CheckDelete(sub.ID); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Snapshot) checkSubnet(n Network, sub Subnet) error {
	if sub.Group != "" {
		g, ok := s.Record(sub.Group)
		if !ok {
			return arm.Errorf(CodeReference, "subnet %s refers to network security group %s, which does not exist", sub.Name, sub.Group).At(sub.ID)
		}
		if !SameLocation(g.Location, n.Location) {
			return arm.Errorf(CodeReference, "network security group %s is in %s, the network in %s", g.Name, g.Location, n.Location).At(sub.ID)
		}
	}
	for addr, by := range s.Taken(sub.ID) {
		if !sub.Prefix.Contains(addr) {
			return arm.Errorf(CodeSubnetChangeUsed, "subnet %s cannot become %v: %v is in use by %s", sub.Name, sub.Prefix, addr, by).At(sub.ID)
		}
		r, _ := s.Record(by)
		if len(sub.Delegations) > 0 && !strings.HasPrefix(strings.ToLower(r.Type), "microsoft.containerinstance/") {
			return arm.Errorf(CodeSubnetDelegated, "subnet %s cannot be delegated to %s while %s is in it", sub.Name, sub.Delegations[0], by).At(sub.ID)
		}
		if sub.LinkPolicies && strings.EqualFold(r.Type, TypeLinkService) {
			return arm.Errorf(CodeLinkPolicies, "private link service network policies cannot be enabled on subnet %s while %s is in it", sub.Name, by).At(sub.ID)
		}
	}
	return nil
}

// SameLocation compares region names as Azure does: "West US 2" is "westus2".
func SameLocation(a, b string) bool {
	fold := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }
	return fold(a) == fold(b)
}

// CheckDelete says why a record of Microsoft.Network may not be deleted: others
// refer to it or to what is below it.
func (s *Snapshot) CheckDelete(id string) error {
	users := s.Users(id)
	if len(users) == 0 {
		return nil
	}
	code := CodeInUse
	if parsed, err := arm.ParseID(id); err == nil && (parsed.IsType(TypeSubnet) || parsed.IsType(TypeNetwork)) {
		code = CodeSubnetInUse
	}
	return arm.Errorf(code, "it is in use by %s and cannot be deleted before", users[0].By).At(id)
}
