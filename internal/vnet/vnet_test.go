package vnet

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
)

const (
	scope  = "/subscriptions/s/resourceGroups/net/providers/Microsoft.Network/"
	netID  = scope + "virtualNetworks/v"
	nsgID  = scope + "networkSecurityGroups/g"
	subID  = netID + "/subnets/build"
	aciID  = netID + "/subnets/aci"
	region = "westeurope"
)

func record(id, typ string, props string) resource.Record {
	return resource.Record{ID: id, Type: typ, Name: id[strings.LastIndex(id, "/")+1:], Location: region, Properties: json.RawMessage(props)}
}

// ready is a network on which a build can run.
func ready() []resource.Record {
	return []resource.Record{
		record(netID, TypeNetwork, `{"addressSpace": {"addressPrefixes": ["10.1.0.0/16"]}, "subnets": [
			{"name": "build", "properties": {"addressPrefix": "10.1.0.0/24", "networkSecurityGroup": {"id": "`+nsgID+`"}, "privateLinkServiceNetworkPolicies": "Disabled"}},
			{"name": "aci", "properties": {"addressPrefix": "10.1.1.0/24", "delegations": [{"name": "d", "properties": {"serviceName": "Microsoft.ContainerInstance/containerGroups"}}]}}]}`),
		record(nsgID, TypeGroup, `{"securityRules": []}`),
	}
}

func change(records []resource.Record, old, new string) []resource.Record {
	for i, r := range records {
		if strings.Contains(string(r.Properties), old) {
			records[i].Properties = json.RawMessage(strings.Replace(string(r.Properties), old, new, 1))
			return records
		}
	}
	panic("nothing holds " + old)
}

func card(name, subnet, addr string) resource.Record {
	at := ""
	if addr != "" {
		at = `"privateIPAddress": "` + addr + `", `
	}
	return record(scope+"networkInterfaces/"+name, TypeInterface, `{"ipConfigurations": [{"name": "c", "properties": {`+at+`"subnet": {"id": "`+subnet+`"}}}]}`)
}

const denyAll = `{"securityRules": [{"name": "deny", "properties": {"priority": 4096, "direction": "Inbound", "access": "Deny", "protocol": "*",
	"sourceAddressPrefix": "*", "sourcePortRange": "*", "destinationAddressPrefix": "*", "destinationPortRange": "*"}}`

func allow(name string, priority int, from, to, ports string) string {
	return fmt.Sprintf(`, {"name": %q, "properties": {"priority": %d, "direction": "Inbound", "access": "Allow", "protocol": "Tcp",
		"sourceAddressPrefix": %q, "sourcePortRange": "*", "destinationAddressPrefix": %q, "destinationPortRange": %q}}`, name, priority, from, to, ports)
}

func TestChecklist(t *testing.T) {
	build := Deployment{SubnetID: subID, Location: "West Europe"}
	isolated := Deployment{SubnetID: subID, ContainerSubnetID: aciID, Location: region}
	windows := Deployment{SubnetID: subID, Location: region, Windows: true}
	rules := func(text string) []resource.Record { return change(ready(), `{"securityRules": [`, text) }
	tests := []struct {
		name    string
		records []resource.Record
		d       Deployment
		want    []string // "item | part of the message | part of the command"
	}{
		{"ready", ready(), build, nil},
		{"ready, isolated", ready(), isolated, nil},
		{"subnet in another case", ready(), Deployment{SubnetID: strings.ToUpper(subID), Location: region}, nil},
		{"deny-all", rules(strings.TrimSuffix(denyAll, "]}")), build, []string{
			"reaches the proxy | rule deny (priority 4096) of network security group g denies inbound | --priority 400 --direction Inbound --access Allow --protocol Tcp --source-address-prefixes AzureLoadBalancer --source-port-ranges '*' --destination-address-prefixes VirtualNetwork --destination-port-ranges 60000-60001",
			"proxy vm reaches the build vm | port 22 | --destination-port-ranges 22"}},
		{"deny-all with the document's rule", rules(strings.TrimSuffix(denyAll, "]}") + allow("lb", 400, "AzureLoadBalancer", "VirtualNetwork", "60000-60001")), build, []string{
			"proxy vm reaches the build vm | port 22 | --priority 399"}},
		{"deny-all with both rules", rules(strings.TrimSuffix(denyAll, "]}") + allow("lb", 400, "AzureLoadBalancer", "VirtualNetwork", "60000-60001") +
			allow("ssh", 401, "VirtualNetwork", "VirtualNetwork", "22")), build, nil},
		{"the same for windows", rules(strings.TrimSuffix(denyAll, "]}") + allow("lb", 400, "AzureLoadBalancer", "VirtualNetwork", "60000-60001") +
			allow("ssh", 401, "VirtualNetwork", "VirtualNetwork", "22")), windows, []string{"proxy vm reaches the build vm | port 5986 | 5986"}},
		{"policies", change(ready(), `"Disabled"`, `"Enabled"`), build, []string{
			"checklist 2 | policies enabled | az network vnet subnet update --resource-group net --vnet-name v --name build --disable-private-link-service-network-policies true"}},
		{"policies do not matter without a proxy", change(ready(), `"Disabled"`, `"Enabled"`), isolated, nil},
		{"region", ready(), Deployment{SubnetID: subID, Location: "eastus"}, []string{"checklist 5 | is in westeurope, the template in eastus | --location eastus"}},
		{"no network", ready()[1:], build, []string{"the subnet exists | virtual network v does not exist in group net | az network vnet create"}},
		{"no subnet", ready(), Deployment{SubnetID: netID + "/subnets/none", Location: region}, []string{"the subnet exists | v has no subnet none | --name none"}},
		{"delegated", ready(), Deployment{SubnetID: aciID, Location: region}, []string{
			"checklist 2 | policies | true", "delegated as needed | delegated to Microsoft.ContainerInstance/containerGroups: no vm | --remove delegations"}},
		{"not delegated", change(ready(), "Microsoft.ContainerInstance", "Microsoft.Other"), isolated, []string{
			"delegated as needed | subnet aci is not delegated | --delegations Microsoft.ContainerInstance/containerGroups"}},
		{"full", append(change(ready(), "10.1.0.0/24", "10.1.0.0/29"), card("n", subID, "10.1.0.4")), build, []string{
			"free addresses | has 2 free addresses; the build needs 4: private link NAT, load balancer, proxy vm and build vm | subnet create"}},
		{"room enough", change(ready(), "10.1.0.0/24", "10.1.0.0/28"), build, nil},
		{"broken group", change(ready(), `"securityRules": [`, `"securityRules": [{}`), build, []string{"subnet exists | has no name | az network nsg show"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Checklist(NewSnapshot(tt.records), tt.d)
			if len(got) != len(tt.want) {
				// Each direction of a path is a finding of its own.
				t.Fatalf("%d findings, want %d: %+v", len(got), len(tt.want), got)
			}
			for i, f := range got {
				part := strings.Split(tt.want[i], " | ")
				if !strings.Contains(string(f.Item), part[0]) || !strings.Contains(f.Message, part[1]) || !strings.Contains(f.Command, part[2]) {
					t.Errorf("finding %d: %+v\nwant %v", i, f, part)
				}
				if err := f.Err(); err.Target == "" || !strings.Contains(err.Error(), f.Command) {
					t.Errorf("error %v", err)
				}
			}
		})
	}
}

func TestPutAndDelete(t *testing.T) {
	with := func(r ...resource.Record) []resource.Record { return append(ready(), r...) }
	service := record(scope+"privateLinkServices/p", TypeLinkService, `{"ipConfigurations": [{"properties": {"subnet": {"id": "`+subID+`"}}}]}`)
	vm := record("/subscriptions/s/resourceGroups/net/providers/Microsoft.Compute/virtualMachines/m", "Microsoft.Compute/virtualMachines",
		`{"networkProfile": {"networkInterfaces": [{"id": "`+scope+`networkInterfaces/n"}]}}`)
	put := func(r resource.Record) func(*Snapshot) error {
		return func(s *Snapshot) error { _, err := s.Put(r); return err }
	}
	del := func(id string) func(*Snapshot) error {
		return func(s *Snapshot) error { return s.CheckDelete(id) }
	}
	network := func(old, new string) func(*Snapshot) error { return put(change(ready(), old, new)[0]) }
	tests := []struct {
		name    string
		records []resource.Record
		do      func(*Snapshot) error
		want    arm.Code
	}{
		{"the network as it is", ready(), put(ready()[0]), ""},
		{"prefix with host bits", ready(), network("10.1.0.0/16", "10.1.2.3/16"), CodeInvalidPrefix},
		{"no prefix", ready(), network("10.1.0.0/16", "ten"), CodeInvalidPrefix},
		{"subnet outside", ready(), network("10.1.1.0/24", "10.2.1.0/24"), CodeSubnetOutside},
		{"subnet around the space", ready(), network("10.1.0.0/24", "10.0.0.0/8"), CodeSubnetOutside},
		{"tiny subnet", ready(), network("10.1.1.0/24", "10.1.1.0/30"), CodeSubnetOutside},
		{"overlapping subnets", ready(), network("10.1.1.0/24", "10.1.0.128/25"), CodeSubnetsOverlap},
		{"overlapping prefixes", ready(), network(`"10.1.0.0/16"`, `"10.1.0.0/16", "10.1.9.0/24"`), CodeInvalidPrefix},
		{"missing group", ready()[:1], put(ready()[0]), CodeReference},
		{"subnet as its own record", ready(), put(record(netID+"/subnets/more", TypeSubnet, `{"addressPrefix": "10.1.2.0/24"}`)), ""},
		{"its overlap", ready(), put(record(netID+"/subnets/more", TypeSubnet, `{"addressPrefix": "10.1.0.0/25"}`)), CodeSubnetsOverlap},
		{"moving a subnet in use", with(card("n", subID, "10.1.0.4")), network("10.1.0.0/24", "10.1.9.0/24"), CodeSubnetChangeUsed},
		{"dropping a subnet in use", with(card("n", subID, "10.1.0.4")), network(`"build"`, `"other"`), CodeSubnetInUse},
		{"enabling policies under a link service", with(mustPut(t, ready(), service)), network(`"Disabled"`, `"Enabled"`), CodeLinkPolicies},
		{"link service with policies", change(ready(), `"Disabled"`, `"Enabled"`), put(service), CodeLinkPolicies},
		{"card", ready(), put(card("n", subID, "")), ""},
		{"card with an address", ready(), put(card("n", subID, "10.1.0.200")), ""},
		{"card with the router's address", ready(), put(card("n", subID, "10.1.0.1")), CodeAddressReserved},
		{"card with the last address", ready(), put(card("n", subID, "10.1.0.255")), CodeAddressReserved},
		{"card outside", ready(), put(card("n", subID, "10.1.1.4")), CodeAddressOutside},
		{"card with a taken address", with(card("m", subID, "10.1.0.9")), put(card("n", subID, "10.1.0.9")), CodeAddressTaken},
		{"the same card again", with(card("n", subID, "10.1.0.9")), put(card("n", subID, "10.1.0.9")), ""},
		{"card in a delegated subnet", ready(), put(card("n", aciID, "")), CodeSubnetDelegated},
		{"card in no subnet", ready(), put(card("n", netID+"/subnets/none", "")), CodeReference},
		{"bad group", ready(), put(record(nsgID, TypeGroup, `{"securityRules": [{"name": "r"}]}`)), arm.CodeValidationFailed},
		{"bad rule", ready(), put(record(nsgID+"/securityRules/r", TypeGroupRule, `{}`)), arm.CodeValidationFailed},
		{"deleting a group in use", ready(), del(nsgID), CodeInUse},
		{"deleting a network in use", with(card("n", subID, "10.1.0.4")), del(netID), CodeSubnetInUse},
		{"deleting a free subnet", with(card("n", subID, "10.1.0.4")), del(aciID), ""},
		{"deleting a free network", ready(), del(netID), ""},
		{"deleting a machine's card", with(card("n", subID, "10.1.0.4"), vm), del(scope + "networkInterfaces/n"), CodeInUse},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.do(NewSnapshot(tt.records)); arm.CodeOf(err) != tt.want {
				t.Errorf("got %v (%s), want %s", err, arm.CodeOf(err), tt.want)
			}
		})
	}
}

func mustPut(t testing.TB, records []resource.Record, r resource.Record) resource.Record {
	t.Helper()
	out, err := NewSnapshot(records).Put(r)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPeering(t *testing.T) {
	const otherID = scope + "virtualNetworks/w"
	peering := func(of, remote string) resource.Record {
		return record(of+"/virtualNetworkPeerings/p", TypePeering, `{"remoteVirtualNetwork": {"id": "`+remote+`"}}`)
	}
	other := record(otherID, TypeNetwork, `{"addressSpace": {"addressPrefixes": ["10.2.0.0/16"]}}`)
	space := func(records ...resource.Record) string {
		s := NewSnapshot(append(ready(), records...))
		n, err := s.Network(netID)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(s.Space(n))
	}
	if got := space(other, peering(netID, otherID)); got != "[10.1.0.0/16]" {
		t.Errorf("half a peering: %s", got)
	}
	if got := space(other, peering(netID, otherID), peering(otherID, netID)); got != "[10.1.0.0/16 10.2.0.0/16]" {
		t.Errorf("peered: %s", got)
	}
	other.Properties = json.RawMessage(`{"addressSpace": {"addressPrefixes": ["10.1.128.0/17"]}}`)
	if _, err := NewSnapshot(append(ready(), other)).Put(peering(netID, otherID)); !arm.IsCode(err, arm.CodeValidationFailed) {
		t.Errorf("overlapping peers: %v", err)
	}
}

func TestAllocationProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.IntRange(24, maxSubnetBits).Draw(t, "bits")
		records := change(ready(), "10.1.0.0/24", fmt.Sprintf("10.1.0.0/%d", bits))
		seen := map[netip.Addr]bool{}
		s := NewSnapshot(records)
		sub, _, err := s.Subnet(subID)
		if err != nil {
			t.Fatal(err)
		}
		want := sub.Capacity()
		for i := range rapid.IntRange(0, min(want+1, 20)).Draw(t, "cards") {
			free := s.Free(sub)
			if free != want-i {
				t.Fatalf("%d free, want %d", free, want-i)
			}
			r, err := s.Put(card(fmt.Sprint("n", i), subID, ""))
			if free == 0 {
				if !arm.IsCode(err, CodeSubnetFull) {
					t.Fatalf("full subnet: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			s = s.With(r)
			for addr := range s.Taken(subID) {
				if !sub.Prefix.Contains(addr) || sub.Reserved(addr) {
					t.Fatalf("%v was given", addr)
				}
				seen[addr] = true
			}
			if len(seen) != i+1 {
				t.Fatalf("%d addresses for %d cards", len(seen), i+1)
			}
		}
	})
}

// A record keeps the addresses that it was given, whatever it says again, and is
// given others only where it moves.
func TestAddressesStay(t *testing.T) {
	config := func(name, subnet, more string) string {
		return fmt.Sprintf(`{"name": %q, "properties": {"subnet": {"id": %q}%s}}`, name, subnet, more)
	}
	nic := func(configs ...string) resource.Record {
		return record(scope+"networkInterfaces/n", TypeInterface, `{"ipConfigurations": [`+strings.Join(configs, ",")+`]}`)
	}
	addresses := func(r resource.Record) string {
		var all []string
		for _, u := range usesOf(r) {
			if u.Addr.IsValid() {
				all = append(all, u.Addr.String())
			}
		}
		return strings.Join(all, " ")
	}
	const dynamic, static = `, "privateIPAllocationMethod": "Dynamic"`, `, "privateIPAllocationMethod": "Static"`
	s := NewSnapshot(change(ready(), `"10.1.0.0/24"`, `"10.1.0.0/29"`)) // 10.1.0.4 to 10.1.0.6
	for _, tt := range []struct{ name, before, now, want string }{
		{"new", "", config("a", subID, ""), "10.1.0.4"},
		{"again", "10.1.0.6", config("a", subID, ""), "10.1.0.6"},
		{"again, by its case and method", "10.1.0.6", config("A", strings.ToUpper(subID), dynamic), "10.1.0.6"},
		{"dynamic with what it was given", "10.1.0.6", config("a", subID, dynamic+`, "privateIPAddress": "10.1.0.6"`), "10.1.0.6"},
		{"dynamic with another", "10.1.0.6", config("a", subID, dynamic+`, "privateIPAddress": "10.1.0.5"`), "10.1.0.6"},
		{"static", "10.1.0.6", config("a", subID, static+`, "privateIPAddress": "10.1.0.5"`), "10.1.0.5"},
		{"one more", "10.1.0.6", config("a", subID, "") + "," + config("b", subID, ""), "10.1.0.6 10.1.0.4"},
		{"one before", "10.1.0.4", config("b", subID, "") + "," + config("a", subID, ""), "10.1.0.5 10.1.0.4"},
		{"one that chooses after one that does not", "", config("a", subID, "") + "," + config("b", subID, `, "privateIPAddress": "10.1.0.4"`), "10.1.0.5 10.1.0.4"},
		{"all there are", "10.1.0.6", config("a", subID, "") + "," + config("b", subID, "") + "," + config("c", subID, ""), "10.1.0.6 10.1.0.4 10.1.0.5"},
		{"one too many", "", strings.Join([]string{config("a", subID, ""), config("b", subID, ""), config("c", subID, ""), config("d", subID, "")}, ","), string(CodeSubnetFull)},
		{"static without an address", "", config("a", subID, static), string(arm.CodeValidationFailed)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := s
			if tt.before != "" {
				s = s.With(nic(config("a", subID, `, "privateIPAddress": "`+tt.before+`"`)))
			}
			r, err := s.Put(nic(tt.now))
			got := addresses(r)
			if err != nil {
				got = string(arm.CodeOf(err))
			}
			if got != tt.want {
				t.Errorf("got %s, want %s (%v)", got, tt.want, err)
			}
		})
	}
	// A private endpoint has its configuration in its properties.
	endpoint := record(scope+"privateEndpoints/e", TypePrivateEndpoint, `{"subnet": {"id": "`+subID+`"}}`)
	first, err := s.Put(endpoint)
	if err != nil || addresses(first) != "10.1.0.4" {
		t.Fatalf("an endpoint: %s, %v", first.Properties, err)
	}
	s = s.With(first).Occupied(Use{By: netID, Of: subID, Member: "exposed", Addr: netip.MustParseAddr("10.1.0.5")})
	if again, err := s.Put(endpoint); err != nil || addresses(again) != "10.1.0.4" {
		t.Errorf("the endpoint again: %s, %v", again.Properties, err)
	}
	if r, err := s.Put(card("n", subID, "")); err != nil || addresses(r) != "10.1.0.6" {
		t.Errorf("a card beside endpoint and exposed service: %s, %v", r.Properties, err)
	}
	if _, err := s.Put(card("n", subID, "10.1.0.5")); !arm.IsCode(err, CodeAddressTaken) {
		t.Errorf("a card at the exposed service's address: %v", err)
	}
}

func TestOccupiedAddressesAreNotGiven(t *testing.T) {
	s := NewSnapshot(ready())
	sub, _, err := s.Subnet(subID)
	if err != nil {
		t.Fatal(err)
	}
	before, err := s.Allocate(sub, 2)
	if err != nil {
		t.Fatal(err)
	}
	s = s.Occupied(Use{By: netID, Of: subID, Member: "exposed", Addr: before[0]})
	after, err := s.Allocate(sub, 1)
	if err != nil || after[0] != before[1] {
		t.Errorf("given %v, %v; want %v", after, err, before[1])
	}
	if err := s.CheckAddress(sub, before[0], netID+"2"); !arm.IsCode(err, CodeAddressTaken) {
		t.Errorf("somebody else takes it: %v", err)
	}
	if err := s.CheckAddress(sub, before[0], netID); err != nil {
		t.Errorf("its owner keeps it: %v", err)
	}
}
