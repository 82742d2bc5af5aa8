// Package identity provides Microsoft.ManagedIdentity: user-assigned identities.
package identity

import (
	"context"
	"encoding/json"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/resource"
)

// Type is the resource type of user-assigned identities.
const Type = "Microsoft.ManagedIdentity/userAssignedIdentities"

// Provider is Microsoft.ManagedIdentity in a tenant.
func Provider(store resource.Store, tenant string) armapi.Provider {
	k := armapi.Kind{Store: store, Leaf: true, Prepare: func(_ context.Context, _ *armapi.Request, d *armapi.Draft) error {
		return prepare(tenant, d)
	}}
	return armapi.Provider{
		Namespace: "Microsoft.ManagedIdentity",
		Types: []armapi.Type{k.Fill(armapi.Type{
			Name: "userAssignedIdentities", Tracked: true, Pattern: `[a-zA-Z0-9][-_a-zA-Z0-9]{2,127}`,
			Versions: []string{"2024-11-30", "2023-01-31", "2022-01-31-preview", "2018-11-30", "2015-08-31-preview"},
		})},
	}
}

// prepare gives an identity its ids for life. One that is made again after a
// deletion is another principal.
func prepare(tenant string, d *armapi.Draft) error {
	ids := map[string]any{"tenantId": tenant, "principalId": uuid.NewString(), "clientId": uuid.NewString()}
	if d.Before != nil {
		if err := json.Unmarshal(d.Before.Properties, &ids); err != nil {
			return arm.Errorf(arm.CodeCorrupt, "the identity does not parse: %w", err).At(d.ID)
		}
	}
	if d.Tags == nil {
		d.Tags = map[string]string{}
	}
	d.Properties = ids
	return nil
}
