package rbac

import (
	"slices"
	"strings"
)

// GUIDs of built-in roles that this program names.
const (
	Owner                   = "8e3af657-a8ff-443c-a75c-2fe8c4bcb635"
	Contributor             = "b24988ac-6180-42a0-ab88-20f7382dd24c"
	Reader                  = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
	ManagedIdentityOperator = "f1a07417-d97a-45cb-824c-7a7467783830"
	StorageBlobDataReader   = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
)

// BuiltIn are the built-in roles, by name. Their ids are at tenant level; a
// client sees them below the subscription that it asks in.
func BuiltIn() []Role { return slices.Clone(builtIn) }

// BuiltInRole finds a built-in role by its GUID or display name, in any case.
func BuiltInRole(name string) (Role, bool) {
	i := slices.IndexFunc(builtIn, func(r Role) bool {
		return strings.EqualFold(r.RoleName, name) || strings.EqualFold(r.GUID(), name)
	})
	if i < 0 {
		return Role{}, false
	}
	return builtIn[i], true
}

func shipped(guid, name, description string, p Permission) Role {
	return Role{
		ID: "/providers/" + TypeRole + "/" + guid, RoleName: name, Description: description, BuiltIn: true,
		AssignableScopes: []string{"/"}, Permissions: []Permission{p},
	}
}

// everyday are the actions that most of the specific roles have besides their
// own, so that their holder can use the portal.
func everyday(own ...string) []string {
	return append(own,
		"Microsoft.Authorization/*/read",
		"Microsoft.Insights/alertRules/*",
		"Microsoft.Resources/deployments/*",
		"Microsoft.Resources/subscriptions/resourceGroups/read",
		"Microsoft.Support/*",
	)
}

const (
	blobs         = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
	containers    = "Microsoft.Storage/storageAccounts/blobServices/containers"
	delegationKey = "Microsoft.Storage/storageAccounts/blobServices/generateUserDelegationKey/action"
)

// builtIn is sorted by name.
var builtIn = []Role{
	shipped(Contributor, "Contributor", "Manages all resources, but grants nobody access.", Permission{
		Actions: []string{"*"},
		NotActions: []string{
			"Microsoft.Authorization/*/Delete",
			"Microsoft.Authorization/*/Write",
			"Microsoft.Authorization/elevateAccess/Action",
			"Microsoft.Blueprint/blueprintAssignments/write",
			"Microsoft.Blueprint/blueprintAssignments/delete",
			"Microsoft.Compute/galleries/share/action",
			"Microsoft.Purview/consents/write",
			"Microsoft.Purview/consents/delete",
			"Microsoft.Resources/deploymentStacks/manageDenySetting/action",
			"Microsoft.Subscription/cancel/action",
			"Microsoft.Subscription/enable/action",
		},
	}),
	shipped("e40ec5ca-96e0-45a2-b4ff-59039f2c2b59", "Managed Identity Contributor", "Creates, reads, changes and deletes user-assigned identities.", Permission{
		Actions: everyday(
			"Microsoft.ManagedIdentity/userAssignedIdentities/read",
			"Microsoft.ManagedIdentity/userAssignedIdentities/write",
			"Microsoft.ManagedIdentity/userAssignedIdentities/delete",
		),
	}),
	shipped(ManagedIdentityOperator, "Managed Identity Operator", "Reads and assigns user-assigned identities.", Permission{
		Actions: everyday(
			"Microsoft.ManagedIdentity/userAssignedIdentities/*/read",
			"Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action",
		),
	}),
	shipped("4d97b98b-1d4f-4787-a291-c67834d212e7", "Network Contributor", "Manages networks, but not access to them.", Permission{
		Actions: everyday("Microsoft.Network/*", "Microsoft.ResourceHealth/availabilityStatuses/read"),
	}),
	shipped(Owner, "Owner", "Manages all resources and grants access to them.", Permission{Actions: []string{"*"}}),
	shipped(Reader, "Reader", "Sees all resources and changes nothing.", Permission{Actions: []string{"*/read"}}),
	shipped("f58310d9-a9f6-439a-9e8d-f62e7b41a168", "Role Based Access Control Administrator", "Assigns roles.", Permission{
		Actions: []string{
			"Microsoft.Authorization/roleAssignments/write",
			"Microsoft.Authorization/roleAssignments/delete",
			"*/read",
			"Microsoft.Support/*",
		},
	}),
	shipped("17d1049b-9a84-46fb-8f53-869881c3d3ab", "Storage Account Contributor", "Manages storage accounts, their keys included.", Permission{
		Actions: everyday(
			"Microsoft.Insights/diagnosticSettings/*",
			"Microsoft.Network/virtualNetworks/subnets/joinViaServiceEndpoint/action",
			"Microsoft.ResourceHealth/availabilityStatuses/read",
			"Microsoft.Storage/storageAccounts/*",
		),
	}),
	shipped("81a9662b-bebf-436f-a333-f67b29880f12", "Storage Account Key Operator Service Role", "Lists and regenerates keys of storage accounts.", Permission{
		Actions: []string{
			"Microsoft.Storage/storageAccounts/listkeys/action",
			"Microsoft.Storage/storageAccounts/regeneratekey/action",
		},
	}),
	shipped("ba92f5b4-2d11-453d-a403-e96b0029c9fe", "Storage Blob Data Contributor", "Reads, writes and deletes containers and blobs.", Permission{
		Actions: []string{containers + "/delete", containers + "/read", containers + "/write", delegationKey},
		DataActions: []string{
			blobs + "/delete", blobs + "/read", blobs + "/write", blobs + "/move/action", blobs + "/add/action",
		},
	}),
	shipped("b7e6dc6d-f1e8-4753-8033-0f276bb0955b", "Storage Blob Data Owner", "Has full access to containers and blobs.", Permission{
		Actions:     []string{containers + "/*", delegationKey},
		DataActions: []string{blobs + "/*"},
	}),
	shipped(StorageBlobDataReader, "Storage Blob Data Reader", "Reads containers and blobs.", Permission{
		Actions:     []string{containers + "/read", delegationKey},
		DataActions: []string{blobs + "/read"},
	}),
	shipped("db58b8e5-c6ad-4a2a-8342-4190687cbf4a", "Storage Blob Delegator", "Makes user delegation keys.", Permission{
		Actions: []string{delegationKey},
	}),
	shipped("18d7d88d-d35e-4fb5-a5c3-7773c20a72d9", "User Access Administrator", "Manages who has access.", Permission{
		Actions: []string{"*/read", "Microsoft.Authorization/*", "Microsoft.Support/*"},
	}),
	shipped("9980e02c-c2be-4d73-94e8-173b1dc7cf3c", "Virtual Machine Contributor", "Manages virtual machines, but not their networks and storage accounts.", Permission{
		Actions: everyday(
			"Microsoft.Compute/availabilitySets/*",
			"Microsoft.Compute/locations/*",
			"Microsoft.Compute/virtualMachines/*",
			"Microsoft.Compute/virtualMachineScaleSets/*",
			"Microsoft.Compute/cloudServices/*",
			"Microsoft.Compute/disks/write",
			"Microsoft.Compute/disks/read",
			"Microsoft.Compute/disks/delete",
			"Microsoft.Compute/hostgroups/write",
			"Microsoft.Compute/hostgroups/hosts/write",
			"Microsoft.DevTestLab/schedules/*",
			"Microsoft.Network/applicationGateways/backendAddressPools/join/action",
			"Microsoft.Network/loadBalancers/backendAddressPools/join/action",
			"Microsoft.Network/loadBalancers/inboundNatPools/join/action",
			"Microsoft.Network/loadBalancers/inboundNatRules/join/action",
			"Microsoft.Network/loadBalancers/probes/join/action",
			"Microsoft.Network/loadBalancers/read",
			"Microsoft.Network/locations/*",
			"Microsoft.Network/networkInterfaces/*",
			"Microsoft.Network/networkSecurityGroups/join/action",
			"Microsoft.Network/networkSecurityGroups/read",
			"Microsoft.Network/publicIPAddresses/join/action",
			"Microsoft.Network/publicIPAddresses/read",
			"Microsoft.Network/virtualNetworks/read",
			"Microsoft.Network/virtualNetworks/subnets/join/action",
			"Microsoft.RecoveryServices/locations/*",
			"Microsoft.RecoveryServices/Vaults/backupFabrics/backupProtectionIntent/write",
			"Microsoft.RecoveryServices/Vaults/backupFabrics/protectionContainers/protectedItems/*/read",
			"Microsoft.RecoveryServices/Vaults/backupFabrics/protectionContainers/protectedItems/read",
			"Microsoft.RecoveryServices/Vaults/backupFabrics/protectionContainers/protectedItems/write",
			"Microsoft.RecoveryServices/Vaults/backupPolicies/read",
			"Microsoft.RecoveryServices/Vaults/backupPolicies/write",
			"Microsoft.RecoveryServices/Vaults/read",
			"Microsoft.RecoveryServices/Vaults/usages/read",
			"Microsoft.RecoveryServices/Vaults/write",
			"Microsoft.ResourceHealth/availabilityStatuses/read",
			"Microsoft.SerialConsole/serialPorts/connect/action",
			"Microsoft.SqlVirtualMachine/*",
			"Microsoft.Storage/storageAccounts/listKeys/action",
			"Microsoft.Storage/storageAccounts/read",
		),
	}),
}
