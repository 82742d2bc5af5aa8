package contract

import (
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/authorization/armauthorization/v2"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/msi/armmsi"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armresources"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/resources/armsubscriptions"
)

// makeGroup makes the group of a test.
func makeGroup(t *testing.T, c client) *armresources.ResourceGroupsClient {
	t.Helper()
	groups := got[*armresources.ResourceGroupsClient](t)(armresources.NewResourceGroupsClient(subscription, c.cred, c.options))
	_, err := groups.CreateOrUpdate(t.Context(), group, armresources.ResourceGroup{Location: to.Ptr(region)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return groups
}

func TestSubscriptions(t *testing.T) {
	c, ctx := serve(t), t.Context()
	f := got[*armsubscriptions.ClientFactory](t)(armsubscriptions.NewClientFactory(c.cred, c.options))
	list := pages(t, f.NewClient().NewListPager(nil))
	same(t, "subscription", list[0].Value[0].SubscriptionID, subscription)
	one := got[armsubscriptions.ClientGetResponse](t)(f.NewClient().Get(ctx, subscription, nil))
	same(t, "tenant", one.TenantID, tenant)
	if n := len(pages(t, f.NewClient().NewListLocationsPager(subscription, nil))[0].Value); n < 20 {
		t.Errorf("%d locations", n)
	}
	same(t, "tenant", pages(t, f.NewTenantsClient().NewListPager(nil))[0].Value[0].TenantID, tenant)
	_, err := f.NewClient().Get(ctx, tenant, nil)
	refused(t, err, 404, "SubscriptionNotFound")
}

func TestResourceGroups(t *testing.T) {
	c, ctx := serve(t), t.Context()
	groups := makeGroup(t, c)
	if r := got[armresources.ResourceGroupsClientCheckExistenceResponse](t)(groups.CheckExistence(ctx, group, nil)); !r.Success {
		t.Error("the group does not exist")
	}
	if r := got[armresources.ResourceGroupsClientCheckExistenceResponse](t)(groups.CheckExistence(ctx, "none", nil)); r.Success {
		t.Error("a group exists that was not made")
	}
	r := got[armresources.ResourceGroupsClientUpdateResponse](t)(groups.Update(ctx, group, armresources.ResourceGroupPatchable{Tags: map[string]*string{"a": to.Ptr("1")}}, nil))
	same(t, "tag", r.Tags["a"], "1")
	same(t, "id", got[armresources.ResourceGroupsClientGetResponse](t)(groups.Get(ctx, group, nil)).ID, groupID)
	same(t, "listed", pages(t, groups.NewListPager(&armresources.ResourceGroupsClientListOptions{Filter: to.Ptr("tagName eq 'a'"), Top: to.Ptr[int32](5)}))[0].Value[0].Name, group)
	_, err := groups.Get(ctx, "none", nil)
	refused(t, err, 404, "ResourceGroupNotFound")
	_, err = groups.CreateOrUpdate(ctx, group, armresources.ResourceGroup{Location: to.Ptr("eastus")}, nil)
	refused(t, err, 409, "InvalidResourceLocation")
	done[armresources.ResourceGroupsClientDeleteResponse](t)(groups.BeginDelete(ctx, group, nil))
	_, err = groups.Get(ctx, group, nil)
	refused(t, err, 404, "ResourceGroupNotFound")
}

// The generic client addresses resources of any type by id.
func TestGenericResources(t *testing.T) {
	c, ctx := serve(t), t.Context()
	makeGroup(t, c)
	f := got[*armresources.ClientFactory](t)(armresources.NewClientFactory(subscription, c.cred, c.options))
	generic, id, version := f.NewClient(), groupID+"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/ident", "2023-01-31"
	made := done[armresources.ClientCreateOrUpdateByIDResponse](t)(generic.BeginCreateOrUpdateByID(ctx, id, version, armresources.GenericResource{Location: to.Ptr(region)}, nil))
	same(t, "type", made.Type, "Microsoft.ManagedIdentity/userAssignedIdentities")
	done[armresources.ClientUpdateByIDResponse](t)(generic.BeginUpdateByID(ctx, id, version, armresources.GenericResource{Tags: map[string]*string{"a": to.Ptr("1")}}, nil))
	same(t, "tag", got[armresources.ClientGetByIDResponse](t)(generic.GetByID(ctx, id, version, nil)).Tags["a"], "1")
	if r := got[armresources.ClientCheckExistenceByIDResponse](t)(generic.CheckExistenceByID(ctx, id, version, nil)); !r.Success {
		t.Error("the identity does not exist")
	}
	same(t, "listed", pages(t, generic.NewListPager(nil))[0].Value[0].Name, "ident")
	same(t, "listed", pages(t, generic.NewListByResourceGroupPager(group, nil))[0].Value[0].Name, "ident")
	tags := f.NewTagsClient()
	got[armresources.TagsClientCreateOrUpdateAtScopeResponse](t)(tags.CreateOrUpdateAtScope(ctx, id, armresources.TagsResource{Properties: &armresources.Tags{Tags: map[string]*string{"b": to.Ptr("2")}}}, nil))
	got[armresources.TagsClientUpdateAtScopeResponse](t)(tags.UpdateAtScope(ctx, id, armresources.TagsPatchResource{Operation: to.Ptr(armresources.TagsPatchOperationMerge), Properties: &armresources.Tags{Tags: map[string]*string{"c": to.Ptr("3")}}}, nil))
	same(t, "tag", got[armresources.TagsClientGetAtScopeResponse](t)(tags.GetAtScope(ctx, id, nil)).Properties.Tags["c"], "3")
	if n := len(pages(t, tags.NewListPager(nil))[0].Value); n != 2 {
		t.Errorf("%d tag names", n)
	}
	got[armresources.TagsClientDeleteAtScopeResponse](t)(tags.DeleteAtScope(ctx, id, nil))
	done[armresources.ClientDeleteByIDResponse](t)(generic.BeginDeleteByID(ctx, id, version, nil))
	_, err := generic.GetByID(ctx, id, version, nil)
	refused(t, err, 404, "ResourceNotFound")
}

func TestProviders(t *testing.T) {
	c, ctx := serve(t), t.Context()
	f := got[*armresources.ClientFactory](t)(armresources.NewClientFactory(subscription, c.cred, c.options))
	p := f.NewProvidersClient()
	same(t, "state", got[armresources.ProvidersClientGetResponse](t)(p.Get(ctx, "Microsoft.KeyVault", nil)).RegistrationState, "NotRegistered")
	same(t, "state", got[armresources.ProvidersClientRegisterResponse](t)(p.Register(ctx, "Microsoft.KeyVault", nil)).RegistrationState, "Registered")
	same(t, "state", got[armresources.ProvidersClientUnregisterResponse](t)(p.Unregister(ctx, "Microsoft.KeyVault", nil)).RegistrationState, "Unregistered")
	if n := len(pages(t, p.NewListPager(nil))[0].Value); n < 8 {
		t.Errorf("%d providers", n)
	}
	got[armresources.ProvidersClientGetAtTenantScopeResponse](t)(p.GetAtTenantScope(ctx, "Microsoft.Compute", nil))
	_, err := p.Get(ctx, "Microsoft.None", nil)
	refused(t, err, 404, "InvalidResourceNamespace")
}

func TestIdentities(t *testing.T) {
	c, ctx := serve(t), t.Context()
	makeGroup(t, c)
	ids := got[*armmsi.UserAssignedIdentitiesClient](t)(armmsi.NewUserAssignedIdentitiesClient(subscription, c.cred, c.options))
	made := got[armmsi.UserAssignedIdentitiesClientCreateOrUpdateResponse](t)(ids.CreateOrUpdate(ctx, group, "ident", armmsi.Identity{Location: to.Ptr(region)}, nil))
	same(t, "tenant", made.Properties.TenantID, tenant)
	got[armmsi.UserAssignedIdentitiesClientUpdateResponse](t)(ids.Update(ctx, group, "ident", armmsi.IdentityUpdate{Tags: map[string]*string{"a": to.Ptr("1")}}, nil))
	same(t, "client id", got[armmsi.UserAssignedIdentitiesClientGetResponse](t)(ids.Get(ctx, group, "ident", nil)).Properties.ClientID, *made.Properties.ClientID)
	same(t, "listed", pages(t, ids.NewListByResourceGroupPager(group, nil))[0].Value[0].Name, "ident")
	same(t, "listed", pages(t, ids.NewListBySubscriptionPager(nil))[0].Value[0].Name, "ident")
	got[armmsi.UserAssignedIdentitiesClientDeleteResponse](t)(ids.Delete(ctx, group, "ident", nil))
	_, err := ids.Get(ctx, group, "ident", nil)
	refused(t, err, 404, "ResourceNotFound")
	_, err = ids.CreateOrUpdate(ctx, "none", "ident", armmsi.Identity{Location: to.Ptr(region)}, nil)
	refused(t, err, 404, "ResourceGroupNotFound")
}

func TestAuthorization(t *testing.T) {
	c, ctx := serve(t), t.Context()
	makeGroup(t, c)
	f := got[*armauthorization.ClientFactory](t)(armauthorization.NewClientFactory(subscription, c.cred, c.options))
	roles, assigns := f.NewRoleDefinitionsClient(), f.NewRoleAssignmentsClient()
	const role, one = "d2b77c8f-a290-4b88-bb92-aec8a1025ebf", "dc1abf54-fde5-4cba-ae07-b0120e14231c"
	definition := armauthorization.RoleDefinition{Properties: &armauthorization.RoleDefinitionProperties{
		RoleName: to.Ptr("Builder"), Description: to.Ptr("builds"), AssignableScopes: []*string{to.Ptr(groupID)},
		Permissions: []*armauthorization.Permission{{Actions: []*string{to.Ptr("Microsoft.Compute/images/read")}}},
	}}
	made := got[armauthorization.RoleDefinitionsClientCreateOrUpdateResponse](t)(roles.CreateOrUpdate(ctx, groupID, role, definition, nil))
	same(t, "role type", made.Properties.RoleType, "CustomRole")
	same(t, "role", got[armauthorization.RoleDefinitionsClientGetResponse](t)(roles.Get(ctx, scope, role, nil)).Properties.RoleName, "Builder")
	same(t, "role", got[armauthorization.RoleDefinitionsClientGetByIDResponse](t)(roles.GetByID(ctx, *made.ID, nil)).Properties.RoleName, "Builder")
	list := pages(t, roles.NewListPager(groupID, &armauthorization.RoleDefinitionsClientListOptions{Filter: to.Ptr("roleName eq 'Builder'")}))
	same(t, "listed", list[0].Value[0].Name, role)

	create := armauthorization.RoleAssignmentCreateParameters{Properties: &armauthorization.RoleAssignmentProperties{
		PrincipalID: to.Ptr(principal), RoleDefinitionID: made.ID, PrincipalType: to.Ptr(armauthorization.PrincipalTypeServicePrincipal),
	}}
	assigned := got[armauthorization.RoleAssignmentsClientCreateResponse](t)(assigns.Create(ctx, groupID, one, create, nil))
	same(t, "scope", assigned.Properties.Scope, groupID)
	_, err := assigns.Create(ctx, groupID, "27cd155d-3848-4f2b-9aad-9a7649d872b6", create, nil)
	refused(t, err, 409, "RoleAssignmentExists")
	same(t, "assignment", got[armauthorization.RoleAssignmentsClientGetResponse](t)(assigns.Get(ctx, groupID, one, nil)).Name, one)
	same(t, "assignment", got[armauthorization.RoleAssignmentsClientGetByIDResponse](t)(assigns.GetByID(ctx, *assigned.ID, nil)).Name, one)
	same(t, "listed", pages(t, assigns.NewListForScopePager(groupID, &armauthorization.RoleAssignmentsClientListForScopeOptions{Filter: to.Ptr("atScope()")}))[0].Value[0].Name, one)
	// The SDK puts this filter into the address as it is.
	same(t, "listed", pages(t, assigns.NewListForSubscriptionPager(&armauthorization.RoleAssignmentsClientListForSubscriptionOptions{Filter: to.Ptr("principalId%20eq%20'" + principal + "'")}))[0].Value[0].Name, one)
	same(t, "listed", pages(t, assigns.NewListForResourceGroupPager(group, nil))[0].Value[0].Name, one)
	_, err = roles.Delete(ctx, scope, role, nil)
	refused(t, err, 400, "RoleDefinitionHasAssignments")
	got[armauthorization.RoleAssignmentsClientDeleteResponse](t)(assigns.Delete(ctx, groupID, one, nil))
	got[armauthorization.RoleDefinitionsClientDeleteResponse](t)(roles.Delete(ctx, scope, role, nil))
	_, err = roles.Get(ctx, scope, role, nil)
	refused(t, err, 404, "RoleDefinitionDoesNotExist")
}
