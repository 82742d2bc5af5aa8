package vnet

import (
	"encoding/json"
	"net/netip"
	"strings"

	"goldsmith/internal/resource"
)

// Resource types of what is in a private DNS zone.
const (
	TypeZoneLink   = "Microsoft.Network/privateDnsZones/virtualNetworkLinks"
	TypeZoneRecord = "Microsoft.Network/privateDnsZones/A"
)

// Names are the names of the private DNS zones that are linked to a network, in
// lower case, each with its first address.
func (s *Snapshot) Names(networkID string) map[string]netip.Addr {
	names := map[string]netip.Addr{}
	for _, zone := range s.OfType(TypeZone) {
		below := s.Below(zone.ID)
		if !linked(below, networkID) {
			continue
		}
		for _, r := range below {
			if !strings.EqualFold(r.Type, TypeZoneRecord) {
				continue
			}
			var p struct {
				A []struct {
					Address string `json:"ipv4Address"`
				} `json:"aRecords"`
			}
			if json.Unmarshal(r.Properties, &p) != nil || len(p.A) == 0 {
				continue
			}
			addr, err := netip.ParseAddr(p.A[0].Address)
			if err != nil {
				continue
			}
			name := r.Name + "." + zone.Name
			if r.Name == "@" {
				name = zone.Name
			}
			names[strings.ToLower(name)] = addr
		}
	}
	return names
}

func linked(records []resource.Record, networkID string) bool {
	for _, r := range records {
		var p struct {
			Network wireRef `json:"virtualNetwork"`
		}
		if strings.EqualFold(r.Type, TypeZoneLink) && json.Unmarshal(r.Properties, &p) == nil && resource.Key(p.Network.ID) == resource.Key(networkID) {
			return true
		}
	}
	return false
}
