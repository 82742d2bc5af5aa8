package server

import (
	"context"
	"net/http"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/authorization"
	"goldsmith/internal/armapi/compute"
	"goldsmith/internal/armapi/identity"
	"goldsmith/internal/armapi/imagebuilder"
	"goldsmith/internal/armapi/network"
	"goldsmith/internal/armapi/resources"
	"goldsmith/internal/armapi/storage"
	"goldsmith/internal/store"
)

// providers are the resource providers of the service.
func (s *Server) providers(settings store.Settings) []armapi.Provider {
	records, blobs := s.db.Resources(), s.cfg.Engine.Blobs()
	list := resources.Providers(resources.Config{
		Subscription: settings.SubscriptionID, Tenant: settings.TenantID, Store: records,
		Removed:  []func(context.Context, []string) error{storage.Removed(blobs)},
		Register: func(ctx context.Context, namespace string) error { return s.api.SetRegistered(ctx, namespace, true) },
	})
	roles := authorization.Config{Subscription: settings.SubscriptionID, Tenant: settings.TenantID, Store: records, PrincipalType: s.principalType}
	if len(s.settings.Issuers) > 0 {
		roles.PrincipalType = nil // an issuer's users are in no directory here
	}
	list = append(list, imagebuilder.Providers(s.cfg.Engine)...)
	return append(list, authorization.Provider(roles), identity.Provider(records, settings.TenantID),
		compute.Provider(records, settings.SubscriptionID), network.Provider(records),
		storage.Provider(storage.Config{Store: records, Blobs: blobs, Endpoint: func(account string) string {
			return "https://" + account + ".blob." + s.settings.StorageSuffix + "/"
		}}))
}

// principalType says what a principal of the directory is.
func (s *Server) principalType(ctx context.Context, objectID string) (typ string, found bool, err error) {
	p, err := s.tenant.Directory().Find(ctx, objectID)
	if arm.IsCode(err, arm.CodeNotFound) {
		return "", false, nil
	}
	return string(p.Kind), err == nil && p.ID == objectID, err
}

// work takes builds until ctx ends.
func (s *Server) work(ctx context.Context) error { return s.cfg.Engine.Serve(ctx, s.settings.Slots) }

// isStorage reports whether a request is for the data of a storage account.
func (s *Server) isStorage(*http.Request) bool { return false }
