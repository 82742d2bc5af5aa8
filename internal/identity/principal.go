package identity

import (
	"crypto/sha256"
	"crypto/x509"
	"strings"
	"time"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
)

// Kind is what a principal is, in the words of role assignments.
type Kind string

// The kinds of principal.
const (
	ServicePrincipal Kind = "ServicePrincipal"
	User             Kind = "User"
	Group            Kind = "Group"
)

// Principal is somebody who can hold roles.
type Principal struct {
	ID   string `json:"id"`              // object id, a lower-case GUID
	Kind Kind   `json:"kind"`            //
	Name string `json:"name"`            // display name, unique in the tenant regardless of case
	App  string `json:"appId,omitempty"` // application (client) id of a service principal
	UPN  string `json:"userPrincipalName,omitempty"`
	// Groups are the object ids of the groups that it is in, by another group too.
	// They are kept apart from it: managed identities have no document.
	Groups []string `json:"-"`
	// Credentials are what a service principal signs in with.
	Credentials []Credential `json:"credentials,omitempty"`
	// Federated are the subjects of external issuers that are this principal.
	Federated []Subject `json:"federated,omitempty"`
	CreatedAt time.Time `json:"createdAt"`
	// Origin says where a principal comes from that is not kept as a document:
	// "built-in", or the id of a managed identity.
	Origin string `json:"-"`
}

// Subject is a subject of an external issuer.
type Subject struct {
	Issuer  string `json:"issuer"`
	Subject string `json:"subject"`
}

// Credential is a secret, of which only a salted digest is kept, or a
// certificate whose key signs assertions.
type Credential struct {
	ID          string    `json:"id"`
	Salt        []byte    `json:"salt,omitempty"`
	Digest      []byte    `json:"digest,omitempty"`
	Certificate []byte    `json:"certificate,omitempty"` // DER
	CreatedAt   time.Time `json:"createdAt"`
	ExpiresAt   time.Time `json:"expiresAt"`
}

// check says why a principal cannot be stored.
func (p Principal) check() error {
	bad := func(format string, args ...any) error { return arm.Errorf(arm.CodeValidationFailed, format, args...) }
	if _, err := uuid.Parse(p.ID); err != nil {
		return bad("the object id %q is not a GUID", p.ID)
	}
	if p.Name == "" || len(p.Name) > 120 || strings.ContainsFunc(p.Name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return bad("a principal's name has 1 to 120 printable characters")
	}
	switch p.Kind {
	case ServicePrincipal:
		if _, err := uuid.Parse(p.App); err != nil {
			return bad("the application id %q is not a GUID", p.App)
		}
	case User, Group:
		if p.App != "" || len(p.Credentials) > 0 {
			return bad("only a service principal has an application id and credentials")
		}
	default:
		return bad("a principal is a %s, %s or %s, not %q", ServicePrincipal, User, Group, p.Kind)
	}
	for _, c := range p.Credentials {
		if c.Certificate != nil {
			if _, err := x509.ParseCertificate(c.Certificate); err != nil {
				return bad("the certificate does not parse: %w", err)
			}
		}
	}
	return nil
}

// is reports whether the principal goes by ref: its object id, application id,
// name, user name, or the resource id of its managed identity.
func (p Principal) is(ref string) bool {
	for _, s := range []string{p.ID, p.App, p.Name, p.UPN, p.Origin} {
		if s != "" && strings.EqualFold(s, ref) {
			return true
		}
	}
	return false
}

// digestSecret is what is kept of a secret. Secrets are made here and have 256
// random bits, so that one round is enough.
func digestSecret(salt []byte, secret string) []byte {
	h := sha256.New()
	h.Write(salt)
	h.Write([]byte(secret))
	return h.Sum(nil)
}
