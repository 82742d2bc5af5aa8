// Package vnet knows the rules of virtual networks and of what is in them:
// address spaces, subnets, the addresses that a subnet has left, delegations,
// and what is in use and may not go. It works on a snapshot of resource records.
package vnet

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
)

// Resource types that this package knows.
const (
	TypeNetwork         = "Microsoft.Network/virtualNetworks"
	TypeSubnet          = "Microsoft.Network/virtualNetworks/subnets"
	TypePeering         = "Microsoft.Network/virtualNetworks/virtualNetworkPeerings"
	TypeGroup           = "Microsoft.Network/networkSecurityGroups"
	TypeGroupRule       = "Microsoft.Network/networkSecurityGroups/securityRules"
	TypeInterface       = "Microsoft.Network/networkInterfaces"
	TypePublicAddress   = "Microsoft.Network/publicIPAddresses"
	TypeLoadBalancer    = "Microsoft.Network/loadBalancers"
	TypeLinkService     = "Microsoft.Network/privateLinkServices"
	TypePrivateEndpoint = "Microsoft.Network/privateEndpoints"
	TypeZone            = "Microsoft.Network/privateDnsZones"
)

// ContainerDelegation is the delegation of a subnet for isolated builds.
const ContainerDelegation = "Microsoft.ContainerInstance/containerGroups"

// ReservedAddresses is how many addresses of each subnet nobody gets: the first
// four and the last.
const ReservedAddresses = 5

// maxSubnetBits is the smallest subnet that can exist.
const maxSubnetBits = 29

// Codes of refusals, as Azure's network provider spells them.
const (
	CodeInvalidPrefix    arm.Code = "InvalidAddressPrefixFormat"
	CodeSubnetOutside    arm.Code = "NetcfgInvalidSubnet"
	CodeSubnetsOverlap   arm.Code = "NetcfgSubnetRangesOverlap"
	CodeSubnetInUse      arm.Code = "InUseSubnetCannotBeDeleted"
	CodeSubnetChangeUsed arm.Code = "InUsePrefixCannotBeDeleted"
	CodeSubnetFull       arm.Code = "SubnetIsFull"
	CodeSubnetDelegated  arm.Code = "SubnetIsDelegated"
	CodeInUse            arm.Code = "ResourceInUse"
	CodeAddressTaken     arm.Code = "PrivateIPAddressInUse"
	CodeAddressOutside   arm.Code = "PrivateIPAddressNotInSubnet"
	CodeAddressReserved  arm.Code = "PrivateIPAddressInReservedRange"
	CodeLinkPolicies     arm.Code = "PrivateLinkServiceNetworkPoliciesCannotBeEnabledOnPrivateLinkServiceSubnet"
	CodeReference        arm.Code = "InvalidResourceReference"
)

// Network is a virtual network.
type Network struct {
	ID, Name, Location string
	Prefixes           []netip.Prefix
	Subnets            []Subnet
	Peers              []string // ids of the networks that it is peered with and may reach
}

// Subnet is a part of a network.
type Subnet struct {
	ID, Name    string
	Prefix      netip.Prefix
	Group       string   // id of its security group, "" for none
	Delegations []string // service names
	// LinkPolicies is whether network policies apply to private link services in
	// the subnet, which excludes such services. They do unless disabled.
	LinkPolicies bool
}

type wireRef struct {
	ID string `json:"id"`
}

type wireSubnet struct {
	ID         string          `json:"id"`
	Name       string          `json:"name"`
	Properties json.RawMessage `json:"properties"`
}

type wireSubnetProperties struct {
	AddressPrefix   string   `json:"addressPrefix"`
	AddressPrefixes []string `json:"addressPrefixes"`
	Group           *wireRef `json:"networkSecurityGroup"`
	Delegations     []struct {
		Properties struct {
			ServiceName string `json:"serviceName"`
		} `json:"properties"`
	} `json:"delegations"`
	LinkPolicies string `json:"privateLinkServiceNetworkPolicies"`
}

type wireNetwork struct {
	AddressSpace struct {
		AddressPrefixes []string `json:"addressPrefixes"`
	} `json:"addressSpace"`
	Subnets  []wireSubnet  `json:"subnets"`
	Peerings []wirePeering `json:"virtualNetworkPeerings"`
}

type wirePeering struct {
	Properties wirePeeringProperties `json:"properties"`
}

type wirePeeringProperties struct {
	Remote wireRef `json:"remoteVirtualNetwork"`
	Access *bool   `json:"allowVirtualNetworkAccess"`
}

// ParseSubnet reads a subnet of the network with id.
func ParseSubnet(networkID, name string, properties json.RawMessage) (Subnet, error) {
	s := Subnet{ID: networkID + "/subnets/" + name, Name: name}
	var w wireSubnetProperties
	if len(properties) > 0 {
		if err := json.Unmarshal(properties, &w); err != nil {
			return s, arm.Errorf(arm.CodeValidationFailed, "the subnet does not parse: %w", err).At(s.ID)
		}
	}
	text := w.AddressPrefix
	if text == "" && len(w.AddressPrefixes) > 0 {
		text = w.AddressPrefixes[0]
	}
	var err error
	if s.Prefix, err = parsePrefix(text); err != nil {
		return s, arm.Errorf(CodeInvalidPrefix, "subnet %s: %w", name, err).At(s.ID)
	}
	if w.Group != nil {
		s.Group = w.Group.ID
	}
	for _, d := range w.Delegations {
		s.Delegations = append(s.Delegations, d.Properties.ServiceName)
	}
	s.LinkPolicies = !strings.EqualFold(w.LinkPolicies, "Disabled")
	return s, nil
}

func parsePrefix(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%q is not an address prefix such as 10.1.0.0/16", text)
	}
	if !p.Addr().Is4() {
		return p, fmt.Errorf("%q is not an IPv4 prefix; networks here have IPv4 only", text)
	}
	if p != p.Masked() {
		return p, fmt.Errorf("%q has bits beyond its length; write %v", text, p.Masked())
	}
	return p, nil
}

// ParseNetwork reads a network. children are subnets and peerings that are
// records of their own; they win over those in the properties.
func ParseNetwork(rec resource.Record, children ...resource.Record) (Network, error) {
	n := Network{ID: rec.ID, Name: rec.Name, Location: rec.Location}
	var w wireNetwork
	if len(rec.Properties) > 0 {
		if err := json.Unmarshal(rec.Properties, &w); err != nil {
			return n, arm.Errorf(arm.CodeValidationFailed, "the virtual network does not parse: %w", err).At(rec.ID)
		}
	}
	for _, text := range w.AddressSpace.AddressPrefixes {
		p, err := parsePrefix(text)
		if err != nil {
			return n, arm.Errorf(CodeInvalidPrefix, "address space: %w", err).At(rec.ID)
		}
		n.Prefixes = append(n.Prefixes, p)
	}
	for _, c := range children {
		switch {
		case strings.EqualFold(c.Type, TypeSubnet):
			w.Subnets = slices.DeleteFunc(w.Subnets, func(s wireSubnet) bool { return strings.EqualFold(s.Name, c.Name) })
			w.Subnets = append(w.Subnets, wireSubnet{Name: c.Name, Properties: c.Properties})
		case strings.EqualFold(c.Type, TypePeering):
			var p wirePeering
			if err := json.Unmarshal(c.Properties, &p.Properties); err == nil {
				w.Peerings = append(w.Peerings, p)
			}
		}
	}
	for _, ws := range w.Subnets {
		s, err := ParseSubnet(rec.ID, ws.Name, ws.Properties)
		if err != nil {
			return n, err
		}
		n.Subnets = append(n.Subnets, s)
	}
	for _, p := range w.Peerings {
		if p.Properties.Remote.ID != "" && (p.Properties.Access == nil || *p.Properties.Access) {
			n.Peers = append(n.Peers, p.Properties.Remote.ID)
		}
	}
	return n, nil
}

// Check says what of the network's own plan is wrong: overlapping prefixes, and
// subnets outside of the address space, overlapping, or too small.
func (n Network) Check() error {
	if len(n.Prefixes) == 0 {
		return arm.Errorf(CodeInvalidPrefix, "the virtual network has no address space; give addressSpace.addressPrefixes").At(n.ID)
	}
	for i, p := range n.Prefixes {
		for _, q := range n.Prefixes[:i] {
			if p.Overlaps(q) {
				return arm.Errorf(CodeInvalidPrefix, "the address prefixes %v and %v overlap", q, p).At(n.ID)
			}
		}
	}
	for i, s := range n.Subnets {
		switch {
		case s.Name == "":
			return arm.Errorf(arm.CodeValidationFailed, "subnet %d has no name", i).At(n.ID)
		case s.Prefix.Bits() > maxSubnetBits:
			return arm.Errorf(CodeSubnetOutside, "subnet %s: %v is too small: a subnet has /%d or more addresses", s.Name, s.Prefix, maxSubnetBits).At(s.ID)
		case !slices.ContainsFunc(n.Prefixes, func(p netip.Prefix) bool { return p.Bits() <= s.Prefix.Bits() && p.Contains(s.Prefix.Addr()) }):
			return arm.Errorf(CodeSubnetOutside, "subnet %s: %v is not within the address space %v of %s", s.Name, s.Prefix, n.Prefixes, n.Name).At(s.ID)
		}
		for _, other := range n.Subnets[:i] {
			if strings.EqualFold(other.Name, s.Name) {
				return arm.Errorf(arm.CodeValidationFailed, "there are two subnets called %s", s.Name).At(s.ID)
			}
			if other.Prefix.Overlaps(s.Prefix) {
				return arm.Errorf(CodeSubnetsOverlap, "subnet %s: %v overlaps %v of subnet %s", s.Name, s.Prefix, other.Prefix, other.Name).At(s.ID)
			}
		}
	}
	return nil
}

// Subnet is the subnet called name, in any case.
func (n Network) Subnet(name string) (Subnet, bool) {
	i := slices.IndexFunc(n.Subnets, func(s Subnet) bool { return strings.EqualFold(s.Name, name) })
	if i < 0 {
		return Subnet{}, false
	}
	return n.Subnets[i], true
}
