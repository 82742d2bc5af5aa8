package server

import (
	"context"
	"net"
	"net/http"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/authorization"
	"goldsmith/internal/armapi/compute"
	"goldsmith/internal/armapi/identity"
	"goldsmith/internal/armapi/imagebuilder"
	"goldsmith/internal/armapi/network"
	"goldsmith/internal/armapi/resources"
	"goldsmith/internal/armapi/storage"
	"goldsmith/internal/blobapi"
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

// storageHandler serves the data of storage accounts.
func (s *Server) storageHandler(settings store.Settings) http.Handler {
	return blobapi.New(blobapi.Config{
		Blobs: s.cfg.Engine.Blobs(), Accounts: s.accounts, Authenticate: s.tenant.Storage(), Authorize: s.access,
		Suffix: hostOf(s.settings.StorageSuffix), Login: s.settings.URL + "/" + settings.TenantID, Log: s.cfg.Log,
	})
}

// accountHost reports whether a request's host is that of a storage account.
func (s *Server) accountHost(r *http.Request) bool {
	return strings.HasSuffix(hostOf(r.Host), ".blob."+hostOf(s.settings.StorageSuffix))
}

// hostOf is a host without its port, in lower case.
func hostOf(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	return strings.ToLower(host)
}

// accountPath reports whether a path begins with the name of a storage account,
// as clients without names for account hosts send it.
func (s *Server) accountPath(r *http.Request) bool {
	first, _, _ := strings.Cut(strings.TrimLeft(r.URL.Path, "/"), "/")
	switch strings.ToLower(first) {
	case "", "subscriptions", "providers", "tenants":
		return false
	}
	_, err := s.accounts.Find(r.Context(), first)
	return err == nil
}
