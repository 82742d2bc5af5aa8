package imagebuilder_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"goldsmith/internal/armapi/imagebuilder/imagebuildertest"
	"goldsmith/internal/build"
	"goldsmith/internal/build/buildtest"
)

// Clients of Microsoft.Network and builds share the addresses of a subnet: nobody is
// given that of an exposed service, nor one that a build has.
func TestNetworkInterfacesAndBuildsShareAddresses(t *testing.T) {
	d := imagebuildertest.New(t)
	d.Serve(1)
	reached, lift := blocked(d)
	defer lift()
	at := func(path string) string { return d.ID("Microsoft.Network/"+path) + "?api-version=2024-05-01" }
	d.Want(http.StatusCreated, "PUT", at("virtualNetworks/v"), object{"location": buildtest.Location, "properties": object{
		"addressSpace": object{"addressPrefixes": []string{"10.7.0.0/16"}},
		"subnets":      []any{object{"name": "build", "properties": object{"addressPrefix": "10.7.0.0/24", "privateLinkServiceNetworkPolicies": "Disabled"}}},
	}})
	vnet := d.ID("Microsoft.Network/virtualNetworks/v")
	subnet := object{"id": vnet + "/subnets/build"}
	err := d.Engine.ChangeNetworkSettings(t.Context(), vnet, func(s *build.NetworkSettings) error {
		s.Exposed = append(s.Exposed, build.Exposed{At: netip.MustParseAddrPort("10.7.0.4:80"), Target: "127.0.0.1:9"})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	card := func(more object) object {
		config := object{"subnet": subnet}
		for k, v := range more {
			config[k] = v
		}
		return object{"location": buildtest.Location, "properties": object{"ipConfigurations": []any{object{"name": "c", "properties": config}}}}
	}
	has := func(a imagebuildertest.Answer, address string) bool {
		return strings.Contains(a.Text, `"privateIPAddress":"`+address+`"`)
	}
	if a := d.Want(http.StatusCreated, "PUT", at("networkInterfaces/one"), card(nil)); !has(a, "10.7.0.5") {
		t.Errorf("a card: %s", a.Text)
	}
	if a := d.Want(http.StatusCreated, "PUT", at("privateEndpoints/e"), object{"location": buildtest.Location, "properties": object{"subnet": subnet}}); !has(a, "10.7.0.6") {
		t.Errorf("an endpoint: %s", a.Text)
	}
	if a := d.Do("PUT", at("networkInterfaces/two"), card(object{"privateIPAddress": "10.7.0.4", "privateIPAllocationMethod": "Static"})); a.Status < 400 || !strings.Contains(a.Text, "PrivateIPAddressInUse") {
		t.Errorf("a card at the exposed service's address: %d %s", a.Status, a.Text)
	}

	more := object{"vmProfile": object{"vnetConfig": object{"subnetId": subnet["id"]}}}
	for k, v := range waiting {
		more[k] = v
	}
	made(d, "a", "2022-07-01", more)
	d.Want(http.StatusAccepted, "POST", action(d, "a", "run", "2022-07-01"), nil)
	<-reached // it has 10.7.0.7 to 10.7.0.10
	if a := d.Want(http.StatusCreated, "PUT", at("networkInterfaces/two"), card(nil)); !has(a, "10.7.0.11") {
		t.Errorf("a card beside a build: %s", a.Text)
	}
	if a := d.Want(http.StatusOK, "PUT", at("networkInterfaces/two"), card(object{"privateIPAllocationMethod": "Dynamic"})); !has(a, "10.7.0.11") {
		t.Errorf("the card again: %s", a.Text)
	}
}
