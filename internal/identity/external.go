package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/google/uuid"

	"goldsmith/internal/arm"
)

// Issuer is an external OpenID Connect issuer whose tokens are accepted.
type Issuer struct {
	URL       string   `yaml:"issuer"`           // as in the tokens' iss claim
	Audiences []string `yaml:"audiences"`        // one of them must be in the token's aud claim
	CAFile    string   `yaml:"caFile,omitempty"` // also trust the certificates in this PEM file
	// Claims name the claims that are read; empty ones are the defaults.
	Claims ClaimNames `yaml:"claims"`
	// Groups gives local groups to values of the groups claim: object ids by value.
	Groups map[string]string `yaml:"groups,omitempty"`
	// Algorithms are the signatures accepted; none is RS256, PS256 and ES256.
	Algorithms []string `yaml:"algorithms,omitempty"`
}

// ClaimNames say which claim holds what.
type ClaimNames struct {
	Subject string `yaml:"subject,omitempty"` // who it is, within the issuer; default "sub"
	// ObjectID is the claim whose value is the object id here as it stands, as with
	// Entra ID's "oid"; empty makes object ids from issuer and subject.
	ObjectID string `yaml:"objectId,omitempty"`
	Name     string `yaml:"name,omitempty"`   // default "preferred_username"
	Groups   string `yaml:"groups,omitempty"` // default "groups"
}

// external is an issuer in use.
type external struct {
	cfg    Issuer
	client *http.Client
	now    func() time.Time

	mu       sync.Mutex
	verifier *oidc.IDTokenVerifier // nil until the issuer has been asked
}

func newExternal(cfg Issuer, now func() time.Time) (*external, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" {
		return nil, arm.Errorf(arm.CodeUsage, "the issuer %q is not an https address", cfg.URL)
	}
	if len(cfg.Audiences) == 0 {
		return nil, arm.Errorf(arm.CodeUsage, "the issuer %s has no audiences: any token of it would be accepted", cfg.URL)
	}
	if len(cfg.Algorithms) == 0 {
		cfg.Algorithms = []string{oidc.RS256, oidc.PS256, oidc.ES256}
	}
	for _, a := range cfg.Algorithms {
		if !slices.Contains([]string{oidc.RS256, oidc.RS384, oidc.RS512, oidc.PS256, oidc.PS384, oidc.PS512, oidc.ES256, oidc.ES384, oidc.ES512, oidc.EdDSA}, a) {
			return nil, arm.Errorf(arm.CodeUsage, "the issuer %s: %q is not an asymmetric signature algorithm", cfg.URL, a)
		}
	}
	set := func(p *string, def string) {
		if *p == "" {
			*p = def
		}
	}
	set(&cfg.Claims.Subject, "sub")
	set(&cfg.Claims.Name, "preferred_username")
	set(&cfg.Claims.Groups, "groups")
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if cfg.CAFile != "" {
		pem, err := os.ReadFile(cfg.CAFile)
		if err != nil || !pool.AppendCertsFromPEM(pem) {
			return nil, arm.Errorf(arm.CodeUsage, "the issuer %s: %s holds no readable certificate (%v)", cfg.URL, cfg.CAFile, err)
		}
	}
	transport := &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true,
		TLSHandshakeTimeout: 10 * time.Second, ResponseHeaderTimeout: 10 * time.Second,
	}
	return &external{cfg: cfg, client: &http.Client{Transport: transport, Timeout: 20 * time.Second}, now: now}, nil
}

// ready asks the issuer for its keys' address, once; a failure is asked again at
// the next token.
func (e *external) ready(ctx context.Context) (*oidc.IDTokenVerifier, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.verifier != nil {
		return e.verifier, nil
	}
	ctx = oidc.ClientContext(ctx, e.client)
	provider, err := oidc.NewProvider(ctx, e.cfg.URL)
	if err != nil {
		return nil, arm.Errorf(codeInvalidToken, "the issuer %s does not answer: %w", e.cfg.URL, err)
	}
	// The context stays with the key set, which asks for keys later on.
	e.verifier = provider.VerifierContext(context.WithoutCancel(ctx), &oidc.Config{
		SkipClientIDCheck: true, SupportedSigningAlgs: e.cfg.Algorithms, Now: e.now,
	})
	return e.verifier, nil
}

// verify checks signature, issuer, time and audience of a token.
func (e *external) verify(ctx context.Context, raw string, audiences ...string) (*oidc.IDToken, error) {
	v, err := e.ready(ctx)
	if err != nil {
		return nil, err
	}
	t, err := v.Verify(oidc.ClientContext(ctx, e.client), raw)
	if err != nil {
		var expired *oidc.TokenExpiredError
		if errors.As(err, &expired) {
			return nil, arm.Errorf(codeExpiredToken, "the access token has expired at %s", expired.Expiry.UTC().Format(time.RFC3339))
		}
		return nil, arm.Errorf(codeInvalidToken, "the access token is invalid: %w", err)
	}
	for _, a := range t.Audience {
		for _, want := range append(audiences, e.cfg.Audiences...) {
			if audienceOf(a) == audienceOf(want) {
				return t, nil
			}
		}
	}
	return nil, arm.Errorf(codeWrongAudience, "the access token is for %q, not for this service", t.Audience)
}

// caller is who a verified token is for. A subject that a principal names is that
// principal; any other gets an object id of its own, which roles can be assigned
// to.
func (e *external) caller(t *oidc.IDToken, tenant string, known []Principal) (Caller, error) {
	var all map[string]json.RawMessage
	if err := t.Claims(&all); err != nil {
		return Caller{}, arm.Errorf(codeInvalidToken, "the access token is invalid: %w", err)
	}
	subject := text(all[e.cfg.Claims.Subject])
	if subject == "" {
		return Caller{}, arm.Errorf(codeInvalidToken, "the access token has no claim %q", e.cfg.Claims.Subject)
	}
	c := Caller{TenantID: tenant, Name: text(all[e.cfg.Claims.Name]), Groups: e.groups(all[e.cfg.Claims.Groups])}
	if c.Name == "" {
		c.Name = subject
	}
	me := Subject{Issuer: e.cfg.URL, Subject: subject}
	for _, p := range known {
		if slices.Contains(p.Federated, me) {
			c.ObjectID, c.AppID = p.ID, p.App
			c.Groups = append(c.Groups, p.Groups...)
			return c, nil
		}
	}
	c.ObjectID = derived(e.cfg.URL, subject)
	if claim := e.cfg.Claims.ObjectID; claim != "" {
		id, err := uuid.Parse(text(all[claim]))
		if err != nil {
			return Caller{}, arm.Errorf(codeInvalidToken, "the claim %q of the access token is not a GUID", claim)
		}
		c.ObjectID = id.String()
	}
	// No issuer may speak for a principal that does not name it.
	if slices.ContainsFunc(known, func(p Principal) bool { return p.ID == c.ObjectID }) {
		return Caller{}, arm.Errorf(codeInvalidToken, "the object id %s belongs to a principal of this tenant that %s does not speak for", c.ObjectID, e.cfg.URL)
	}
	return c, nil
}

// groups are the object ids of the groups that a claim names: those that the
// configuration gives, and one of its own for each other value.
func (e *external) groups(raw json.RawMessage) []string {
	var values []string
	if json.Unmarshal(raw, &values) != nil {
		return nil
	}
	var out []string
	for _, v := range values {
		if id, ok := e.cfg.Groups[v]; ok {
			out = append(out, strings.ToLower(id))
		} else {
			out = append(out, derived(e.cfg.URL, "group:"+v))
		}
	}
	return out
}

// derived is the object id of a name within an issuer.
func derived(issuer, name string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, fmt.Appendf(nil, "%s\n%s", issuer, name)).String()
}

// text is a claim that is a string; "" for any other.
func text(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}
