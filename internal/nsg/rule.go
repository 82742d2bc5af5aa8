// Package nsg decides which packets network security groups let pass: rules by
// priority, service tags, the default rules, the groups of subnet and network
// card together, and the memory of flows that makes them stateful.
package nsg

import (
	"fmt"
	"net/netip"
	"strings"
)

// Direction is seen from the machine that the groups guard.
type Direction uint8

// Directions.
const (
	Inbound Direction = iota + 1
	Outbound
)

// String is the direction's name in a rule.
func (d Direction) String() string {
	switch d {
	case Inbound:
		return "Inbound"
	case Outbound:
		return "Outbound"
	}
	return "unknown"
}

// Protocol is an IP protocol number; AnyProtocol matches all.
type Protocol uint8

// Protocols that a rule can name.
const (
	AnyProtocol Protocol = 0
	ICMP        Protocol = 1
	TCP         Protocol = 6
	UDP         Protocol = 17
	ESP         Protocol = 50
	AH          Protocol = 51
)

// protocolNames are the names of protocols on the wire.
var protocolNames = map[Protocol]string{AnyProtocol: "*", ICMP: "Icmp", TCP: "Tcp", UDP: "Udp", ESP: "Esp", AH: "Ah"}

// String is the protocol's name in a rule.
func (p Protocol) String() string {
	if s, ok := protocolNames[p]; ok {
		return s
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}

// ParseProtocol reads a protocol's name in any case; "" is not one.
func ParseProtocol(s string) (Protocol, bool) {
	for p, name := range protocolNames {
		if strings.EqualFold(s, name) {
			return p, true
		}
	}
	return 0, false
}

// PortRange is the ports from First to Last, both included.
type PortRange struct{ First, Last uint16 }

// AllPorts is every port, and what a packet without ports matches.
var AllPorts = PortRange{0, 65535}

// Bounds of the priorities that a user's rule can have; lower ones come first.
const (
	MinPriority = 100
	MaxPriority = 4096
)

// Rule is one security rule.
type Rule struct {
	Name      string
	Priority  int
	Direction Direction
	Allow     bool
	Protocol  Protocol
	// Sources and Destinations are addresses, prefixes, service tags, or "*".
	Sources, Destinations         []string
	SourcePorts, DestinationPorts []PortRange
}

// Group is a security group: an id or a name for people, and its own rules.
type Group struct {
	ID    string
	Rules []Rule
}

// Names of service tags that this package gives a meaning to by itself.
const (
	TagVirtualNetwork = "VirtualNetwork"
	TagLoadBalancer   = "AzureLoadBalancer"
	TagInternet       = "Internet"
)

// ProbeAddress is where a load balancer's health probes come from, and what the
// tag AzureLoadBalancer stands for.
var ProbeAddress = netip.AddrFrom4([4]byte{168, 63, 129, 16})

// defaults are the rules that every group ends with.
var defaults = []Rule{
	{"AllowVnetInBound", 65000, Inbound, true, AnyProtocol, []string{TagVirtualNetwork}, []string{TagVirtualNetwork}, allPorts, allPorts},
	{"AllowAzureLoadBalancerInBound", 65001, Inbound, true, AnyProtocol, []string{TagLoadBalancer}, anywhere, allPorts, allPorts},
	{"DenyAllInBound", 65500, Inbound, false, AnyProtocol, anywhere, anywhere, allPorts, allPorts},
	{"AllowVnetOutBound", 65000, Outbound, true, AnyProtocol, []string{TagVirtualNetwork}, []string{TagVirtualNetwork}, allPorts, allPorts},
	{"AllowInternetOutBound", 65001, Outbound, true, AnyProtocol, anywhere, []string{TagInternet}, allPorts, allPorts},
	{"DenyAllOutBound", 65500, Outbound, false, AnyProtocol, anywhere, anywhere, allPorts, allPorts},
}

var (
	anywhere = []string{"*"}
	allPorts = []PortRange{AllPorts}
)

// Defaults are the default rules of a group, by direction and priority.
func Defaults() []Rule { return append([]Rule(nil), defaults...) }
