// Package resources provides Microsoft.Resources (subscriptions, tenants,
// locations, resource groups, lists of resources, tags) and Microsoft.Features.
package resources

import (
	"context"

	"goldsmith/internal/armapi"
	"goldsmith/internal/resource"
)

// Config is what the provider works with.
type Config struct {
	Subscription string // GUID
	Tenant       string // GUID
	Name         string // display name of the subscription; keep "id" out of it, scripts grep for that
	Store        resource.Store
	// Deleting are called with the id of a group that is about to be deleted, so
	// that what works in it can stop. They may be called again after a crash.
	Deleting []func(ctx context.Context, groupID string) error
	// Removed are called with the ids that went with a group.
	Removed []func(ctx context.Context, ids []string) error
	// Register registers a namespace, for features that do so on their way.
	Register func(ctx context.Context, namespace string) error
}

type provider struct{ Config }

var versions = []string{"2025-04-01", "2024-11-01", "2024-03-01", "2022-09-01", "2021-04-01", "2020-06-01", "2019-10-01"}

// Providers are Microsoft.Resources and Microsoft.Features.
func Providers(c Config) []armapi.Provider {
	if c.Name == "" {
		c.Name = "Goldsmith"
	}
	p := &provider{c}
	return []armapi.Provider{p.resources(), p.features()}
}

func (p *provider) resources() armapi.Provider {
	const prefix = "Microsoft.Resources/subscriptions"
	return armapi.Provider{
		Namespace: "Microsoft.Resources",
		Types: []armapi.Type{
			{Name: "tenants", Place: armapi.InTenant, Versions: []string{"2022-12-01", "2020-01-01"}, Open: true, List: p.tenants},
			{Name: "subscriptions", Place: armapi.InTenant, Versions: []string{"2022-12-01", "2021-01-01", "2019-11-01"}, Open: true, Get: p.subscription, List: p.subscriptions},
			{Name: "subscriptions/locations", Place: armapi.InTenant, Versions: []string{"2022-12-01", "2019-11-01"}, Open: true, List: p.locations},
			{Name: "subscriptions/resources", Place: armapi.InTenant, Versions: versions, Narrows: true, List: p.list},
			{Name: "subscriptions/tagNames", Place: armapi.InTenant, Versions: versions, List: p.tagNames},
			p.groups(prefix),
			{Name: "subscriptions/resourceGroups/resources", Place: armapi.InTenant, Hidden: true, List: p.list},
			{Name: "tags", Place: armapi.OnAnything, Versions: versions, Pattern: "(?i)default", Get: p.getTags, Put: p.putTags, Patch: p.patchTags, Delete: p.deleteTags},
		},
		Works: map[string]armapi.Work{"resourceGroups/delete": p.deleteGroup},
	}
}

func (p *provider) tenants(_ context.Context, r *armapi.Request) (armapi.Response, error) {
	return armapi.ListOf(r, []map[string]any{{
		"id": "/tenants/" + p.Tenant, "tenantId": p.Tenant, "countryCode": "", "displayName": p.Name,
		"domains": []string{}, "tenantCategory": "Home", "tenantType": "AAD",
	}}, ""), nil
}

func (p *provider) subscriptionBody() map[string]any {
	return map[string]any{
		"id": "/subscriptions/" + p.Subscription, "subscriptionId": p.Subscription, "tenantId": p.Tenant,
		"displayName": p.Name, "state": "Enabled", "authorizationSource": "RoleBased", "managedByTenants": []any{},
		"subscriptionPolicies": map[string]any{"locationPlacementId": "Public_2014-09-01", "quotaId": "PayAsYouGo_2014-09-01", "spendingLimit": "Off"},
	}
}

// subscriptions lists the subscription to everybody who has any right in it.
func (p *provider) subscriptions(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	list := []map[string]any{}
	seen, err := p.sees(ctx, r)
	if err != nil {
		return armapi.Response{}, err
	}
	if seen {
		list = append(list, p.subscriptionBody())
	}
	resp := armapi.OK(map[string]any{"value": list, "count": map[string]any{"type": "Total", "value": len(list)}})
	return resp, nil
}

func (p *provider) subscription(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	seen, err := p.sees(ctx, r)
	if err != nil || seen {
		return armapi.OK(p.subscriptionBody()), err
	}
	return armapi.Response{}, armapi.ErrForbidden(r, "Microsoft.Resources/subscriptions/read", r.ID)
}

func (p *provider) locations(_ context.Context, r *armapi.Request) (armapi.Response, error) {
	var list []map[string]any
	for _, l := range armapi.Locations {
		list = append(list, map[string]any{
			"id": "/subscriptions/" + p.Subscription + "/locations/" + l.Name, "name": l.Name, "type": "Region",
			"displayName": l.Display, "regionalDisplayName": "(" + l.Geography + ") " + l.Display,
			"metadata": map[string]any{
				"regionType": "Physical", "regionCategory": "Recommended", "geographyGroup": l.Geography, "geography": l.Geography,
				"longitude": "0", "latitude": "0", "physicalLocation": "This host", "pairedRegion": []any{},
			},
		})
	}
	return armapi.ListOf(r, list, ""), nil
}

// tagNames lists the tags in use, with how often each value is.
func (p *provider) tagNames(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	counts := map[string]map[string]int{}
	for q := (resource.Query{Scope: "/subscriptions/" + p.Subscription, PageSize: 1000}); ; {
		records, next, err := p.Store.List(ctx, q)
		if err != nil {
			return armapi.Response{}, err
		}
		for _, rec := range records {
			for name, value := range rec.Tags {
				if counts[name] == nil {
					counts[name] = map[string]int{}
				}
				counts[name][value]++
			}
		}
		if next == "" {
			break
		}
		q.PageToken = next
	}
	return armapi.ListOf(r, p.tagCounts(counts), ""), nil
}

// with makes a handler's answer of a function's.
func with(status int, body any, err error) (armapi.Response, error) {
	return armapi.Response{Status: status, Body: body}, err
}
