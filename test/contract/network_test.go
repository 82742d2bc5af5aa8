package contract

import (
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v6"
)

func TestNetworks(t *testing.T) {
	c, ctx := serve(t), t.Context()
	makeGroup(t, c)
	f := got[*armnetwork.ClientFactory](t)(armnetwork.NewClientFactory(subscription, c.cred, c.options))

	groups, rules := f.NewSecurityGroupsClient(), f.NewSecurityRulesClient()
	nsg := done[armnetwork.SecurityGroupsClientCreateOrUpdateResponse](t)(groups.BeginCreateOrUpdate(ctx, group, "nsg", armnetwork.SecurityGroup{Location: to.Ptr(region)}, nil))
	if len(nsg.Properties.DefaultSecurityRules) != 6 {
		t.Errorf("%d default rules", len(nsg.Properties.DefaultSecurityRules))
	}
	rule := armnetwork.SecurityRule{Properties: &armnetwork.SecurityRulePropertiesFormat{
		Access: to.Ptr(armnetwork.SecurityRuleAccessAllow), Direction: to.Ptr(armnetwork.SecurityRuleDirectionInbound), Priority: to.Ptr[int32](400),
		Protocol: to.Ptr(armnetwork.SecurityRuleProtocolTCP), SourceAddressPrefix: to.Ptr("AzureLoadBalancer"), SourcePortRange: to.Ptr("*"),
		DestinationAddressPrefix: to.Ptr("VirtualNetwork"), DestinationPortRange: to.Ptr("60000-60001"),
	}}
	done[armnetwork.SecurityRulesClientCreateOrUpdateResponse](t)(rules.BeginCreateOrUpdate(ctx, group, "nsg", "r", rule, nil))
	same(t, "rule", got[armnetwork.SecurityRulesClientGetResponse](t)(rules.Get(ctx, group, "nsg", "r", nil)).Name, "r")
	same(t, "listed", pages(t, rules.NewListPager(group, "nsg", nil))[0].Value[0].Name, "r")
	same(t, "default rule", got[armnetwork.DefaultSecurityRulesClientGetResponse](t)(f.NewDefaultSecurityRulesClient().Get(ctx, group, "nsg", "DenyAllInBound", nil)).Name, "DenyAllInBound")
	pages(t, f.NewDefaultSecurityRulesClient().NewListPager(group, "nsg", nil))
	got[armnetwork.SecurityGroupsClientUpdateTagsResponse](t)(groups.UpdateTags(ctx, group, "nsg", armnetwork.TagsObject{Tags: map[string]*string{"a": to.Ptr("1")}}, nil))
	got[armnetwork.SecurityGroupsClientGetResponse](t)(groups.Get(ctx, group, "nsg", nil))
	same(t, "listed", pages(t, groups.NewListAllPager(nil))[0].Value[0].Name, "nsg")
	same(t, "listed", pages(t, groups.NewListPager(group, nil))[0].Value[0].Name, "nsg")

	nets, subnets := f.NewVirtualNetworksClient(), f.NewSubnetsClient()
	done[armnetwork.VirtualNetworksClientCreateOrUpdateResponse](t)(nets.BeginCreateOrUpdate(ctx, group, "vnet", armnetwork.VirtualNetwork{
		Location: to.Ptr(region), Properties: &armnetwork.VirtualNetworkPropertiesFormat{
			AddressSpace: &armnetwork.AddressSpace{AddressPrefixes: []*string{to.Ptr("10.0.0.0/16")}},
			Subnets:      []*armnetwork.Subnet{{Name: to.Ptr("s1"), Properties: &armnetwork.SubnetPropertiesFormat{AddressPrefix: to.Ptr("10.0.0.0/24")}}},
		},
	}, nil))
	sub := got[armnetwork.SubnetsClientGetResponse](t)(subnets.Get(ctx, group, "vnet", "s1", nil)).Subnet
	sub.Properties.NetworkSecurityGroup = &armnetwork.SecurityGroup{ID: nsg.ID}
	sub.Properties.PrivateLinkServiceNetworkPolicies = to.Ptr(armnetwork.VirtualNetworkPrivateLinkServiceNetworkPoliciesDisabled)
	sub = done[armnetwork.SubnetsClientCreateOrUpdateResponse](t)(subnets.BeginCreateOrUpdate(ctx, group, "vnet", "s1", sub, nil)).Subnet
	same(t, "security group", sub.Properties.NetworkSecurityGroup.ID, *nsg.ID)
	_, err := subnets.BeginCreateOrUpdate(ctx, group, "vnet", "s2", armnetwork.Subnet{Properties: &armnetwork.SubnetPropertiesFormat{AddressPrefix: to.Ptr("10.0.0.0/25")}}, nil)
	refused(t, err, 400, "NetcfgSubnetRangesOverlap")
	same(t, "listed", pages(t, subnets.NewListPager(group, "vnet", nil))[0].Value[0].Name, "s1")
	same(t, "network", got[armnetwork.VirtualNetworksClientGetResponse](t)(nets.Get(ctx, group, "vnet", nil)).Properties.Subnets[0].ID, *sub.ID)
	got[armnetwork.VirtualNetworksClientUpdateTagsResponse](t)(nets.UpdateTags(ctx, group, "vnet", armnetwork.TagsObject{Tags: map[string]*string{"a": to.Ptr("1")}}, nil))
	same(t, "listed", pages(t, nets.NewListAllPager(nil))[0].Value[0].Name, "vnet")
	same(t, "listed", pages(t, nets.NewListPager(group, nil))[0].Value[0].Name, "vnet")

	addresses := f.NewPublicIPAddressesClient()
	ip := done[armnetwork.PublicIPAddressesClientCreateOrUpdateResponse](t)(addresses.BeginCreateOrUpdate(ctx, group, "ip", armnetwork.PublicIPAddress{
		Location: to.Ptr(region), SKU: &armnetwork.PublicIPAddressSKU{Name: to.Ptr(armnetwork.PublicIPAddressSKUNameStandard)},
		Properties: &armnetwork.PublicIPAddressPropertiesFormat{PublicIPAllocationMethod: to.Ptr(armnetwork.IPAllocationMethodStatic)},
	}, nil))
	got[armnetwork.PublicIPAddressesClientGetResponse](t)(addresses.Get(ctx, group, "ip", nil))
	same(t, "listed", pages(t, addresses.NewListPager(group, nil))[0].Value[0].Name, "ip")

	cards := f.NewInterfacesClient()
	card := done[armnetwork.InterfacesClientCreateOrUpdateResponse](t)(cards.BeginCreateOrUpdate(ctx, group, "nic", armnetwork.Interface{
		Location: to.Ptr(region), Properties: &armnetwork.InterfacePropertiesFormat{IPConfigurations: []*armnetwork.InterfaceIPConfiguration{{
			Name: to.Ptr("c"), Properties: &armnetwork.InterfaceIPConfigurationPropertiesFormat{Subnet: &armnetwork.Subnet{ID: sub.ID}, PublicIPAddress: &armnetwork.PublicIPAddress{ID: ip.ID}},
		}}},
	}, nil))
	same(t, "address", card.Properties.IPConfigurations[0].Properties.PrivateIPAddress, "10.0.0.4")
	got[armnetwork.InterfacesClientGetResponse](t)(cards.Get(ctx, group, "nic", nil))
	_, err = nets.BeginDelete(ctx, group, "vnet", nil)
	refused(t, err, 400, "InUseSubnetCannotBeDeleted")

	balancers := f.NewLoadBalancersClient()
	done[armnetwork.LoadBalancersClientCreateOrUpdateResponse](t)(balancers.BeginCreateOrUpdate(ctx, group, "lb", armnetwork.LoadBalancer{
		Location: to.Ptr(region), Properties: &armnetwork.LoadBalancerPropertiesFormat{FrontendIPConfigurations: []*armnetwork.FrontendIPConfiguration{{
			Name: to.Ptr("f"), Properties: &armnetwork.FrontendIPConfigurationPropertiesFormat{Subnet: &armnetwork.Subnet{ID: sub.ID}},
		}}},
	}, nil))
	got[armnetwork.LoadBalancersClientGetResponse](t)(balancers.Get(ctx, group, "lb", nil))
	done[armnetwork.LoadBalancersClientDeleteResponse](t)(balancers.BeginDelete(ctx, group, "lb", nil))

	links := f.NewPrivateLinkServicesClient()
	done[armnetwork.PrivateLinkServicesClientCreateOrUpdateResponse](t)(links.BeginCreateOrUpdate(ctx, group, "pls", armnetwork.PrivateLinkService{
		Location: to.Ptr(region), Properties: &armnetwork.PrivateLinkServiceProperties{IPConfigurations: []*armnetwork.PrivateLinkServiceIPConfiguration{{
			Name: to.Ptr("p"), Properties: &armnetwork.PrivateLinkServiceIPConfigurationProperties{Subnet: &armnetwork.Subnet{ID: sub.ID}},
		}}},
	}, nil))
	got[armnetwork.PrivateLinkServicesClientGetResponse](t)(links.Get(ctx, group, "pls", nil))
	endpoints := f.NewPrivateEndpointsClient()
	done[armnetwork.PrivateEndpointsClientCreateOrUpdateResponse](t)(endpoints.BeginCreateOrUpdate(ctx, group, "pe", armnetwork.PrivateEndpoint{
		Location: to.Ptr(region), Properties: &armnetwork.PrivateEndpointProperties{Subnet: &armnetwork.Subnet{ID: sub.ID}},
	}, nil))
	got[armnetwork.PrivateEndpointsClientGetResponse](t)(endpoints.Get(ctx, group, "pe", nil))
	done[armnetwork.PrivateEndpointsClientDeleteResponse](t)(endpoints.BeginDelete(ctx, group, "pe", nil))
	done[armnetwork.PrivateLinkServicesClientDeleteResponse](t)(links.BeginDelete(ctx, group, "pls", nil))
	done[armnetwork.InterfacesClientDeleteResponse](t)(cards.BeginDelete(ctx, group, "nic", nil))
	done[armnetwork.PublicIPAddressesClientDeleteResponse](t)(addresses.BeginDelete(ctx, group, "ip", nil))
	done[armnetwork.SubnetsClientDeleteResponse](t)(subnets.BeginDelete(ctx, group, "vnet", "s1", nil))
	done[armnetwork.VirtualNetworksClientDeleteResponse](t)(nets.BeginDelete(ctx, group, "vnet", nil))
	done[armnetwork.SecurityRulesClientDeleteResponse](t)(rules.BeginDelete(ctx, group, "nsg", "r", nil))
	done[armnetwork.SecurityGroupsClientDeleteResponse](t)(groups.BeginDelete(ctx, group, "nsg", nil))
	_, err = nets.Get(ctx, group, "vnet", nil)
	refused(t, err, 404, "ResourceNotFound")
}
