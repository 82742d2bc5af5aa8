// Package network provides Microsoft.Network. Subnets, security rules and
// peerings are parts of their parents' records, so that a network is written
// whole or not at all. internal/vnet has the rules.
package network

import (
	"context"
	"encoding/json"
	"sync"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/resource"
	"goldsmith/internal/vnet"
)

var versions = []string{
	"2024-07-01", "2024-05-01", "2024-01-01", "2023-11-01", "2023-04-01", "2022-07-01", "2022-01-01",
	"2021-08-01", "2020-11-01", "2019-11-01", "2018-11-01", "2015-06-15",
}

// name is the pattern of the names in this namespace.
const name = `[a-zA-Z0-9](?:[-_.a-zA-Z0-9]{0,78}[_a-zA-Z0-9])?`

// part is a collection inside of a record that clients also address as resources.
type part struct {
	member string // property of the parent that holds it: "subnets"
	typ    string // last segment of the parts' type
	// fill completes the properties of one.
	fill func(properties map[string]any)
}

// kind is a resource type of this namespace.
type kind struct {
	typ   string // below the namespace
	parts []part
	fill  func(properties map[string]any)
}

var kinds = []kind{
	{typ: "virtualNetworks", parts: []part{
		{"subnets", "subnets", fillSubnet}, {"virtualNetworkPeerings", "virtualNetworkPeerings", fillPeering},
	}, fill: fillNetwork},
	{typ: "networkSecurityGroups", parts: []part{{"securityRules", "securityRules", nil}}},
	{typ: "publicIPAddresses", fill: fillPublicAddress},
	{typ: "networkInterfaces"},
	{typ: "loadBalancers"},
	{typ: "privateLinkServices"},
	{typ: "privateEndpoints"},
	{typ: "privateDnsZones"},
}

// Networks are the networks as builds see them.
type Networks interface {
	// NetworkSnapshot has every record that may use a network, and the addresses at
	// which something is published.
	NetworkSnapshot(ctx context.Context) (*vnet.Snapshot, error)
	// LockNetworks lets nobody else give addresses away until unlock is called.
	LockNetworks(ctx context.Context) (unlock func(), err error)
}

type provider struct {
	store    resource.Store
	networks Networks
	mu       sync.Mutex // one write at a time; the networks' lock is for other processes and builds
}

// Provider is Microsoft.Network. networks may be nil: then there is nothing but what
// the store has, and nobody else who writes.
func Provider(store resource.Store, networks Networks) armapi.Provider {
	if networks == nil {
		networks = records{store}
	}
	p := &provider{store: store, networks: networks}
	out := armapi.Provider{Namespace: "Microsoft.Network"}
	for _, k := range kinds {
		record := armapi.Kind{Store: store, BodyETag: true, Leaf: true, Removable: p.removable, Show: show(k),
			Prepare: func(ctx context.Context, r *armapi.Request, d *armapi.Draft) error { return p.prepare(ctx, r, k, d) }}
		t := record.Fill(armapi.Type{Name: k.typ, Versions: versions, Tracked: true, Pattern: name})
		t.Put, t.Patch, t.Delete = p.alone(t.Put), p.alone(t.Patch), p.alone(t.Delete)
		out.Types = append(out.Types, t)
		for _, pt := range k.parts {
			c := child{p, k, pt}
			out.Types = append(out.Types, armapi.Type{
				Name: k.typ + "/" + pt.typ, Versions: versions, Pattern: name,
				Get: c.get, List: c.list, Put: p.alone(c.put), Delete: p.alone(c.delete),
			})
		}
	}
	out.Types = append(out.Types, armapi.Type{Name: "networkSecurityGroups/defaultSecurityRules", Versions: versions, Get: p.defaultRule, List: p.defaultRules})
	return out
}

// alone makes writes take turns, with builds too.
func (p *provider) alone(h armapi.Handler) armapi.Handler {
	return func(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		unlock, err := p.networks.LockNetworks(ctx)
		if err != nil {
			return armapi.Response{}, err
		}
		defer unlock()
		return h(ctx, r)
	}
}

// records are networks that only a store has.
type records struct{ store resource.Store }

func (r records) LockNetworks(context.Context) (func(), error) { return func() {}, nil }

func (r records) NetworkSnapshot(ctx context.Context) (*vnet.Snapshot, error) {
	var all []resource.Record
	for _, k := range kinds {
		found, _, err := r.store.List(ctx, resource.Query{Type: "Microsoft.Network/" + k.typ})
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
	return vnet.NewSnapshot(all), nil
}

// prepare completes a record and judges it.
func (p *provider) prepare(ctx context.Context, r *armapi.Request, k kind, d *armapi.Draft) error {
	if d.Tags == nil {
		d.Tags = map[string]string{}
	}
	if d.Before != nil {
		if err := keepParts(k, d); err != nil {
			return err
		}
	}
	if k.fill != nil {
		k.fill(d.Properties)
	}
	for _, pt := range k.parts {
		if d.Properties[pt.member] == nil {
			d.Properties[pt.member] = []any{}
		}
	}
	if err := nameElements(k, d.ID, d.Properties); err != nil {
		return err
	}
	if err := p.requireJoins(ctx, r, d); err != nil {
		return err
	}
	return p.judge(ctx, &d.Record, &d.Properties)
}

// judge applies the rules of networks, which may also give addresses.
func (p *provider) judge(ctx context.Context, rec *resource.Record, properties *map[string]any) error {
	s, err := p.networks.NetworkSnapshot(ctx)
	if err != nil {
		return err
	}
	if rec.Properties, err = json.Marshal(*properties); err != nil {
		return arm.Errorf(arm.CodeInternal, "encode %s: %w", rec.ID, err)
	}
	judged, err := s.Put(*rec)
	if err != nil {
		return err
	}
	*rec = judged
	*properties = map[string]any{}
	return json.Unmarshal(judged.Properties, properties)
}

func (p *provider) removable(ctx context.Context, _ *armapi.Request, rec resource.Record) error {
	s, err := p.networks.NetworkSnapshot(ctx)
	if err != nil {
		return err
	}
	return s.CheckDelete(rec.ID)
}
