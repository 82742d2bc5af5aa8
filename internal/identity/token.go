package identity

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/uuid"

	"goldsmith/internal/arm"
)

// Lifetimes of tokens, and how far clocks may differ.
const (
	accessLifetime  = time.Hour
	refreshLifetime = 24 * time.Hour
	clockSkew       = time.Minute
	maxTokenBytes   = 16 << 10
)

// Codes of refused tokens, as Azure Resource Manager has them.
const (
	codeMissingToken  arm.Code = "AuthenticationFailed"
	codeInvalidToken  arm.Code = "InvalidAuthenticationToken"
	codeExpiredToken  arm.Code = "ExpiredAuthenticationToken"
	codeWrongAudience arm.Code = "InvalidAuthenticationTokenAudience"
	codeWrongTenant   arm.Code = "InvalidAuthenticationTokenTenant"
)

// claims are what a token of this tenant says.
type claims struct {
	jwt.Claims
	Tenant     string `json:"tid"`
	Object     string `json:"oid"`
	App        string `json:"appid,omitempty"`
	Name       string `json:"app_displayname,omitempty"`
	Version    string `json:"ver"`
	Use        string `json:"goldsmith_use,omitempty"` // "refresh" for a refresh token
	Credential string `json:"goldsmith_cid,omitempty"` // the credential that a refresh token depends on
}

// issue makes a token for p. A refresh token has use "refresh".
func (s *Service) issue(ctx context.Context, p Principal, audience, credential, use string, lifetime time.Duration) (string, error) {
	key, err := s.keys.signer(ctx)
	if err != nil {
		return "", err
	}
	now := s.now()
	token, err := jwt.Signed(key.signer).Claims(claims{
		Claims: jwt.Claims{
			Issuer: s.issuer(), Subject: p.ID, Audience: jwt.Audience{audience}, ID: uuid.NewString(),
			IssuedAt: jwt.NewNumericDate(now), NotBefore: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(lifetime)),
		},
		Tenant: s.cfg.Tenant, Object: p.ID, App: p.App, Name: p.Name, Version: "1.0", Use: use, Credential: credential,
	}).Serialize()
	if err != nil {
		return "", arm.Errorf(arm.CodeInternal, "sign a token: %w", err)
	}
	return token, nil
}

// parse reads the compact form of a token. It is the first to see hostile input.
func parse(raw string, algorithms []jose.SignatureAlgorithm) (*jwt.JSONWebToken, claims, error) {
	var c claims
	if len(raw) > maxTokenBytes {
		return nil, c, arm.Errorf(codeInvalidToken, "the access token is invalid: it has more than %d bytes", maxTokenBytes)
	}
	t, err := jwt.ParseSigned(raw, algorithms)
	if err != nil {
		return nil, c, arm.Errorf(codeInvalidToken, "the access token is invalid: %w", err)
	}
	if len(t.Headers) != 1 {
		return nil, c, arm.Errorf(codeInvalidToken, "the access token is invalid: it has %d signatures", len(t.Headers))
	}
	if err := t.UnsafeClaimsWithoutVerification(&c); err != nil {
		return nil, c, arm.Errorf(codeInvalidToken, "the access token is invalid: %w", err)
	}
	return t, c, nil
}

// verify checks a token that this tenant signed: one algorithm, a key of the
// ring, issuer, tenant and time. Whom it was made for is the caller's to check.
func (s *Service) verify(raw string) (claims, error) {
	t, c, err := parse(raw, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return c, err
	}
	key, ok := s.keys.public(t.Headers[0].KeyID)
	if !ok {
		return c, arm.Errorf(codeInvalidToken, "the access token is invalid: it is not signed by a key of this tenant")
	}
	c = claims{}
	if err := t.Claims(key, &c); err != nil {
		return c, arm.Errorf(codeInvalidToken, "the access token is invalid: its signature does not match")
	}
	if c.Tenant != s.cfg.Tenant || c.Issuer != s.issuer() {
		return c, arm.Errorf(codeWrongTenant, "the access token is from the wrong issuer %q: it must be %q", c.Issuer, s.issuer())
	}
	return c, checkTimes(c, s.now())
}

func checkTimes(c claims, now time.Time) error {
	if c.Expiry == nil {
		return arm.Errorf(codeInvalidToken, "the access token is invalid: it never expires")
	}
	if now.After(c.Expiry.Time().Add(clockSkew)) {
		return arm.Errorf(codeExpiredToken, "the access token has expired at %s; now it is %s",
			c.Expiry.Time().UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if c.NotBefore != nil && now.Add(clockSkew).Before(c.NotBefore.Time()) {
		return arm.Errorf(codeInvalidToken, "the access token is invalid: it is not valid yet")
	}
	return nil
}

// audienceOf is an audience in the form that audiences are compared in: lower
// case, no slashes at its end.
func audienceOf(s string) string { return strings.TrimRight(strings.ToLower(s), "/") }

// requested is the audience that a token request asks for: the first scope that
// names one, else the resource, else this service.
func (s *Service) requested(scope, resource string) string {
	for one := range strings.FieldsSeq(scope) {
		if slices.Contains([]string{"openid", "profile", "email", "offline_access"}, one) {
			continue
		}
		return strings.TrimRight(strings.TrimSuffix(one, "/.default"), "/")
	}
	if resource != "" {
		return strings.TrimRight(resource, "/")
	}
	return s.cfg.BaseURL
}
