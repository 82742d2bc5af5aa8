package vnet

import (
	"encoding/json"
	"net/netip"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
)

// Snapshot is a set of records as they were at one moment: networks, what is in
// them, and whatever else may refer to them.
type Snapshot struct {
	records map[string]resource.Record
	keys    []string // sorted
	uses    []Use
}

// Use is a reference of one resource to another, with the address that it takes
// if that is one of a subnet.
type Use struct {
	By     string // id of the referring resource
	Of     string // id of what is referred to
	Member string // name of the property that holds the reference
	Addr   netip.Addr
}

// NewSnapshot takes records in any order.
func NewSnapshot(records []resource.Record) *Snapshot {
	s := &Snapshot{records: map[string]resource.Record{}}
	for _, r := range records {
		key := resource.Key(r.ID)
		if _, twice := s.records[key]; !twice {
			s.keys = append(s.keys, key)
		}
		s.records[key] = r
	}
	slices.Sort(s.keys)
	for _, key := range s.keys {
		s.uses = append(s.uses, usesOf(s.records[key])...)
	}
	return s
}

// With is a snapshot in which rec is new or replaced.
func (s *Snapshot) With(rec resource.Record) *Snapshot {
	all := make([]resource.Record, 0, len(s.keys)+1)
	for _, key := range s.keys {
		all = append(all, s.records[key])
	}
	return NewSnapshot(append(all, rec))
}

// Occupied is a snapshot in which addresses of subnets have users beside those that
// the records name. A snapshot made of it by With has lost them.
func (s *Snapshot) Occupied(more ...Use) *Snapshot {
	c := *s
	c.uses = slices.Concat(s.uses, more)
	return &c
}

// Record is the record with id, in any case.
func (s *Snapshot) Record(id string) (resource.Record, bool) {
	r, ok := s.records[resource.Key(id)]
	return r, ok
}

// Below are the records under id, ordered by id.
func (s *Snapshot) Below(id string) []resource.Record {
	var out []resource.Record
	prefix := resource.Key(id) + "/"
	for _, key := range s.keys {
		if strings.HasPrefix(key, prefix) {
			out = append(out, s.records[key])
		}
	}
	return out
}

// OfType are the records of a type, ordered by id.
func (s *Snapshot) OfType(typ string) []resource.Record {
	var out []resource.Record
	for _, key := range s.keys {
		if r := s.records[key]; strings.EqualFold(r.Type, typ) {
			out = append(out, r)
		}
	}
	return out
}

// Network is the network with id. The error is arm.CodeNotFound, or why it does
// not parse.
func (s *Snapshot) Network(id string) (Network, error) {
	rec, ok := s.Record(id)
	if !ok || !strings.EqualFold(rec.Type, TypeNetwork) {
		return Network{}, arm.Errorf(arm.CodeNotFound, "the virtual network does not exist").At(id)
	}
	return ParseNetwork(rec, s.Below(id)...)
}

// Subnet is the subnet with id and its network.
func (s *Snapshot) Subnet(id string) (Subnet, Network, error) {
	parsed, err := arm.ParseID(id)
	if err != nil {
		return Subnet{}, Network{}, err
	}
	parent, ok := parsed.Parent()
	if !ok || !parsed.IsType(TypeSubnet) {
		return Subnet{}, Network{}, arm.Errorf(arm.CodeInvalidResourceID, "this is not the id of a subnet").At(id)
	}
	n, err := s.Network(parent.String())
	if err != nil {
		return Subnet{}, n, err
	}
	sub, ok := n.Subnet(parsed.Name)
	if !ok {
		return Subnet{}, n, arm.Errorf(arm.CodeNotFound, "virtual network %s has no subnet %s", n.Name, parsed.Name).At(id)
	}
	return sub, n, nil
}

// Users are the uses of id and of what lies below it, by resources that do not.
func (s *Snapshot) Users(id string) []Use {
	key := resource.Key(id)
	inside := func(id string) bool { k := resource.Key(id); return k == key || strings.HasPrefix(k, key+"/") }
	var out []Use
	for _, u := range s.uses {
		if inside(u.Of) && !inside(u.By) && u.Member != "remoteVirtualNetwork" {
			out = append(out, u)
		}
	}
	return out
}

// usesOf finds the references in a record: every object with an id of another
// resource.
func usesOf(rec resource.Record) []Use {
	var root any
	if len(rec.Properties) == 0 || json.Unmarshal(rec.Properties, &root) != nil {
		return nil
	}
	own := resource.Key(rec.ID)
	var out []Use
	var walk func(member string, v any)
	walk = func(member string, v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(member, e)
			}
		case map[string]any:
			if id, ok := v["id"].(string); ok && strings.HasPrefix(id, "/") {
				if key := resource.Key(id); key != own && !strings.HasPrefix(key, own+"/") {
					out = append(out, Use{By: rec.ID, Of: id, Member: member})
				}
			}
			names := make([]string, 0, len(v))
			for name := range v {
				names = append(names, name)
			}
			slices.Sort(names)
			for _, name := range names {
				from := len(out)
				walk(name, v[name])
				if name == "subnet" && len(out) > from {
					if text, ok := v["privateIPAddress"].(string); ok {
						out[from].Addr, _ = netip.ParseAddr(text)
					}
				}
			}
		}
	}
	walk("", root)
	return out
}
