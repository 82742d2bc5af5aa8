package vnet

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
)

// placement gives one record the addresses that it does not choose itself.
type placement struct {
	*Snapshot
	rec resource.Record
	// had are the addresses that the record has already, by where in it.
	had   map[string]held
	given map[netip.Addr]bool // in this record, by now
}

// held is an address of a record and its subnet's key.
type held struct {
	subnet string
	addr   netip.Addr
}

// putMember judges a resource with addresses in subnets, and gives it those that
// it does not choose itself. It keeps those that it was given before.
func (s *Snapshot) putMember(rec resource.Record) (resource.Record, error) {
	var root any
	if err := json.Unmarshal(rec.Properties, &root); err != nil {
		return rec, arm.Errorf(arm.CodeValidationFailed, "the properties do not parse: %w", err).At(rec.ID)
	}
	p := placement{Snapshot: s, rec: rec, had: map[string]held{}, given: map[netip.Addr]bool{}}
	if before, ok := s.Record(rec.ID); ok {
		var old any
		if json.Unmarshal(before.Properties, &old) == nil {
			_ = walkConfigs("", old, func(path string, config map[string]any, subnetID string) error {
				if addr, err := netip.ParseAddr(text(config, "privateIPAddress")); err == nil {
					p.had[path] = held{resource.Key(subnetID), addr}
				}
				return nil
			})
		}
	}
	// What is chosen is taken before anything is given.
	for _, chosen := range []bool{true, false} {
		err := walkConfigs("", root, func(path string, config map[string]any, subnetID string) error {
			if p.chosen(config) != chosen {
				return nil
			}
			return p.place(path, config, subnetID)
		})
		if err != nil {
			return rec, err
		}
	}
	raw, err := json.Marshal(root)
	if err != nil {
		return rec, fmt.Errorf("encode %s: %w", rec.ID, err)
	}
	rec.Properties = raw
	return rec, nil
}

// walkConfigs calls do for every object with a subnet, in one order. path says where
// it is, by the names of list elements.
func walkConfigs(path string, v any, do func(path string, config map[string]any, subnetID string) error) error {
	switch v := v.(type) {
	case []any:
		for i, e := range v {
			name := strconv.Itoa(i)
			if m, ok := e.(map[string]any); ok && text(m, "name") != "" {
				name = strings.ToLower(text(m, "name"))
			}
			if err := walkConfigs(path+"/"+name, e, do); err != nil {
				return err
			}
		}
	case map[string]any:
		if ref, ok := v["subnet"].(map[string]any); ok {
			if err := do(path, v, text(ref, "id")); err != nil {
				return err
			}
		}
		names := make([]string, 0, len(v))
		for name := range v {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			if err := walkConfigs(path+"/"+name, v[name], do); err != nil {
				return err
			}
		}
	}
	return nil
}

func text(m map[string]any, name string) string {
	s, _ := m[name].(string)
	return s
}

// chosen reports whether a configuration names its address: with dynamic allocation
// what it names is only what it was given.
func (p *placement) chosen(config map[string]any) bool {
	return text(config, "privateIPAddress") != "" && !strings.EqualFold(text(config, "privateIPAllocationMethod"), "Dynamic")
}

// place judges one address configuration and gives it an address if it chose none.
func (p *placement) place(path string, config map[string]any, subnetID string) error {
	rec := p.rec
	sub, n, err := p.Subnet(subnetID)
	switch {
	case arm.IsCode(err, arm.CodeNotFound):
		return arm.Errorf(CodeReference, "subnet %s does not exist", subnetID).At(rec.ID)
	case err != nil:
		return err
	case !SameLocation(n.Location, rec.Location):
		return arm.Errorf(CodeReference, "network %s is in %s, %s in %s", n.Name, n.Location, rec.Name, rec.Location).At(rec.ID)
	case len(sub.Delegations) > 0:
		return arm.Errorf(CodeSubnetDelegated, "subnet %s is delegated to %s and takes nothing else", sub.Name, sub.Delegations[0]).At(rec.ID)
	case sub.LinkPolicies && strings.EqualFold(rec.Type, TypeLinkService):
		return arm.Errorf(CodeLinkPolicies, "subnet %s has private link service network policies enabled; disable them first", sub.Name).At(rec.ID)
	}
	if p.chosen(config) {
		addr, err := netip.ParseAddr(text(config, "privateIPAddress"))
		if err != nil {
			return arm.Errorf(CodeInvalidPrefix, "%q is not an address", text(config, "privateIPAddress")).At(rec.ID)
		}
		if p.given[addr] {
			return arm.Errorf(CodeAddressTaken, "%v is there twice", addr).At(rec.ID)
		}
		p.given[addr] = true
		return p.CheckAddress(sub, addr, rec.ID)
	}
	if strings.EqualFold(text(config, "privateIPAllocationMethod"), "Static") {
		return arm.Errorf(arm.CodeValidationFailed, "an address configuration in subnet %s has static allocation and no privateIPAddress", sub.Name).At(rec.ID)
	}
	addr, err := p.pick(path, sub)
	if err != nil {
		return err
	}
	p.given[addr] = true
	config["privateIPAddress"] = addr.String()
	return nil
}

// pick is the address that the configuration at path had before in the subnet, else
// the lowest free one.
func (p *placement) pick(path string, sub Subnet) (netip.Addr, error) {
	had, ok := p.had[path]
	if ok && had.subnet == resource.Key(sub.ID) && !p.given[had.addr] && p.CheckAddress(sub, had.addr, p.rec.ID) == nil {
		return had.addr, nil
	}
	taken := p.Taken(sub.ID)
	for a := sub.Prefix.Addr(); sub.Prefix.Contains(a); a = a.Next() {
		if _, used := taken[a]; !used && !p.given[a] && !sub.Reserved(a) {
			return a, nil
		}
	}
	return netip.Addr{}, arm.Errorf(CodeSubnetFull, "subnet %s (%v) has no free address", sub.Name, sub.Prefix).At(sub.ID)
}
