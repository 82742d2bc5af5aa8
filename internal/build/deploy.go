package build

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/network"
	"goldsmith/internal/network/topology"
	"goldsmith/internal/nsg"
	"goldsmith/internal/plan"
	"goldsmith/internal/run"
	"goldsmith/internal/vnet"
)

// defaultProxySize is the proxy VM's size where the template cannot or does not
// say another.
const defaultProxySize = "Standard_A1_v2"

// deployment is the network of a run.
type deployment struct {
	config network.Config // without what observes it
	port   uint16         // of the build VM, for the builder
	proxy  *plan.VMSize   // nil without a proxy VM
	drawn  topology.Topology
}

// staged is a resource that a run puts into the staging group.
type staged struct {
	id, typ string
	props   map[string]any
}

// stager names and writes the resources of one run.
type stager struct {
	b             *builder
	group, suffix string
	subscription  string
	snapshot      *vnet.Snapshot
	list          []staged
}

func (s *stager) id(typ, prefix string) string {
	return arm.ResourceID(s.subscription, s.group, typ, prefix+s.suffix)
}

func (s *stager) add(id, typ string, props map[string]any) {
	s.list = append(s.list, staged{id, typ, props})
}

func ref(id string) map[string]any { return map[string]any{"id": id} }

// config is one address configuration.
func addressConfig(name string, addr netip.Addr, subnet string, more map[string]any) map[string]any {
	p := map[string]any{"privateIPAddress": addr.String(), "subnet": ref(subnet)}
	for k, v := range more {
		p[k] = v
	}
	return map[string]any{"name": name, "properties": p}
}

// deploy records the build VM, its disk and its network, each undone with the
// run, and says how the network is made.
func (b *builder) deploy(ctx context.Context) (*deployment, error) {
	group, err := arm.ParseID(b.job.Staging.Group)
	if err != nil {
		return nil, err
	}
	// Addresses are given to one run at a time.
	unlock, err := b.engine.LockNetworks(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	snapshot, err := b.engine.NetworkSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	s := &stager{b: b, group: group.Name, subscription: group.Subscription, suffix: b.active.id()[:8], snapshot: snapshot}
	windows := strings.EqualFold(string(b.plan.Base.OS), "Windows")
	want, given := WantedNetwork(b.template, b.engine.subscription, windows)
	var d *deployment
	switch {
	case !given:
		d, err = s.public(windows)
	default:
		if err := errors.Join(joinFindings(vnet.Checklist(snapshot, want)), b.engine.checkBridge(want.SubnetID)); err != nil {
			return nil, err
		}
		if want.ContainerSubnetID != "" {
			d, err = s.isolated(want)
		} else {
			d, err = s.proxied(want)
		}
	}
	if err != nil {
		return nil, err
	}
	if given {
		sub, n, err := snapshot.Subnet(want.SubnetID)
		if err != nil {
			return nil, err
		}
		f, err := b.engine.furnishings(ctx, snapshot, n)
		if err != nil {
			return nil, err
		}
		if err := b.engine.furnish(snapshot, f, &d.config, b.warn); err != nil {
			return nil, err
		}
		if d.config.Bridge = b.bridgeOn(want.SubnetID); d.config.Bridge != nil {
			d.drawn.Notes = append(d.drawn.Notes, fmt.Sprintf("subnet on bridge %s, the build vm as %v", d.config.Bridge.Name, d.config.Bridge.HardwareAddress()))
		}
		// The keys of the layers hold the rules.
		rules, err := b.engine.subnetRules(snapshot, sub, n, f)
		if err != nil {
			return nil, err
		}
		if rules != b.plan.Rules {
			return nil, arm.Errorf(arm.CodeConflict, "the rules of the network changed while the build was prepared: build again").At(want.SubnetID)
		}
	}
	for _, r := range s.list {
		if err := b.undo.push(ctx, run.Undo{Kind: undoResource, Target: r.id}); err != nil {
			return nil, err
		}
		r.props["provisioningState"] = "Succeeded"
		if err := b.engine.putResource(ctx, r.id, r.typ, b.plan.Location, b.template.ManagedResourceTags, r.props); err != nil {
			return nil, fmt.Errorf("stage the build VM: %w", err)
		}
	}
	return d, nil
}

// machine adds the records of the build VM on a card with config.
func (s *stager) machine(config map[string]any) {
	nic, disk, vm := s.id(typeNIC, "pkrni"), s.id(typeDisk, "pkros"), s.id(typeVM, "pkrvm")
	p := s.b.plan
	s.add(nic, typeNIC, map[string]any{"ipConfigurations": []any{config}})
	s.add(disk, typeDisk, map[string]any{"diskSizeGB": p.DiskBytes >> 30, "hyperVGeneration": fmt.Sprintf("V%d", p.Base.Generation)})
	s.add(vm, typeVM, map[string]any{
		"storageProfile": map[string]any{"osDisk": map[string]any{"osType": p.Base.OS, "managedDisk": ref(disk)}},
		"networkProfile": map[string]any{"networkInterfaces": []any{ref(nic)}},
	})
}

// public is the deployment without a network of the user's: network and subnet in
// the staging group, a public address, and a security group that lets nobody but
// the builder in.
func (s *stager) public(windows bool) (*deployment, error) {
	_, port := vnet.Ports(windows)
	own, group, ip := s.id(typeVNet, "pkrvn"), s.id(typeNSG, "pkrsg"), s.id(typePublicIP, "pkrip")
	rules := map[string]any{"securityRules": []any{map[string]any{"name": "builder", "properties": map[string]any{
		"priority": 100, "direction": "Inbound", "access": "Allow", "protocol": "Tcp",
		"sourceAddressPrefix": "AzureCloud", "sourcePortRange": "*", "destinationAddressPrefix": "*", "destinationPortRange": fmt.Sprint(port),
	}}}}
	subnet := own + "/subnets/pkrsn" + s.suffix
	s.add(group, typeNSG, rules)
	s.add(own, typeVNet, map[string]any{
		"addressSpace": map[string]any{"addressPrefixes": []string{network.BuildSubnet.String()}},
		"subnets": []any{map[string]any{"name": "pkrsn" + s.suffix, "properties": map[string]any{
			"addressPrefix": network.BuildSubnet.String(), "networkSecurityGroup": ref(group),
		}}},
	})
	s.add(ip, typePublicIP, map[string]any{"publicIPAllocationMethod": "Static"})
	s.machine(addressConfig("ipconfig", network.BuildAddress, subnet, map[string]any{"publicIPAddress": ref(ip)}))
	g := nsg.Group{ID: group, Rules: []nsg.Rule{{
		Name: "builder", Priority: 100, Direction: nsg.Inbound, Allow: true, Protocol: nsg.TCP,
		Sources: []string{"AzureCloud"}, Destinations: []string{"*"},
		SourcePorts: []nsg.PortRange{nsg.AllPorts}, DestinationPorts: []nsg.PortRange{{First: port, Last: port}},
	}}}
	policy := nsg.Compile(nsg.Tags{
		nsg.TagVirtualNetwork: {network.BuildSubnet}, "AzureCloud": {netip.PrefixFrom(network.ServiceAddress, 32)},
	}, &g, nil)
	d := &deployment{port: port, config: network.Config{Builder: network.ServiceAddress, Policy: policy, GuestPorts: []uint16{port}}}
	d.drawn = topology.Public(network.ServiceAddress, network.BuildSubnet, network.BuildGateway, network.BuildAddress, port)
	return d, nil
}

// existing is what both deployments on a network of the user's have in common.
func (s *stager) existing(id string, port uint16) (*deployment, vnet.Subnet, vnet.Network, error) {
	sub, n, err := s.snapshot.Subnet(id)
	if err != nil {
		return nil, sub, n, err
	}
	return &deployment{port: port, config: network.Config{
		Subnet: sub.Prefix, Router: sub.Gateway(), Inside: s.snapshot.Space(n), GuestPorts: []uint16{port},
	}}, sub, n, nil
}

// proxied is the deployment with private link, load balancer and proxy VM.
func (s *stager) proxied(want vnet.Deployment) (*deployment, error) {
	proxyPort, port := vnet.Ports(want.Windows)
	d, sub, n, err := s.existing(want.SubnetID, port)
	if err != nil {
		return nil, err
	}
	addrs, err := s.snapshot.Allocate(sub, vnet.DeploymentAddresses)
	if err != nil {
		return nil, err
	}
	nat, frontend, proxy, guest := addrs[0], addrs[1], addrs[2], addrs[3]
	policy, err := subnetPolicy(s.snapshot, sub, tagsOf(s.snapshot, n, frontend))
	if err != nil {
		return nil, err
	}
	for _, tag := range policy.Unknown() {
		s.b.warn("the service tag %s of %s stands for no address here: its rules match nothing", tag, sub.Group)
	}
	name := s.b.template.VMProfile.VNet.ProxyVMSize
	if name == "" {
		name = defaultProxySize
	}
	size, err := s.b.engine.cfg.Host.Sizes.Lookup(name)
	if err != nil {
		return nil, arm.Errorf(arm.CodeValidationFailed, "proxyVmSize: %w", err)
	}
	d.proxy = &size
	d.config.Guest, d.config.Policy = guest, policy
	d.config.Proxy = &network.Proxy{Addr: proxy, Frontend: frontend, NAT: nat, Port: proxyPort, Policy: policy}
	d.drawn = topology.Proxied(n.Name+"/"+sub.Name, sub.Prefix, nat, frontend, proxy, guest, proxyPort, port)

	// The private endpoint is in a network of the service's own.
	own, balancer, service := s.id(typeVNet, "pkrvn"), s.id(vnet.TypeLoadBalancer, "pkrlb"), s.id(vnet.TypeLinkService, "pkrpl")
	s.add(own, typeVNet, map[string]any{
		"addressSpace": map[string]any{"addressPrefixes": []string{network.BuildSubnet.String()}},
		"subnets":      []any{map[string]any{"name": "service", "properties": map[string]any{"addressPrefix": network.BuildSubnet.String()}}},
	})
	front := addressConfig("frontend", frontend, sub.ID, nil)
	front["id"] = balancer + "/frontendIPConfigurations/frontend"
	s.add(balancer, vnet.TypeLoadBalancer, map[string]any{
		"frontendIPConfigurations": []any{front},
		"backendAddressPools":      []any{map[string]any{"name": "proxy", "id": balancer + "/backendAddressPools/proxy"}},
		"probes": []any{map[string]any{"name": "proxy", "properties": map[string]any{
			"protocol": "Tcp", "port": proxyPort, "intervalInSeconds": 1, "numberOfProbes": 2}}},
		"loadBalancingRules": []any{map[string]any{"name": "proxy", "properties": map[string]any{
			"protocol": "Tcp", "frontendPort": proxyPort, "backendPort": proxyPort}}},
	})
	s.add(service, vnet.TypeLinkService, map[string]any{
		"ipConfigurations":                     []any{addressConfig("nat", nat, sub.ID, nil)},
		"loadBalancerFrontendIpConfigurations": []any{ref(balancer + "/frontendIPConfigurations/frontend")},
	})
	s.add(s.id(vnet.TypePrivateEndpoint, "pkrpe"), vnet.TypePrivateEndpoint, map[string]any{
		"subnet": ref(own + "/subnets/service"), "privateIPAddress": network.BuildAddress.String(),
		"privateLinkServiceConnections": []any{map[string]any{"name": "builder", "properties": map[string]any{"privateLinkServiceId": service}}},
	})
	nic := s.id(typeNIC, "pkrpn")
	s.add(nic, typeNIC, map[string]any{"enableIPForwarding": true, "ipConfigurations": []any{addressConfig("ipconfig", proxy, sub.ID, map[string]any{
		"loadBalancerBackendAddressPools": []any{ref(balancer + "/backendAddressPools/proxy")}})}})
	s.add(s.id(typeVM, "pkrpv"), typeVM, map[string]any{
		"hardwareProfile": map[string]any{"vmSize": size.Name},
		"networkProfile":  map[string]any{"networkInterfaces": []any{ref(nic)}},
	})
	s.machine(addressConfig("ipconfig", guest, sub.ID, nil))
	return d, nil
}

// isolated is the deployment in which the builder has a subnet of its own.
func (s *stager) isolated(want vnet.Deployment) (*deployment, error) {
	_, port := vnet.Ports(want.Windows)
	d, sub, n, err := s.existing(want.SubnetID, port)
	if err != nil {
		return nil, err
	}
	containers, _, err := s.snapshot.Subnet(want.ContainerSubnetID)
	if err != nil {
		return nil, err
	}
	guest, err := s.snapshot.Allocate(sub, 1)
	if err != nil {
		return nil, err
	}
	builder, err := s.snapshot.Allocate(containers, 1)
	if err != nil {
		return nil, err
	}
	if d.config.Policy, err = subnetPolicy(s.snapshot, sub, tagsOf(s.snapshot, n, netip.Addr{})); err != nil {
		return nil, err
	}
	d.config.Guest, d.config.Builder = guest[0], builder[0]
	d.drawn = topology.Isolated(n.Name+"/"+containers.Name, n.Name+"/"+sub.Name, containers.Prefix, sub.Prefix, builder[0], guest[0], port)
	s.add(s.id(typeContainers, "pkraci"), typeContainers, map[string]any{
		"ipConfigurations": []any{addressConfig("builder", builder[0], containers.ID, nil)},
	})
	s.machine(addressConfig("ipconfig", guest[0], sub.ID, nil))
	return d, nil
}
