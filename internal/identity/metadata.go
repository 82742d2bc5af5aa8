package identity

import "net/http"

// authentication is the part of the cloud's metadata that says where to sign in.
// The ADFS style is announced: clients then ask no other host about the
// authority.
type authentication struct {
	Login     string   `json:"loginEndpoint"`
	Audiences []string `json:"audiences"`
	Tenant    string   `json:"tenant,omitempty"`
	Provider  string   `json:"identityProvider,omitempty"`
}

// metadata says where this cloud's endpoints are, in the form of each version
// that clients ask for: an object of few members (2015), an array of one (2019),
// an object (2022 and any other).
func (s *Service) metadata(w http.ResponseWriter, r *http.Request) {
	base := s.cfg.BaseURL
	auth := authentication{Login: base + "/adfs", Audiences: []string{base + "/"}}
	switch version := r.URL.Query().Get("api-version"); {
	case version == "2015-01-01" || version == "1.0":
		writeJSON(w, http.StatusOK, map[string]any{
			"galleryEndpoint": base + "/", "graphEndpoint": base + "/", "portalEndpoint": base + "/", "authentication": auth,
		})
	case version < "2020" && version != "":
		writeJSON(w, http.StatusOK, []any{s.cloud()})
	default:
		writeJSON(w, http.StatusOK, s.cloud())
	}
}

// cloud is the metadata of this cloud with everything that clients insist on.
func (s *Service) cloud() map[string]any {
	base := s.cfg.BaseURL
	suffix := s.cfg.Storage
	if suffix == "" {
		suffix = "storage.invalid"
	}
	cloud := map[string]any{
		"name": "Goldsmith",
		"authentication": authentication{
			Login: base + "/adfs", Audiences: []string{base + "/", base}, Tenant: "common", Provider: "AAD",
		},
		"resourceManager": base + "/", "microsoftGraphResourceId": base + "/", "vmImageAliasDoc": base + "/aliases.json",
	}
	for _, name := range []string{
		"portal", "media", "graphAudience", "graph", "batch", "activeDirectoryDataLake", "sqlManagement",
		"appInsightsResourceId", "logAnalyticsResourceId", "gallery", "ossrdbmsResourceId", "synapseAnalyticsResourceId",
		"attestationResourceId", "appInsightsTelemetryChannelResourceId",
	} {
		cloud[name] = base + "/"
	}
	suffixes := map[string]string{"storage": suffix}
	for _, name := range []string{
		"keyVaultDns", "acrLoginServer", "sqlServerHostname", "azureDataLakeStoreFileSystem", "azureDataLakeAnalyticsCatalogAndJob",
		"storageSyncEndpointSuffix", "mhsmDns", "mysqlServerEndpoint", "postgresqlServerEndpoint", "mariadbServerEndpoint",
		"synapseAnalytics", "attestationEndpoint", "azureFrontDoorEndpointSuffix",
	} {
		suffixes[name] = name + "." + suffix
	}
	cloud["suffixes"] = suffixes
	return cloud
}

// instance answers clients that ask whether the authority is known.
func (s *Service) instance(w http.ResponseWriter) {
	writeJSON(w, http.StatusOK, map[string]any{
		"tenant_discovery_endpoint": s.issuer() + "/v2.0/.well-known/openid-configuration",
		"api-version":               "1.1",
		"metadata":                  []any{},
	})
}

// openID is the OpenID Connect configuration of an authority: that of ADFS, or
// of a tenant.
func (s *Service) openID(w http.ResponseWriter, parts []string) {
	authority := s.cfg.BaseURL + "/adfs"
	token := authority + "/oauth2/token"
	if parts[0] != "adfs" {
		if !s.isTenant(parts[0]) {
			writeJSON(w, http.StatusNotFound, oauthError{Error: "invalid_tenant", Description: "AADSTS90002: there is no tenant '" + printable(parts[0]) + "'"})
			return
		}
		authority = s.cfg.BaseURL + "/" + s.cfg.Tenant
		token = authority + "/oauth2/v2.0/token"
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"issuer": s.issuer(), "authorization_endpoint": authority + "/oauth2/authorize", "token_endpoint": token,
		"device_authorization_endpoint": authority + "/oauth2/devicecode", "jwks_uri": authority + "/discovery/keys",
		"response_types_supported": []string{"code", "token"}, "subject_types_supported": []string{"pairwise"},
		"id_token_signing_alg_values_supported":            []string{"RS256"},
		"token_endpoint_auth_methods_supported":            []string{"client_secret_post", "client_secret_basic", "private_key_jwt"},
		"token_endpoint_auth_signing_alg_values_supported": assertionAlgorithms,
		"scopes_supported":                                 []string{"openid", "offline_access", "profile"},
		"claims_supported":                                 []string{"iss", "sub", "aud", "exp", "iat", "nbf", "tid", "oid", "appid"},
	})
}

// aliases is the list of image aliases that az asks for; there are none.
func aliases() map[string]any {
	return map[string]any{"outputs": map[string]any{"aliases": map[string]any{"type": "object", "value": map[string]any{"Linux": map[string]any{}, "Windows": map[string]any{}}}}}
}
