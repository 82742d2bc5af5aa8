package network

import (
	"context"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/nsg"
)

// defaultsOf are the rules that every security group ends with, as resources of
// the group with id.
func defaultsOf(id string) []any {
	var list []any
	for _, r := range nsg.Defaults() {
		access := "Deny"
		if r.Allow {
			access = "Allow"
		}
		list = append(list, map[string]any{
			"id": id + "/defaultSecurityRules/" + r.Name, "name": r.Name, "type": "Microsoft.Network/networkSecurityGroups/defaultSecurityRules",
			"properties": map[string]any{
				"provisioningState": armapi.Succeeded, "priority": number(r.Priority), "direction": r.Direction.String(), "access": access, "protocol": "*",
				"sourceAddressPrefix": r.Sources[0], "sourcePortRange": "*", "destinationAddressPrefix": r.Destinations[0], "destinationPortRange": "*",
				"sourceAddressPrefixes": []any{}, "destinationAddressPrefixes": []any{}, "sourcePortRanges": []any{}, "destinationPortRanges": []any{},
			},
		})
	}
	return list
}

func (p *provider) defaultRules(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, err := p.store.Get(ctx, r.ID)
	if arm.IsCode(err, arm.CodeNotFound) {
		return armapi.Response{}, armapi.ErrResourceNotFound("Microsoft.Network/networkSecurityGroups", r.Names[0], r.Group)
	}
	return armapi.ListOf(r, defaultsOf(rec.ID), ""), err
}

func (p *provider) defaultRule(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	if _, err := p.store.Get(ctx, parentID(r, false)); err != nil && !arm.IsCode(err, arm.CodeNotFound) {
		return armapi.Response{}, err
	} else if err == nil {
		list := defaultsOf(parentID(r, false))
		if i := index(list, r.Name()); i >= 0 {
			return armapi.OK(list[i]), nil
		}
	}
	return armapi.Response{}, armapi.ErrResourceNotFound(r.Type, strings.Join(r.Names, "/"), r.Group)
}
