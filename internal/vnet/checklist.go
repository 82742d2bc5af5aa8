package vnet

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/nsg"
	"goldsmith/internal/resource"
)

// Ports of the networking document: where the proxy listens and what it forwards
// to, by the build VM's operating system.
const (
	ProxyPortLinux   = 60001
	ProxyPortWindows = 60000
	GuestPortLinux   = 22
	GuestPortWindows = 5986
)

// Ports are the proxy's port and the build VM's for an operating system.
func Ports(windows bool) (proxy, guest uint16) {
	if windows {
		return ProxyPortWindows, GuestPortWindows
	}
	return ProxyPortLinux, GuestPortLinux
}

// DeploymentAddresses is how many addresses of the subnet a deployment with a
// proxy takes: private link NAT, load balancer, proxy VM, build VM.
const DeploymentAddresses = 4

// Deployment is a build on an existing network, as a template asks for it.
type Deployment struct {
	SubnetID          string
	ContainerSubnetID string // isolated builds; "" is the deployment with a proxy
	Location          string // of the template, and so of the service
	Windows           bool
}

// Item names what a finding is about. The first four are the numbers of the
// networking document's checklist that a network can break.
type Item string

// Items.
const (
	ItemBalancer   Item = "checklist 1: the load balancer reaches the proxy vm"
	ItemProxy      Item = "checklist 1: the proxy vm reaches the build vm"
	ItemPolicies   Item = "checklist 2: private link service network policies are disabled"
	ItemRegion     Item = "checklist 5: network and service are in one region"
	ItemSubnet     Item = "the subnet exists"
	ItemDelegation Item = "the subnet is delegated as needed"
	ItemAddresses  Item = "the subnet has free addresses"
	ItemContainers Item = "the builder's subnet reaches the build vm"
)

// Finding is a broken item: what is wrong, and the command that mends it.
type Finding struct {
	Item    Item
	Message string
	Command string // for az
	Target  string // resource id
}

// Err is the finding as an error of arm.CodeValidationFailed.
func (f Finding) Err() *arm.Error {
	return arm.Errorf(arm.CodeValidationFailed, "%s. mend it with: %s", f.Message, f.Command).At(f.Target)
}

// Checklist judges a deployment by the networking document's checklist. It
// returns every finding, in the order of the document; none means that the
// network is ready.
func Checklist(s *Snapshot, d Deployment) []Finding {
	c := checker{s: s, d: d}
	sub, n, ok := c.subnet(d.SubnetID)
	if !ok {
		return c.found
	}
	if d.ContainerSubnetID == "" {
		c.proxied(sub, n)
	} else if containers, _, ok := c.subnet(d.ContainerSubnetID); ok {
		c.isolated(sub, containers, n)
	}
	if !SameLocation(n.Location, d.Location) {
		c.find(ItemRegion, n.ID, fmt.Sprintf("virtual network %s is in %s, the template in %s: the network must be in the region of the service", n.Name, n.Location, d.Location),
			"az network vnet create --resource-group %s --name %s-%s --location %s --address-prefixes %v", groupOf(n.ID), n.Name, d.Location, d.Location, n.Prefixes[0])
	}
	return c.found
}

type checker struct {
	s     *Snapshot
	d     Deployment
	found []Finding
}

func (c *checker) find(item Item, target, message, command string, args ...any) {
	c.found = append(c.found, Finding{Item: item, Message: message, Command: fmt.Sprintf(command, args...), Target: target})
}

func groupOf(id string) string {
	p, err := arm.ParseID(id)
	if err != nil {
		return ""
	}
	return p.Group
}

func (c *checker) subnet(id string) (Subnet, Network, bool) {
	sub, n, err := c.s.Subnet(id)
	if err == nil {
		return sub, n, true
	}
	if !arm.IsCode(err, arm.CodeNotFound) {
		c.find(ItemSubnet, id, err.Error(), "az network vnet subnet show --ids %s", id)
		return sub, n, false
	}
	parsed, _ := arm.ParseID(id) // it was found to be an id
	parent, _ := parsed.Parent()
	if n.Name == "" {
		c.find(ItemSubnet, id, fmt.Sprintf("virtual network %s does not exist in group %s", parent.Name, parsed.Group),
			"az network vnet create --resource-group %s --name %s --location %s --subnet-name %s", parsed.Group, parent.Name, c.d.Location, parsed.Name)
	} else {
		c.find(ItemSubnet, id, fmt.Sprintf("virtual network %s has no subnet %s", n.Name, parsed.Name),
			"az network vnet subnet create --resource-group %s --vnet-name %s --name %s --address-prefixes PREFIX", parsed.Group, n.Name, parsed.Name)
	}
	return sub, n, false
}

// proxied judges the deployment of private link, load balancer and proxy.
func (c *checker) proxied(sub Subnet, n Network) {
	proxyPort, guestPort := Ports(c.d.Windows)
	sample := c.sample(sub)
	policy := c.policy(sub, n)
	c.path(ItemBalancer, sub, policy, nsg.Inbound, nsg.ProbeAddress, sample, proxyPort, "the load balancer cannot reach the proxy vm",
		"AzureImageBuilderNsgRule", nsg.TagLoadBalancer, nsg.TagVirtualNetwork, "60000-60001")
	for _, direction := range []nsg.Direction{nsg.Inbound, nsg.Outbound} {
		c.path(ItemProxy, sub, policy, direction, sample, sample, guestPort, "the proxy vm cannot reach the build vm",
			"AzureImageBuilderProxy"+direction.String(), nsg.TagVirtualNetwork, nsg.TagVirtualNetwork, fmt.Sprint(guestPort))
	}
	if sub.LinkPolicies {
		c.find(ItemPolicies, sub.ID, fmt.Sprintf("subnet %s has private link service network policies enabled: a private link service cannot be put there", sub.Name),
			"az network vnet subnet update --resource-group %s --vnet-name %s --name %s --disable-private-link-service-network-policies true", groupOf(sub.ID), n.Name, sub.Name)
	}
	c.undelegated(sub, n)
	c.room(sub, n, DeploymentAddresses, "private link NAT, load balancer, proxy vm and build vm")
}

// isolated judges the deployment with a subnet of the builder's own.
func (c *checker) isolated(sub, containers Subnet, n Network) {
	_, guestPort := Ports(c.d.Windows)
	from, to := c.sample(containers), c.sample(sub)
	c.path(ItemContainers, containers, c.policy(containers, n), nsg.Outbound, from, to, guestPort, "the builder cannot reach the build vm",
		"AzureImageBuilderOutbound", nsg.TagVirtualNetwork, nsg.TagVirtualNetwork, fmt.Sprint(guestPort))
	c.path(ItemContainers, sub, c.policy(sub, n), nsg.Inbound, from, to, guestPort, "the builder cannot reach the build vm",
		"AzureImageBuilderInbound", nsg.TagVirtualNetwork, nsg.TagVirtualNetwork, fmt.Sprint(guestPort))
	if !slices.ContainsFunc(containers.Delegations, func(d string) bool { return strings.EqualFold(d, ContainerDelegation) }) {
		c.find(ItemDelegation, containers.ID, fmt.Sprintf("subnet %s is not delegated to %s", containers.Name, ContainerDelegation),
			"az network vnet subnet update --resource-group %s --vnet-name %s --name %s --delegations %s", groupOf(containers.ID), n.Name, containers.Name, ContainerDelegation)
	}
	c.undelegated(sub, n)
	c.room(sub, n, 1, "the build vm")
	c.room(containers, n, 1, "the builder")
}

func (c *checker) undelegated(sub Subnet, n Network) {
	if len(sub.Delegations) > 0 {
		c.find(ItemDelegation, sub.ID, fmt.Sprintf("subnet %s is delegated to %s: no vm can be put there", sub.Name, sub.Delegations[0]),
			"az network vnet subnet update --resource-group %s --vnet-name %s --name %s --remove delegations", groupOf(sub.ID), n.Name, sub.Name)
	}
}

func (c *checker) room(sub Subnet, n Network, need int, what string) {
	if free := c.s.Free(sub); free < need {
		c.find(ItemAddresses, sub.ID, fmt.Sprintf("subnet %s (%v) has %d free addresses; the build needs %d: %s", sub.Name, sub.Prefix, max(free, 0), need, what),
			"az network vnet subnet create --resource-group %s --vnet-name %s --name %s-2 --address-prefixes PREFIX", groupOf(sub.ID), n.Name, sub.Name)
	}
}

// sample is an address that a machine of the build could get.
func (c *checker) sample(sub Subnet) netip.Addr {
	if free, err := c.s.Allocate(sub, 1); err == nil {
		return free[0]
	}
	return sub.Gateway().Next().Next().Next()
}

// policy is what the group of a subnet says; a group that is broken or missing
// is reported.
func (c *checker) policy(sub Subnet, n Network) *nsg.Policy {
	if sub.Group == "" {
		return nsg.Compile(nil, nil, nil)
	}
	g, err := c.s.Group(sub.Group)
	if err != nil {
		c.find(ItemSubnet, sub.Group, err.Error(), "az network nsg show --ids %s", sub.Group)
	}
	return nsg.Compile(c.s.Tags(n), &g, nil)
}

// path judges one connection by the group of one subnet.
func (c *checker) path(item Item, sub Subnet, p *nsg.Policy, d nsg.Direction, from, to netip.Addr, port uint16, what, name, source, destination, ports string) {
	dec := p.Decide(d, nsg.Packet{Protocol: nsg.TCP, Source: from, Destination: to, SourcePort: 50000, DestinationPort: port})
	if dec.Allowed {
		return
	}
	m := dec.Matches[len(dec.Matches)-1]
	group, err := arm.ParseID(sub.Group)
	if err != nil {
		return
	}
	c.find(item, sub.Group, fmt.Sprintf("%s on port %d: rule %s (priority %d) of network security group %s denies %s", what, port, m.Rule, m.Priority, group.Name, strings.ToLower(d.String())),
		"az network nsg rule create --resource-group %s --nsg-name %s --name %s --priority %d --direction %v --access Allow --protocol Tcp --source-address-prefixes %s --source-port-ranges '*' --destination-address-prefixes %s --destination-port-ranges %s",
		group.Group, group.Name, name, c.freePriority(sub.Group, d, m.Priority), d, source, destination, ports)
}

// preferredPriority is the one that the service's own documentation uses.
const preferredPriority = 400

// freePriority is a priority that no rule has, before that of the denying rule.
func (c *checker) freePriority(group string, d nsg.Direction, before int) int {
	g, err := c.s.Group(group)
	taken := map[int]bool{}
	if err == nil {
		for _, r := range g.Rules {
			if r.Direction == d {
				taken[r.Priority] = true
			}
		}
	}
	for p := min(preferredPriority, before-1); p >= nsg.MinPriority; p-- {
		if !taken[p] {
			return p
		}
	}
	return nsg.MinPriority
}

// Tags are the service tags as they are within a network.
func (s *Snapshot) Tags(n Network) nsg.Tags {
	return nsg.Tags{nsg.TagVirtualNetwork: s.Space(n)}
}

// Space is the address space of a network and of those that it is peered with.
func (s *Snapshot) Space(n Network) []netip.Prefix {
	space := slices.Clone(n.Prefixes)
	for _, id := range n.Peers {
		if peer, err := s.Network(id); err == nil && s.Peered(n, peer) {
			space = append(space, peer.Prefixes...)
		}
	}
	return space
}

// Peered reports whether two networks reach each other: both say so.
func (s *Snapshot) Peered(a, b Network) bool {
	names := func(n, other Network) bool {
		return slices.ContainsFunc(n.Peers, func(id string) bool { return resource.Key(id) == resource.Key(other.ID) })
	}
	return names(a, b) && names(b, a)
}
