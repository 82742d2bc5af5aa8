package providers_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"goldsmith/internal/armapi"
)

const net = rg + "/providers/Microsoft.Network/"

const vnetBody = `{"location":"westus2","properties":{"addressSpace":{"addressPrefixes":["10.0.0.0/16"]},"subnets":[{"name":"subnet01","properties":{"addressPrefix":"10.0.0.0/24"}}]}}`

func TestNetworks(t *testing.T) {
	d, _ := door(t)
	v := net + "virtualNetworks/vnet1"
	a := d.Want(201, "PUT", v, vnetBody)
	if a.Field("properties.subnets.0.id") != v+"/subnets/subnet01" || a.Field("properties.subnets.0.properties.privateLinkServiceNetworkPolicies") != "Enabled" ||
		a.Field("etag") == "" || a.Field("properties.provisioningState") != "Succeeded" {
		t.Error(a.Text)
	}
	sub := d.Want(200, "GET", v+"/Subnets/SUBNET01", "")
	if sub.Field("name") != "subnet01" || sub.Field("type") != "Microsoft.Network/virtualNetworks/subnets" || sub.Field("properties.addressPrefix") != "10.0.0.0/24" {
		t.Error(sub.Text)
	}
	// As az does it: the whole object comes back, changed.
	changed := strings.Replace(sub.Text, `"privateLinkServiceNetworkPolicies":"Enabled"`, `"privateLinkServiceNetworkPolicies":"Disabled"`, 1)
	if a := d.Want(200, "PUT", v+"/subnets/subnet01", changed); a.Field("properties.privateLinkServiceNetworkPolicies") != "Disabled" || a.Field("etag") == sub.Field("etag") {
		t.Error(a.Text)
	}
	d.Want(201, "PUT", v+"/subnets/s2", `{"properties":{"addressPrefix":"10.0.1.0/24"}}`)
	if a := d.Want(200, "GET", v+"/subnets", ""); a.Field("value.1.name") != "s2" {
		t.Error(a.Text)
	}
	// A PUT of the network that does not speak of subnets leaves them.
	if a := d.Want(200, "PUT", v, `{"location":"westus2","properties":{"addressSpace":{"addressPrefixes":["10.0.0.0/16"]}}}`); a.Field("properties.subnets.1.name") != "s2" {
		t.Error(a.Text)
	}
	for body, code := range map[string]string{
		`{"properties":{"addressPrefix":"10.1.0.0/24"}}`:   "NetcfgInvalidSubnet",
		`{"properties":{"addressPrefix":"10.0.0.128/25"}}`: "NetcfgSubnetRangesOverlap",
		`{"properties":{"addressPrefix":"ten"}}`:           "InvalidAddressPrefixFormat",
		`{"properties":{"addressPrefix":"10.0.2.0/24","networkSecurityGroup":{"id":"` + net + `networkSecurityGroups/none"}}}`: "InvalidResourceReference",
	} {
		if a := d.Want(400, "PUT", v+"/subnets/s3", body); a.Code() != code {
			t.Errorf("%s: %s", body, a.Text)
		}
	}
	d.Want(404, "GET", v+"/subnets/s3", "")
	d.Want(404, "GET", net+"virtualNetworks/none/subnets/s", "")
	d.Want(404, "PUT", net+"virtualNetworks/none/subnets/s", `{"properties":{"addressPrefix":"10.0.2.0/24"}}`)
	d.Want(412, "PUT", v+"/subnets/s2", `{"properties":{"addressPrefix":"10.0.1.0/24"}}`, "If-Match", "old")

	// Somebody in a subnet keeps it and its network.
	d.Want(201, "PUT", net+"networkInterfaces/n", `{"location":"westus2","properties":{"ipConfigurations":[{"name":"c","properties":{"subnet":{"id":"`+v+`/subnets/s2"}}}]}}`)
	a = d.Want(200, "GET", net+"networkInterfaces/n", "")
	if a.Field("properties.ipConfigurations.0.properties.privateIPAddress") != "10.0.1.4" || a.Field("properties.ipConfigurations.0.id") != net+"networkInterfaces/n/ipConfigurations/c" {
		t.Error(a.Text)
	}
	d.Want(400, "DELETE", v+"/subnets/s2", "")
	d.Want(400, "DELETE", v, "")
	d.Want(200, "DELETE", net+"networkInterfaces/n", "")
	d.Want(200, "DELETE", v+"/subnets/s2", "")
	d.Want(204, "DELETE", v+"/subnets/s2", "")
	d.Want(200, "DELETE", v, "")
	d.Want(204, "DELETE", v, "")
	d.Want(204, "DELETE", v+"/subnets/s2", "")
}

func TestSecurityGroups(t *testing.T) {
	d, _ := door(t)
	g := net + "networkSecurityGroups/nsg"
	a := d.Want(201, "PUT", g, `{"location":"westus2"}`)
	if a.Field("properties.securityRules") != "[]" || a.Field("properties.defaultSecurityRules.0.name") != "AllowVnetInBound" {
		t.Error(a.Text)
	}
	rule := func(priority int) string {
		return fmt.Sprintf(`{"name":"r","properties":{"access":"Allow","direction":"Inbound","priority":%d,"protocol":"Tcp","sourceAddressPrefix":"AzureLoadBalancer","sourcePortRange":"*","destinationAddressPrefix":"VirtualNetwork","destinationPortRange":"60000-60001"}}`, priority)
	}
	d.Want(201, "PUT", g+"/securityRules/r", rule(400))
	d.Want(200, "PUT", g+"/securityRules/r", rule(401))
	if a := d.Want(200, "GET", g, ""); a.Field("properties.securityRules.0.properties.priority") != "401" || a.Field("properties.securityRules.1.name") != "" {
		t.Error(a.Text)
	}
	d.Want(400, "PUT", g+"/securityRules/r2", rule(401))
	d.Want(400, "PUT", g+"/securityRules/r2", rule(5))
	d.Want(200, "GET", g+"/defaultSecurityRules/DenyAllInBound", "")
	d.Want(200, "GET", g+"/defaultSecurityRules", "")
	d.Want(404, "GET", g+"/defaultSecurityRules/none", "")
	d.Want(201, "PUT", net+"virtualNetworks/v", strings.Replace(vnetBody, `"addressPrefix":`, `"networkSecurityGroup":{"id":"`+g+`"},"addressPrefix":`, 1))
	d.Want(400, "DELETE", g, "")
	d.Want(200, "DELETE", g+"/securityRules/r", "")
	d.Want(204, "DELETE", g+"/securityRules/r", "")
}

// Whoever refers to a subnet or a security group must have the right to.
func TestJoins(t *testing.T) {
	d, _ := door(t)
	d.Want(201, "PUT", net+"virtualNetworks/v", vnetBody)
	nic := `{"location":"westus2","properties":{"ipConfigurations":[{"name":"c","properties":{"subnet":{"id":"` + net + `virtualNetworks/v/subnets/subnet01"}}}]}}`
	d.Allow = func(q armapi.Access) bool { return q.Action == "Microsoft.Network/networkInterfaces/write" }
	if a := d.As("some", "PUT", net+"networkInterfaces/n", nic); a.Status != 403 || a.Code() != "LinkedAuthorizationFailed" || !strings.Contains(a.Text, "virtualNetworks/subnets/join/action") {
		t.Errorf("%d %s", a.Status, a.Text)
	}
	d.Allow = func(q armapi.Access) bool {
		return q.Action == "Microsoft.Network/networkInterfaces/write" || (q.Action == "Microsoft.Network/virtualNetworks/subnets/join/action" && q.Scope == net+"virtualNetworks/v/subnets/subnet01")
	}
	if a := d.As("some", "PUT", net+"networkInterfaces/n", nic); a.Status != 201 {
		t.Errorf("%d %s", a.Status, a.Text)
	}
}

// No two interfaces get one address, however they are made.
func TestAddressesAreGivenOnce(t *testing.T) {
	d, _ := door(t)
	d.Want(201, "PUT", net+"virtualNetworks/v", vnetBody)
	var wg sync.WaitGroup
	var mu sync.Mutex
	given := map[string]bool{}
	for i := range 12 {
		wg.Go(func() {
			a := d.Do("PUT", fmt.Sprintf("%snetworkInterfaces/n%d", net, i), `{"location":"westus2","properties":{"ipConfigurations":[{"name":"c","properties":{"subnet":{"id":"`+net+`virtualNetworks/v/subnets/subnet01"}}}]}}`)
			mu.Lock()
			defer mu.Unlock()
			given[a.Field("properties.ipConfigurations.0.properties.privateIPAddress")] = true
		})
	}
	wg.Wait()
	if len(given) != 12 || given[""] {
		t.Errorf("addresses %v", given)
	}
}

func TestOtherNetworkTypes(t *testing.T) {
	d, _ := door(t)
	for _, typ := range []string{"publicIPAddresses", "loadBalancers", "privateLinkServices", "privateEndpoints", "privateDnsZones"} {
		path := net + typ + "/x"
		d.Want(201, "PUT", path, `{"location":"westus2","sku":{"name":"Standard"},"properties":{}}`)
		if a := d.Want(200, "GET", path, ""); a.Field("sku.name") != "Standard" {
			t.Error(a.Text)
		}
		if a := d.Want(200, "GET", net+typ, ""); a.Field("value.0.name") != "x" {
			t.Error(a.Text)
		}
		d.Want(200, "PATCH", path, `{"tags":{"a":"b"}}`)
		d.Want(200, "DELETE", path, "")
	}
}
