package imagetemplate

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
)

func TestVNetRules(t *testing.T) {
	const at = "/properties/vmProfile/vnetConfig"
	vnet := func(version, v string) draft {
		return draft{version: version, properties: `, "vmProfile": {"vnetConfig": ` + v + `}`}
	}
	const subnet = `"subnetId": "` + subnetID + `"`
	const container = `, "containerInstanceSubnetId": "`
	runRules(t, []ruleCase{
		{"subnet", vnet("2020-02-14", `{`+subnet+`}`), nil},
		{"both subnets", vnet("2024-02-01", `{`+subnet+container+subnetID+`2"}`), nil},
		{"proxy size", vnet("2021-10-01", `{`+subnet+`, "proxyVmSize": "Standard_A1_v2"}`), nil},
		{"nothing", vnet("2020-02-14", `{}`), nil},
		{"empty", vnet("2024-02-01", `{"subnetId": "", "proxyVmSize": ""}`), nil},
		{"proxy size alone", vnet("2024-02-01", `{"proxyVmSize": "Standard_A1_v2"}`), []want{warning(at+"/proxyVmSize", "no effect without subnetId")}},
		{"container subnet alone", vnet("2024-02-01", `{"containerInstanceSubnetId": "`+subnetID+`"}`),
			[]want{failure(at, "containerInstanceSubnetId goes only with subnetId")}},
		{"container subnet alone before its time", vnet("2023-07-01", `{"containerInstanceSubnetId": "`+subnetID+`"}`), []want{
			failure(at, "Missing field 'subnetId'"),
			warning(at+"/containerInstanceSubnetId", "it came with API version 2024-02-01")}},
		{"container subnet before its time", vnet("2023-07-01", `{`+subnet+container+subnetID+`2"}`), []want{warning(at+"/containerInstanceSubnetId", "it came with API version 2024-02-01")}},
		{"same subnet twice", vnet("2024-02-01", `{`+subnet+container+subnetID+`"}`), []want{failure(at+"/containerInstanceSubnetId", "it must be another subnet than subnetId")}},
		{"another network", vnet("2024-02-01", `{`+subnet+container+`/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/other/subnets/c"}`),
			[]want{failure(at+"/containerInstanceSubnetId", "the same virtual network")}},
		{"proxy size and container subnet", vnet("2024-02-01", `{`+subnet+container+subnetID+`2", "proxyVmSize": "Standard_A1_v2"}`),
			[]want{failure(at+"/proxyVmSize", "it must not be given with containerInstanceSubnetId")}},
		{"subnet by name", vnet("2020-02-14", `{"subnetId": "build"}`), []want{{SeverityError, arm.CodeInvalidResourceID, at + "/subnetId", "virtualNetworks/NETWORK/subnets/SUBNET"}}},
		{"network for a subnet", vnet("2020-02-14", `{"subnetId": "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/net"}`), []want{failure(at+"/subnetId", "Microsoft.Network/virtualNetworks/subnets")}},
		{"subnet of a wrong type", vnet("2020-02-14", `{"subnetId": {}}`), []want{failure(at+"/subnetId", "a string is expected")}},
		{"misspelled subnet", vnet("2020-02-14", `{"subnet": "`+subnetID+`"}`), []want{
			failure(at, "a vnetConfig that names no subnet would build outside"),
			warning(at+"/subnet", "is not a field of API version 2020-02-14 and is ignored")}},
		{"misplaced", draft{version: "2022-07-01", properties: `, "vnetConfig": {` + subnet + `}`},
			[]want{failure("/properties/vnetConfig", "names a network where API version 2022-07-01 does not look for one")}},
		{"other name", draft{version: "2022-07-01", properties: `, "vmProfile": {"virtualNetworkConfig": {` + subnet + `}}`},
			[]want{failure("/properties/vmProfile/virtualNetworkConfig", "it is refused and not ignored")}},
		{"before any profile", draft{version: "2019-02-01-preview", properties: `, "vmProfile": {"vnetConfig": {` + subnet + `}}`},
			[]want{failure("/properties/vmProfile", "names a network")}},
		{"profile before its time", draft{version: "2019-02-01-preview", properties: `, "vmProfile": {"vnetConfig": {"name": ""}}`},
			[]want{warning("/properties/vmProfile", "it came with API version 2019-05-01-preview")}},
		{"twice", draft{version: "2022-07-01", properties: `, "vmProfile": {"vnetConfig": {` + subnet + `}, "VNetConfig": {}}`},
			[]want{failure(at, "'vnetConfig' is given twice")}},
		{"profile twice", draft{version: "2022-07-01", properties: `, "vmProfile": {"vnetConfig": {` + subnet + `}}, "vmprofile": {}`},
			[]want{failure("/properties/vmProfile", "'vmProfile' is given twice")}},
	})
}

func TestVNetByName(t *testing.T) {
	const full = `{"name": "net", "subnetName": "build", "resourceGroupName": "g"}`
	in := func(version, place, v string) draft {
		switch place {
		case "properties":
			return draft{version: version, properties: `, "VirtualNetworkConfig": ` + v}
		default:
			return draft{version: version, properties: `, "vmProfile": {"` + place + `": ` + v + `}`}
		}
	}
	const may = "2019-05-01-preview"
	for place, at := range map[string]string{
		"vnetConfig": "/properties/vmProfile/vnetConfig", "VirtualNetworkConfig": "/properties/vmProfile/VirtualNetworkConfig",
		"VNETCONFIG": "/properties/vmProfile/VNETCONFIG", "properties": "/properties/VirtualNetworkConfig",
	} {
		t.Run(place, func(t *testing.T) {
			runRules(t, []ruleCase{
				{"full", in(may, place, full), nil},
				{"empty", in(may, place, `{"name": "", "subnetName": "", "resourceGroupName": ""}`), nil},
				{"null", in(may, place, `null`), nil},
				{"name alone", in(may, place, `{"name": "net"}`), []want{failure(at, "Missing field 'subnetName'"),
					failure(at, "Missing field 'resourceGroupName'")}},
				{"empty subnet", in(may, place, `{"name": "net", "subnetName": "", "resourceGroupName": "g"}`),
					[]want{failure(at, "subnetName must be given if and only if name is")}},
				{"without name", in(may, place, `{"subnetName": "build", "resourceGroupName": "g"}`),
					[]want{failure(at, "Missing field 'name'")}},
				{"an id for a name", in(may, place, `{"name": "a/b", "subnetName": "s", "resourceGroupName": "g"}`),
					[]want{failure(at+"/name", "it must be a name, not an id")}},
				{"subnet id", in(may, place, `{"subnetId": "`+subnetID+`"}`), []want{
					failure(at, "Missing field 'name'"), failure(at+"/subnetId", "came with API version 2020-02-14")}},
				{"unknown name", in(may, place, `{"vnet": "x"}`), []want{failure(at, "Missing field 'name'"), warning(at+"/vnet", "is ignored")}},
			})
			r := in(may, place, full).parse()
			if d := cmp.Diff(&VNet{ByName: &VNetName{"net", "build", "g"}, Pointer: at}, r.Template.VMProfile.VNet); d != "" {
				t.Errorf("vnet (-want +got):\n%s", d)
			}
			for _, version := range Versions() {
				if version == may {
					continue
				}
				t.Run(version, func(t *testing.T) {
					if r := in(version, place, full).parse(); r.Template != nil {
						t.Errorf("a network by name was accepted:\n%s", brief(r.Problems))
					}
				})
			}
		})
	}
	runRules(t, []ruleCase{
		{"two places", draft{version: may, properties: `, "vmProfile": {"vnetConfig": ` + full + `}, "virtualNetworkConfig": ` + full}, []want{
			failure("/properties/virtualNetworkConfig", "the network is given twice, here and at /properties/vmProfile/vnetConfig")}},
		{"two places in the profile", draft{version: may, properties: `, "vmProfile": {"VirtualNetworkConfig": ` + full + `, "vnetConfig": ` + full + `}`}, []want{
			failure("/properties/vmProfile/VirtualNetworkConfig", "the network is given twice")}},
		{"two places, one empty", draft{version: may, properties: `, "vmProfile": {"vnetConfig": {"name": ""}}, "virtualNetworkConfig": ` + full},
			nil},
		{"empty in a strict version", draft{version: "2024-02-01", properties: `, "vmProfile": {"vnetConfig": {"name": ""}}`},
			[]want{failure("/properties/vmProfile/vnetConfig/name", `unknown field "name"`)}},
		{"empty in a lenient version", draft{version: "2020-02-14", properties: `, "vmProfile": {"vnetConfig": {"name": ""}}`},
			[]want{warning("/properties/vmProfile/vnetConfig/name", "is ignored")}},
		{"beside a subnet id", draft{version: "2020-02-14", properties: `, "vmProfile": {"vnetConfig": {"subnetId": "` + subnetID + `", "name": "net"}}`}, []want{
			failure("/properties/vmProfile/vnetConfig/name", "is the way of API version 2019-05-01-preview to name a network: in 2020-02-14 give subnetId")}},
	})
}
