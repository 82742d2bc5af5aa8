package identity

import (
	"context"
	"crypto/sha256"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"goldsmith/internal/arm"
)

// Caller is who sent a request.
type Caller struct {
	ObjectID string // what roles are assigned to
	TenantID string
	AppID    string   // application id of a service principal
	Name     string   // for people
	Groups   []string // object ids of the groups it is in
}

// Authenticator checks the tokens of requests to one kind of endpoint.
type Authenticator struct {
	service *Service
	accepts func(audience string) bool

	mu   sync.Mutex
	seen map[[sha256.Size]byte]verified
}

// verified is a token whose signature has been checked.
type verified struct {
	claims  claims
	expires time.Time
}

// maxSeen bounds the tokens that are remembered.
const maxSeen = 4096

// management are the audiences of Azure Resource Manager that clients send
// wherever the service is.
var management = []string{"https://management.azure.com", "https://management.core.windows.net", "https://management.core.windows.net:443"}

// Management checks tokens for the resource manager and the directory.
func (s *Service) Management() *Authenticator {
	accepted := slices.Clone(management)
	for _, a := range append([]string{s.cfg.BaseURL}, s.cfg.Aliases...) {
		accepted = append(accepted, audienceOf(a))
	}
	return &Authenticator{service: s, seen: map[[sha256.Size]byte]verified{}, accepts: func(a string) bool { return slices.Contains(accepted, a) }}
}

// Storage checks tokens for the data of storage accounts.
func (s *Service) Storage() *Authenticator {
	suffixes := []string{".blob.core.windows.net"}
	if s.cfg.Storage != "" {
		suffixes = append(suffixes, ".blob."+strings.ToLower(s.cfg.Storage))
	}
	return &Authenticator{service: s, seen: map[[sha256.Size]byte]verified{}, accepts: func(a string) bool {
		return a == "https://storage.azure.com" ||
			strings.HasPrefix(a, "https://") && slices.ContainsFunc(suffixes, func(suffix string) bool { return strings.HasSuffix(a, suffix) })
	}}
}

// Authenticate says who sent r, by its bearer token. The error's code is the
// resource manager's for a missing, invalid or expired token, a wrong audience
// or a wrong tenant; any other is a fault of the service.
func (a *Authenticator) Authenticate(ctx context.Context, r *http.Request) (Caller, error) {
	header := r.Header.Get("Authorization")
	scheme, raw, _ := strings.Cut(header, " ")
	if header == "" {
		return Caller{}, arm.Errorf(codeMissingToken, "the request has no Authorization header")
	}
	if raw = strings.TrimSpace(raw); !strings.EqualFold(scheme, "Bearer") || raw == "" {
		return Caller{}, arm.Errorf(codeMissingToken, "the Authorization header holds no bearer token")
	}
	return a.Token(ctx, raw)
}

// Unauthenticated reports whether err is one that a sign-in mends.
func Unauthenticated(err error) bool {
	return slices.Contains([]arm.Code{codeMissingToken, codeInvalidToken, codeExpiredToken, codeWrongAudience, codeWrongTenant}, arm.CodeOf(err))
}

// Token says who a bearer token is for; see Authenticate.
func (a *Authenticator) Token(ctx context.Context, raw string) (Caller, error) {
	c, known := a.recall(raw)
	if !known {
		_, unverified, err := parse(raw, assertionAlgorithms)
		if err != nil {
			return Caller{}, err
		}
		for _, e := range a.service.external {
			if e.cfg.URL == unverified.Issuer {
				return a.external(ctx, e, raw)
			}
		}
		if c, err = a.service.verify(raw); err != nil {
			return Caller{}, err
		}
		if c.Use != "" {
			return Caller{}, arm.Errorf(codeInvalidToken, "the access token is invalid: it is a token for refreshing")
		}
		if !slices.ContainsFunc(c.Audience, func(s string) bool { return a.accepts(audienceOf(s)) }) {
			return Caller{}, arm.Errorf(codeWrongAudience, "the access token has been obtained for the wrong audience %q", c.Audience)
		}
		a.remember(raw, c)
	}
	p, err := a.service.directory.Get(ctx, c.Object)
	if arm.IsCode(err, arm.CodeNotFound) { // a managed identity is a resource
		p, err = a.service.directory.Find(ctx, c.Object)
	}
	if arm.IsCode(err, arm.CodeNotFound) {
		return Caller{}, arm.Errorf(codeInvalidToken, "the access token is invalid: its principal has been deleted")
	}
	if err != nil {
		return Caller{}, err
	}
	return Caller{ObjectID: p.ID, TenantID: a.service.cfg.Tenant, AppID: p.App, Name: p.Name, Groups: p.Groups}, nil
}

// external says who a token of an external issuer is for.
func (a *Authenticator) external(ctx context.Context, e *external, raw string) (Caller, error) {
	t, err := e.verify(ctx, raw)
	if err != nil {
		return Caller{}, err
	}
	known, err := a.service.directory.List(ctx)
	if err != nil {
		return Caller{}, err
	}
	return e.caller(t, a.service.cfg.Tenant, known)
}

// recall finds a token that was checked before and has not expired.
func (a *Authenticator) recall(raw string) (claims, bool) {
	key := sha256.Sum256([]byte(raw))
	a.mu.Lock()
	defer a.mu.Unlock()
	v, ok := a.seen[key]
	if ok && a.service.now().After(v.expires) {
		delete(a.seen, key)
		return claims{}, false
	}
	return v.claims, ok
}

func (a *Authenticator) remember(raw string, c claims) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.seen) >= maxSeen {
		clear(a.seen)
	}
	a.seen[sha256.Sum256([]byte(raw))] = verified{c, c.Expiry.Time()}
}
