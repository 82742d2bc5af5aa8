// Package identity is the tenant: its principals, its token endpoint in the
// forms that Azure clients know, the keys that sign, the part of a directory
// that role assignments ask for, and the check of every token that comes in.
package identity

import (
	"context"
	"net/http"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/document"
	"goldsmith/internal/resource"
)

// Config configures a Service.
type Config struct {
	BaseURL string   // what clients reach the service as, "https://host:port"
	Aliases []string // other such addresses, whose tokens are as good
	Tenant  string   // tenant id, a lower-case GUID
	Domain  string   // another name of the tenant, such as "goldsmith.local"; may be empty
	Storage string   // suffix of storage hosts, without "blob." ("local.test:8443"); may be empty

	Principals  document.Store // the principals
	Memberships document.Store // who is in which group
	Keys        document.Store // the signing keys
	Resources   resource.Store // where managed identities are
	// Issuers are external ones whose tokens are accepted.
	Issuers []Issuer
	Now     func() time.Time // nil is time.Now
}

// Service is the tenant. It is safe for concurrent use.
type Service struct {
	cfg       Config
	directory *Directory
	keys      *keyRing
	graphAuth *Authenticator
	external  []*external
}

// New opens the tenant, and makes its first signing key when it has none.
func New(ctx context.Context, cfg Config) (*Service, error) {
	cfg.BaseURL = strings.TrimRight(cfg.BaseURL, "/")
	if !strings.HasPrefix(cfg.BaseURL, "https://") {
		return nil, arm.Errorf(arm.CodeUsage, "the service's address %q is not https: Azure's clients send tokens nowhere else", cfg.BaseURL)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &Service{cfg: cfg, directory: &Directory{Principals: cfg.Principals, Memberships: cfg.Memberships, Resources: cfg.Resources, Now: cfg.Now}}
	for _, i := range cfg.Issuers {
		e, err := newExternal(i, cfg.Now)
		if err != nil {
			return nil, err
		}
		s.external = append(s.external, e)
	}
	var err error
	if s.keys, err = openKeys(ctx, cfg.Keys, cfg.Now); err != nil {
		return nil, err
	}
	s.graphAuth = s.Management()
	return s, nil
}

// Directory is the tenant's principals.
func (s *Service) Directory() *Directory { return s.directory }

func (s *Service) now() time.Time { return s.cfg.Now() }

// issuer is the issuer of this tenant's tokens.
func (s *Service) issuer() string { return s.cfg.BaseURL + "/" + s.cfg.Tenant }

// Challenge is the WWW-Authenticate header of an answer 401.
func (s *Service) Challenge() string {
	return `Bearer authorization_uri="` + s.issuer() + `", error="invalid_token", error_description="The access token is missing or invalid"`
}

// Serves reports whether path belongs to Handler: sign-in, metadata, directory.
func (s *Service) Serves(path string) bool {
	path = strings.TrimLeft(path, "/")
	first, _, deeper := strings.Cut(path, "/")
	switch strings.ToLower(first) {
	case "aliases.json":
		return !deeper
	case "metadata", "adfs", "common", "organizations", "v1.0", "graph":
		return deeper
	}
	return deeper && s.isTenant(first)
}

// isTenant reports whether name is this tenant, or stands for any.
func (s *Service) isTenant(name string) bool {
	for _, n := range []string{s.cfg.Tenant, s.cfg.Domain, "common", "organizations", "adfs"} {
		if n != "" && strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}

// Handler serves sign-in, the cloud's metadata and the directory. Its paths are
// those that Serves knows.
func (s *Service) Handler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, 1<<20)
		parts := splitPath(r.URL.Path)
		last := strings.ToLower(parts[len(parts)-1])
		tail := strings.ToLower(strings.Join(parts[1:], "/"))
		switch first := strings.ToLower(parts[0]); {
		case first == "metadata" && last == "endpoints":
			s.metadata(w, r)
		case first == "aliases.json":
			writeJSON(w, http.StatusOK, aliases())
		case first == "graph" && len(parts) > 1 && parts[1] == "v1.0":
			s.graph(w, r, parts[2:])
		case first == "v1.0":
			s.graph(w, r, parts[1:])
		case tail == "discovery/instance":
			s.instance(w)
		case strings.HasSuffix(tail, ".well-known/openid-configuration"):
			s.openID(w, parts)
		case last == "keys" && strings.Contains(tail, "discovery"):
			writeJSON(w, http.StatusOK, s.keys.set())
		case last == "token" && strings.Contains(tail, "oauth2"):
			s.token(w, r)
		default:
			writeJSON(w, http.StatusNotFound, oauthError{Error: "invalid_request", Description: "AADSTS90002: there is nothing at " + r.URL.Path})
		}
	})
}

// splitPath is the segments of a path, without the empty ones; never none.
func splitPath(path string) []string {
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	if len(parts) == 0 {
		return []string{""}
	}
	return parts
}

// Collections of documents that hold the tenant.
const (
	Principals  = "principals"
	SigningKeys = "signing-keys"
)
