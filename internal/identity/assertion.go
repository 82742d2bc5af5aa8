package identity

import (
	"crypto/x509"
	"net/http"
	"strings"

	"goldsmith/internal/arm"
)

// checkAssertion checks a signed statement in place of a secret: signed by the
// key of one of p's certificates, or by an external issuer for a subject that is
// p. It returns the credential it rests on, "" for an external issuer.
func (s *Service) checkAssertion(r *http.Request, p Principal, assertion string) (credential string, err error) {
	t, c, err := parse(assertion, assertionAlgorithms)
	if err != nil {
		return "", err
	}
	if strings.EqualFold(c.Issuer, p.App) {
		for _, known := range p.Credentials {
			if known.Certificate == nil || !s.now().Before(known.ExpiresAt) {
				continue
			}
			cert, err := x509.ParseCertificate(known.Certificate)
			if err != nil {
				return "", arm.Errorf(arm.CodeCorrupt, "a certificate of %s does not parse: %w", p.Name, err)
			}
			var signed claims
			if t.Claims(cert.PublicKey, &signed) != nil {
				continue
			}
			return known.ID, s.checkOwnAssertion(signed, p)
		}
		return "", arm.Errorf(codeInvalidToken, "it is not signed by the key of a certificate of the application")
	}
	for _, e := range s.external {
		if e.cfg.URL != c.Issuer {
			continue
		}
		token, err := e.verify(r.Context(), assertion, tokenExchange)
		if err != nil {
			return "", err
		}
		for _, f := range p.Federated {
			if f.Issuer == token.Issuer && f.Subject == token.Subject {
				return "", nil
			}
		}
		return "", arm.Errorf(codeInvalidToken, "the subject %q of %s is not a credential of the application", token.Subject, token.Issuer)
	}
	return "", arm.Errorf(codeInvalidToken, "the issuer %q is neither the application nor a configured one", c.Issuer)
}

// tokenExchange is the audience of tokens that are made to be exchanged here.
const tokenExchange = "api://AzureADTokenExchange"

func (s *Service) checkOwnAssertion(c claims, p Principal) error {
	if !strings.EqualFold(c.Subject, p.App) {
		return arm.Errorf(codeInvalidToken, "its subject is not the application")
	}
	for _, a := range c.Audience {
		if strings.HasPrefix(audienceOf(a), audienceOf(s.cfg.BaseURL)+"/") {
			return checkTimes(c, s.now())
		}
	}
	return arm.Errorf(codeWrongAudience, "its audience is not a token endpoint of this service")
}
