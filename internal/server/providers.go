package server

import (
	"context"
	"net"
	"net/http"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/imagebuilder"
	"goldsmith/internal/armapi/providers"
	"goldsmith/internal/armapi/upkeep"
	"goldsmith/internal/blobapi"
	"goldsmith/internal/store"
)

// providers are the resource providers of the service.
func (s *Server) providers(settings store.Settings) []armapi.Provider {
	principalType := s.principalType
	if len(s.settings.Issuers) > 0 {
		principalType = nil // an issuer's users are in no directory here
	}
	own := append(imagebuilder.Providers(s.cfg.Engine), upkeep.Provider(s.cfg.Engine, s.scratch()))
	return append(own, providers.All(providers.Config{
		Subscription: settings.SubscriptionID, Tenant: settings.TenantID, Store: s.db.Resources(), Blobs: s.cfg.Engine.Blobs(),
		BlobEndpoint:  func(account string) string { return "https://" + account + ".blob." + s.settings.StorageSuffix + "/" },
		PrincipalType: principalType,
		Networks:      s.cfg.Engine,
		Register:      func(ctx context.Context, namespace string) error { return s.api.SetRegistered(ctx, namespace, true) },
		Call:          func(ctx context.Context, c armapi.Call) (armapi.Answer, error) { return s.api.Call(ctx, c) },
		StorageSuffix: s.settings.StorageSuffix,
		Deleting:      []func(context.Context, string) error{s.cfg.Engine.DeleteGroup},
	})...)
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
