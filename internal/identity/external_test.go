package identity

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
)

func TestAssertions(t *testing.T) {
	s, p, _, c := tenantFor(t)
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	cert := certificate(t, key, c.t)
	if err := s.Directory().AddCertificate(t.Context(), p.ID, cert); err != nil {
		t.Fatal(err)
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	assert := func(key *rsa.PrivateKey, alg jose.SignatureAlgorithm, change func(*jwt.Claims)) (int, map[string]any) {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, nil)
		if err != nil {
			t.Fatal(err)
		}
		cl := jwt.Claims{Issuer: p.App, Subject: p.App, Audience: jwt.Audience{base + "/adfs/oauth2/token"}, Expiry: jwt.NewNumericDate(c.t.Add(time.Minute))}
		change(&cl)
		return form(t, s, "/adfs/oauth2/token", "grant_type", "client_credentials", "client_id", p.App, "scope", base+"/.default",
			"client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer", "client_assertion", serialize(t, signer, cl))
	}
	same := func(*jwt.Claims) {}
	for _, alg := range []jose.SignatureAlgorithm{jose.RS256, jose.PS256} {
		if status, answer := assert(key, alg, same); status != http.StatusOK {
			t.Errorf("%s: %d %v", alg, status, answer)
		}
	}
	for name, change := range map[string]func(*jwt.Claims){
		"expired":        func(cl *jwt.Claims) { cl.Expiry = jwt.NewNumericDate(c.t.Add(-time.Hour)) },
		"other audience": func(cl *jwt.Claims) { cl.Audience = jwt.Audience{"https://login.microsoftonline.com/x"} },
		"other subject":  func(cl *jwt.Claims) { cl.Subject = "x" },
		"other issuer":   func(cl *jwt.Claims) { cl.Issuer = "https://x" },
	} {
		if status, _ := assert(key, jose.RS256, change); status != http.StatusUnauthorized {
			t.Errorf("%s: %d", name, status)
		}
	}
	if status, _ := assert(stranger, jose.RS256, same); status != http.StatusUnauthorized {
		t.Errorf("a stranger's key: %d", status)
	}
}

func certificate(t *testing.T, key crypto.Signer, now time.Time) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "client"}, NotBefore: now, NotAfter: now.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// issuerFor is a running OpenID Connect issuer.
type issuerFor struct {
	*httptest.Server
	key *ecdsa.PrivateKey
}

func startIssuer(t *testing.T) *issuerFor {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuerFor{key: key}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, map[string]any{
			"issuer": i.URL, "jwks_uri": i.URL + "/keys", "authorization_endpoint": i.URL + "/a", "token_endpoint": i.URL + "/t",
			"id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, http.StatusOK, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	i.Server = httptest.NewTLSServer(mux)
	t.Cleanup(i.Close)
	return i
}

func (i *issuerFor) config(t *testing.T) Issuer {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: i.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return Issuer{URL: i.URL, Audiences: []string{"goldsmith"}, CAFile: ca}
}

func (i *issuerFor) token(t *testing.T, c map[string]any) string {
	t.Helper()
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: i.key, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{"iss": i.URL, "aud": "goldsmith", "exp": time.Date(2026, 1, 2, 4, 0, 0, 0, time.UTC).Unix(), "sub": "alice"}
	for k, v := range c {
		all[k] = v
	}
	return serialize(t, signer, all)
}

func TestExternalIssuer(t *testing.T) {
	issuer := startIssuer(t)
	cfg := issuer.config(t)
	cfg.Claims.ObjectID = ""
	cfg.Groups = map[string]string{"admins": "AAAAAAAA-0000-0000-0000-000000000001"}
	s, p, _, _ := tenantFor(t, cfg)
	arms := s.Management()

	got := wantToken(t, arms, issuer.token(t, map[string]any{"preferred_username": "alice@x", "groups": []string{"admins", "others"}}), "")
	want := Caller{
		ObjectID: derived(issuer.URL, "alice"), TenantID: tenant, Name: "alice@x",
		Groups: []string{"aaaaaaaa-0000-0000-0000-000000000001", derived(issuer.URL, "group:others")},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	bob, err := s.Directory().Create(t.Context(), Principal{Kind: User, Name: "bob", UPN: "bob@x", Federated: []Subject{{issuer.URL, "b"}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := wantToken(t, arms, issuer.token(t, map[string]any{"sub": "b"}), ""); got.ObjectID != bob.ID {
		t.Errorf("bob is %+v", got)
	}
	for name, tt := range map[string]struct {
		claims map[string]any
		code   arm.Code
	}{
		"other audience": {map[string]any{"aud": "someone"}, codeWrongAudience},
		"expired":        {map[string]any{"exp": 1000}, codeExpiredToken},
		"no subject":     {map[string]any{"sub": ""}, codeInvalidToken},
	} {
		t.Run(name, func(t *testing.T) { wantToken(t, arms, issuer.token(t, tt.claims), tt.code) })
	}
	// Somebody else's key under the issuer's name.
	forged := &issuerFor{Server: issuer.Server}
	if forged.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	wantToken(t, arms, forged.token(t, nil), codeInvalidToken)

	// A workload's token in place of a secret.
	exchange := func(sub string) int {
		status, _ := form(t, s, "/"+tenant+"/oauth2/v2.0/token", "grant_type", "client_credentials", "client_id", p.App,
			"client_assertion", issuer.token(t, map[string]any{"sub": sub, "aud": tokenExchange}))
		return status
	}
	if err := s.Directory().change(t.Context(), p.ID, func(p *Principal) { p.Federated = []Subject{{issuer.URL, "repo:a"}} }); err != nil {
		t.Fatal(err)
	}
	if a, b := exchange("repo:a"), exchange("repo:b"); a != http.StatusOK || b != http.StatusUnauthorized {
		t.Errorf("exchange: %d and %d", a, b)
	}

	// An issuer whose claim is the object id cannot speak for the principals here.
	cfg.Claims.ObjectID = "oid"
	trusting, admin, _, _ := tenantFor(t, cfg)
	id := "bbbbbbbb-0000-0000-0000-000000000002"
	if got := wantToken(t, trusting.Management(), issuer.token(t, map[string]any{"oid": id}), ""); got.ObjectID != id {
		t.Errorf("%+v", got)
	}
	wantToken(t, trusting.Management(), issuer.token(t, map[string]any{"oid": admin.ID}), codeInvalidToken)
	wantToken(t, trusting.Management(), issuer.token(t, map[string]any{"oid": "x"}), codeInvalidToken)
}

func TestExternalIssuerConfiguration(t *testing.T) {
	for _, cfg := range []Issuer{
		{URL: "http://x", Audiences: []string{"a"}}, {URL: "https://x"}, {URL: "https://x", Audiences: []string{"a"}, Algorithms: []string{"HS256"}},
		{URL: "https://x", Audiences: []string{"a"}, CAFile: "/nonexistent"}, {URL: "https://x", Audiences: []string{"a"}, Algorithms: []string{"none"}},
	} {
		if _, err := newExternal(cfg, time.Now); !arm.IsCode(err, arm.CodeUsage) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
	gone, err := newExternal(Issuer{URL: "https://127.0.0.1:1", Audiences: []string{"a"}}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gone.verify(context.Background(), "x"); !Unauthenticated(err) {
		t.Errorf("an issuer that is away: %v", err)
	}
}
