package imagetemplate

import (
	"strings"

	"goldsmith/internal/arm"
)

const subnetType = "Microsoft.Network/virtualNetworks/subnets"

// vnet reads vnetConfig of 2020-02-14 and later; nil when it names no network.
func (r *reader) vnet(v *value) *VNet {
	m := v.object
	n := &VNet{
		Pointer:           v.at.pointer,
		SubnetID:          m.text("subnetId"),
		ContainerSubnetID: m.text("containerInstanceSubnetId"),
		ProxyVMSize:       m.text("proxyVmSize"),
	}
	if !m.tried("subnetId") {
		r.noSubnet(v, n)
		return nil
	}
	subnet, subnetOK := r.subnet(m, "subnetId")
	container, containerOK := r.subnet(m, "containerInstanceSubnetId")
	if n.ContainerSubnetID != "" && n.ProxyVMSize != "" {
		r.report.bad(m.place("proxyVmSize"), n.ProxyVMSize,
			"it must not be given with containerInstanceSubnetId: there is no proxy machine then")
	}
	if subnetOK && containerOK {
		at := m.place("containerInstanceSubnetId")
		network, _ := subnet.Parent()
		other, _ := container.Parent()
		switch {
		case subnet.Key() == container.Key():
			r.report.bad(at, n.ContainerSubnetID, "it must be another subnet than subnetId")
		case network.Key() != other.Key():
			r.report.bad(at, n.ContainerSubnetID, "it must be a subnet of the same virtual network as subnetId")
		}
	}
	return n
}

// noSubnet judges a vnetConfig without a subnetId. Without any of the two
// subnets it asks for no network of the user's; anything else in it was meant
// to, and must not be ignored.
func (r *reader) noSubnet(v *value, n *VNet) {
	if n.ContainerSubnetID != "" {
		r.report.missing(v.at, "subnetId", "containerInstanceSubnetId goes only with subnetId")
		return
	}
	for _, m := range v.node.Members {
		if m.Overridden || blank(m.Value) {
			continue
		}
		if f, known := vnetShape.find(m.Key, r.version); known && f.key == "proxyVmSize" {
			r.report.warn(v.at.member(m, m.Key), "'proxyVmSize' has no effect without subnetId")
			continue
		}
		r.report.missing(v.at, "subnetId", "a vnetConfig that names no subnet would build outside the network it means")
		return
	}
}

// subnet checks the id of a subnet; ok is false when it is absent or bad.
func (r *reader) subnet(m *members, key string) (id arm.ID, ok bool) {
	v := m.get(key)
	if v.empty() || v.open {
		return arm.ID{}, false
	}
	return r.id(v.at, v.text, subnetType)
}

// vnetByName reads the network of 2019-05-01-preview, which may stand in three
// places, but only in one of them; nil when there is none. What is empty counts
// as absent.
func (r *reader) vnetByName(properties *members) *VNet {
	profile := properties.object("vmProfile")
	var found *value
	for _, v := range []*value{
		profile.get("vnetConfig"), profile.get("VirtualNetworkConfig"), properties.get("VirtualNetworkConfig"),
	} {
		if v == nil || blank(v.node) {
			continue
		}
		if found != nil {
			r.report.fail(v.at, arm.CodeValidationFailed,
				"the network is given twice, here and at %s: remove one", found.at.pointer)
			continue
		}
		found = v
	}
	if found == nil {
		return nil
	}
	m := found.object
	n := &VNetName{Name: m.text("name"), Subnet: m.text("subnetName"), Group: m.text("resourceGroupName")}
	if !m.tried("name") {
		r.report.missing(found.at, "name", "subnetName and resourceGroupName must be given if and only if name is")
		return nil
	}
	for _, key := range []string{"subnetName", "resourceGroupName"} {
		if !m.tried(key) {
			r.report.missing(found.at, key, key+" must be given if and only if name is")
		}
	}
	for _, key := range []string{"name", "subnetName", "resourceGroupName"} {
		if v := m.get(key); !v.empty() && !v.open && strings.ContainsAny(v.text, "/\\?#%\x00") {
			r.report.bad(v.at, v.text, "it must be a name, not an id")
		}
	}
	return &VNet{ByName: n, Pointer: found.at.pointer}
}
