package network

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/resource"
)

// setDefault sets a property that is not there.
func setDefault(properties map[string]any, name string, value any) {
	if properties[name] == nil {
		properties[name] = value
	}
}

func fillNetwork(p map[string]any) {
	setDefault(p, "enableDdosProtection", false)
}

func fillSubnet(p map[string]any) {
	setDefault(p, "privateEndpointNetworkPolicies", "Disabled")
	setDefault(p, "privateLinkServiceNetworkPolicies", "Enabled")
	setDefault(p, "delegations", []any{})
}

func fillPeering(p map[string]any) {
	setDefault(p, "allowVirtualNetworkAccess", true)
	p["peeringState"] = "Connected"
}

func fillPublicAddress(p map[string]any) {
	setDefault(p, "publicIPAllocationMethod", "Dynamic")
	setDefault(p, "publicIPAddressVersion", "IPv4")
	setDefault(p, "idleTimeoutInMinutes", 4)
}

// keepParts keeps the parts that a PUT does not speak of: tools write a network
// without the subnets that others made.
func keepParts(k kind, d *armapi.Draft) error {
	var before map[string]any
	if err := json.Unmarshal(d.Before.Properties, &before); err != nil {
		return arm.Errorf(arm.CodeCorrupt, "the properties of %s do not parse: %w", d.ID, err)
	}
	for _, pt := range k.parts {
		if _, said := d.Properties[pt.member]; !said && before[pt.member] != nil {
			d.Properties[pt.member] = before[pt.member]
		}
	}
	return nil
}

// nameElements gives ids to everything in a record that has a name and
// properties of its own, and types to what is also a resource.
func nameElements(k kind, id string, properties map[string]any) error {
	for member, v := range properties {
		list, ok := v.([]any)
		if !ok {
			continue
		}
		seen := map[string]bool{}
		for _, e := range list {
			element, ok := e.(map[string]any)
			if !ok {
				continue
			}
			called, _ := element["name"].(string)
			inner, _ := element["properties"].(map[string]any)
			if called == "" || inner == nil {
				continue
			}
			if key := strings.ToLower(called); seen[key] {
				return arm.Errorf(arm.CodeValidationFailed, "the name '%s' is there twice in %s", called, member).At("properties/" + member)
			} else {
				seen[key] = true
			}
			element["id"] = id + "/" + member + "/" + called
			inner["provisioningState"] = armapi.Succeeded
			delete(element, "etag")
			for _, pt := range k.parts {
				if pt.member == member {
					element["type"] = "Microsoft.Network/" + k.typ + "/" + pt.typ
					if pt.fill != nil {
						pt.fill(inner)
					}
				}
			}
		}
	}
	return nil
}

// joins are the permissions to refer to a resource, by its type in lower case.
var joins = map[string]string{
	"microsoft.network/virtualnetworks/subnets": "Microsoft.Network/virtualNetworks/subnets/join/action",
	"microsoft.network/networksecuritygroups":   "Microsoft.Network/networkSecurityGroups/join/action",
	"microsoft.network/publicipaddresses":       "Microsoft.Network/publicIPAddresses/join/action",
	"microsoft.network/networkinterfaces":       "Microsoft.Network/networkInterfaces/join/action",
	"microsoft.network/virtualnetworks":         "Microsoft.Network/virtualNetworks/peer/action",
}

// requireJoins asks for the right to every resource that a record refers to
// outside of itself.
func (p *provider) requireJoins(ctx context.Context, r *armapi.Request, d *armapi.Draft) error {
	referred := map[string]string{} // action by id
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			if id, ok := v["id"].(string); ok && !strings.HasPrefix(resource.Key(id), resource.Key(d.ID)) {
				if parsed, err := arm.ParseID(id); err == nil {
					if action := joins[strings.ToLower(parsed.Type)]; action != "" {
						referred[id] = action
					}
				}
			}
			for _, e := range v {
				walk(e)
			}
		}
	}
	walk(d.Properties)
	for _, id := range slices.Sorted(maps.Keys(referred)) {
		if err := r.RequireLinked(ctx, referred[id], id); err != nil {
			return err
		}
	}
	return nil
}
