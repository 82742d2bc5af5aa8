// Package deployments provides Microsoft.Resources/deployments: templates that are
// evaluated, and whose resources are made in order, each by the request that the
// caller would have made, with the caller's rights.
//
// A deployment is a record: what is served are its properties, and what it needs
// to go on after a restart of the service is internal. Its operations are records
// below it. Values of secure parameters are in memory only: a deployment that has
// some does not survive a restart, and says so.
package deployments

import (
	"context"
	"sync"
	"time"

	"goldsmith/internal/armapi"
	"goldsmith/internal/jsontree"
	"goldsmith/internal/resource"
)

// Config is what the provider works with.
type Config struct {
	Subscription string // GUID
	Tenant       string // GUID
	Name         string // display name of the subscription
	Store        resource.Store
	// Call makes a request within the service: API.Call of the front door that the
	// provider plugs into.
	Call          func(context.Context, armapi.Call) (armapi.Answer, error)
	StorageSuffix string           // of the addresses of storage accounts
	Now           func() time.Time // nil is time.Now
}

// Type is the resource type of deployments.
const Type = "Microsoft.Resources/deployments"

// workKind is the kind of the operations that deploy.
const workKind = "deployments/write"

var versions = []string{"2025-04-01", "2024-11-01", "2024-03-01", "2023-07-01", "2022-09-01", "2021-04-01", "2020-10-01", "2020-06-01", "2019-10-01", "2018-05-01"}

// provider answers requests, and works deployments.
type provider struct {
	Config
	mu      sync.Mutex
	cancels map[string]context.CancelCauseFunc // by run
	secrets map[string]*jsontree.Node          // parameters with secrets in them, by run
}

// Provider is the part of Microsoft.Resources that deploys.
func Provider(c Config) armapi.Provider {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Name == "" {
		c.Name = "Goldsmith"
	}
	p := &provider{Config: c, cancels: map[string]context.CancelCauseFunc{}, secrets: map[string]*jsontree.Node{}}
	const pattern = `[-\w._()]{1,64}`
	const places = armapi.InGroup | armapi.InSubscription
	out := armapi.Provider{Namespace: "Microsoft.Resources", Works: map[string]armapi.Work{workKind: p.work},
		Actions: map[string]armapi.Action{"calculateTemplateHash": {Handle: hash, Open: true}}}
	main := armapi.Type{Name: "deployments", Place: places, Versions: versions, Lenient: true, Pattern: pattern}
	operations := armapi.Type{Name: "deployments/operations", Place: places, Versions: versions, Get: p.getOperation, List: p.listOperations}
	p.fill(&main)
	out.Types = []armapi.Type{main, operations,
		{Name: "deployments/operationStatuses", Place: places, Hidden: true, Open: true, Get: p.status}}
	// az and older clients write the same without the provider.
	for _, scope := range []string{"subscriptions/", "subscriptions/resourceGroups/"} {
		short := armapi.Type{Name: scope + "deployments", Place: armapi.InTenant, Hidden: true, Lenient: true, Pattern: pattern, Permission: Type}
		p.fill(&short)
		out.Types = append(out.Types, short,
			armapi.Type{Name: scope + "deployments/operations", Place: armapi.InTenant, Hidden: true, Permission: Type + "/operations", Get: p.getOperation, List: p.listOperations},
			armapi.Type{Name: scope + "deployments/operationStatuses", Place: armapi.InTenant, Hidden: true, Open: true, Get: p.status})
	}
	return out
}

func (p *provider) fill(t *armapi.Type) {
	t.Get, t.List, t.Put, t.Delete = p.get, p.list, p.put, p.delete
	t.Actions = map[string]armapi.Action{
		"validate": {Handle: p.validate}, "whatIf": {Handle: p.whatIf}, "cancel": {Handle: p.cancel}, "exportTemplate": {Handle: p.export},
	}
}

// remember keeps the parameters of a deployment with secrets while it runs.
func (p *provider) remember(run string, given *jsontree.Node) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.secrets[run] = given
}

func (p *provider) forget(run string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.secrets, run)
	delete(p.cancels, run)
}

func (p *provider) remembered(run string) *jsontree.Node {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.secrets[run]
}
