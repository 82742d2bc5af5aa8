// Package providers puts the resource providers of this program together.
package providers

import (
	"context"

	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/authorization"
	"goldsmith/internal/armapi/compute"
	"goldsmith/internal/armapi/deployments"
	"goldsmith/internal/armapi/identity"
	"goldsmith/internal/armapi/network"
	"goldsmith/internal/armapi/resources"
	"goldsmith/internal/armapi/storage"
	"goldsmith/internal/resource"
)

// Config is what the providers work with.
type Config struct {
	Subscription string // GUID
	Tenant       string // GUID
	Store        resource.Store
	Blobs        storage.Blobs
	// BlobEndpoint is the address of an account's blobs.
	BlobEndpoint func(account string) string
	// PrincipalType looks a principal up in the directory; nil for none.
	PrincipalType func(ctx context.Context, objectID string) (typ string, found bool, err error)
	// Networks are the networks as builds see them; nil when there are no builds.
	Networks network.Networks
	// Register registers a namespace: API.SetRegistered of the front door that
	// the providers plug into.
	Register func(ctx context.Context, namespace string) error
	// Call makes a request within the service: API.Call of the same front door. nil
	// leaves deployments out.
	Call func(context.Context, armapi.Call) (armapi.Answer, error)
	// StorageSuffix ends the addresses of storage accounts.
	StorageSuffix string
	// Deleting are called before a group is deleted; see resources.Config.
	Deleting []func(ctx context.Context, groupID string) error
}

// empty are namespaces that guides tell users to register, and that have nothing
// here.
var empty = []string{"Microsoft.KeyVault", "Microsoft.ContainerInstance"}

// All are the providers of everything but image templates.
func All(c Config) []armapi.Provider {
	all := resources.Providers(resources.Config{
		Subscription: c.Subscription, Tenant: c.Tenant, Store: c.Store, Deleting: c.Deleting, Register: c.Register,
		Removed: []func(context.Context, []string) error{storage.Removed(c.Blobs)},
	})
	all = append(all,
		authorization.Provider(authorization.Config{Subscription: c.Subscription, Tenant: c.Tenant, Store: c.Store, PrincipalType: c.PrincipalType}),
		identity.Provider(c.Store, c.Tenant),
		compute.Provider(c.Store, c.Subscription),
		network.Provider(c.Store, c.Networks),
		storage.Provider(storage.Config{Store: c.Store, Blobs: c.Blobs, Endpoint: c.BlobEndpoint}),
	)
	if c.Call != nil {
		all = append(all, deployments.Provider(deployments.Config{
			Subscription: c.Subscription, Tenant: c.Tenant, Store: c.Store, Call: c.Call, StorageSuffix: c.StorageSuffix,
		}))
	}
	for _, ns := range empty {
		all = append(all, armapi.Provider{Namespace: ns, MustRegister: true})
	}
	return all
}
