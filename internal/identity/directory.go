package identity

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
	"goldsmith/internal/document"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
)

// DefaultSecretLifetime is how long a new secret or certificate can be used.
const DefaultSecretLifetime = 365 * 24 * time.Hour

// Directory is the tenant's principals: those kept as documents, the managed
// identities among the resources, and the image builder of Azure's own
// directory. Any number of processes may use one database at the same time.
type Directory struct {
	Principals  document.Store
	Memberships document.Store // who is in which group; see rbac.Membership
	Resources   resource.Store
	Now         func() time.Time // nil is time.Now
}

func (d *Directory) now() time.Time {
	if d.Now == nil {
		return time.Now().UTC()
	}
	return d.Now().UTC()
}

// builder is the service principal that image templates of 2019 grant roles to.
func builder() Principal {
	return Principal{ID: rbac.BuilderObject, Kind: ServicePrincipal, App: rbac.BuilderApp, Name: rbac.BuilderName, Origin: "built-in"}
}

// List returns all principals, ordered by name.
func (d *Directory) List(ctx context.Context) ([]Principal, error) {
	records, err := d.Principals.List(ctx, "")
	if err != nil {
		return nil, err
	}
	out := []Principal{builder()}
	for _, r := range records {
		p, err := decode(r)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	managed, err := d.managed(ctx)
	if err != nil {
		return nil, err
	}
	out = append(out, managed...)
	members, err := d.memberships(ctx)
	if err != nil {
		return nil, err
	}
	groups := rbac.GroupsOf(members)
	for i := range out {
		out[i].Groups = groups[out[i].ID]
	}
	slices.SortStableFunc(out, func(a, b Principal) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	return out, nil
}

// managed are the service principals of managed identities.
func (d *Directory) managed(ctx context.Context) ([]Principal, error) {
	records, _, err := d.Resources.List(ctx, resource.Query{Scope: "", Type: "Microsoft.ManagedIdentity/userAssignedIdentities"})
	if err != nil {
		return nil, err
	}
	var out []Principal
	for _, r := range records {
		var p struct {
			PrincipalID string `json:"principalId"`
			ClientID    string `json:"clientId"`
		}
		if err := json.Unmarshal(r.Properties, &p); err != nil || p.PrincipalID == "" {
			continue // not made by the service that makes identities: nobody can sign in with it
		}
		out = append(out, Principal{
			ID: strings.ToLower(p.PrincipalID), Kind: ServicePrincipal, App: p.ClientID, Name: r.Name, CreatedAt: r.CreatedAt, Origin: r.ID,
		})
	}
	return out, nil
}

// Get returns the principal with an object id that is kept as a document.
func (d *Directory) Get(ctx context.Context, id string) (Principal, error) {
	r, err := d.Principals.Get(ctx, strings.ToLower(id))
	if err != nil {
		return Principal{}, err
	}
	p, err := decode(r)
	if err != nil {
		return p, err
	}
	p.Groups, err = d.groupsOf(ctx, p.ID)
	return p, err
}

// Find returns the principal that goes by ref: an object id, an application id,
// a name, a user name, or the id of a managed identity. The error is CodeNotFound.
func (d *Directory) Find(ctx context.Context, ref string) (Principal, error) {
	all, err := d.List(ctx)
	if err != nil {
		return Principal{}, err
	}
	if i := slices.IndexFunc(all, func(p Principal) bool { return ref != "" && p.is(ref) }); i >= 0 {
		return all[i], nil
	}
	return Principal{}, arm.Errorf(arm.CodeNotFound, "there is no principal %q; see goldsmith principal list", ref)
}

// Create adds a principal, fills in its ids, puts it into its groups, and returns
// it as stored. The name must be new: CodeConflict otherwise.
func (d *Directory) Create(ctx context.Context, p Principal) (Principal, error) {
	if p.ID == "" {
		p.ID = uuid.NewString()
	}
	if p.App == "" && p.Kind == ServicePrincipal {
		p.App = uuid.NewString()
	}
	p.ID, p.App, p.CreatedAt = strings.ToLower(p.ID), strings.ToLower(p.App), d.now()
	if err := p.check(); err != nil {
		return Principal{}, err
	}
	all, err := d.List(ctx)
	if err != nil {
		return Principal{}, err
	}
	for _, other := range all {
		if other.is(p.Name) || other.is(p.ID) || p.App != "" && other.is(p.App) || p.UPN != "" && other.is(p.UPN) {
			return Principal{}, arm.Errorf(arm.CodeConflict, "the principal %s (%s) has that name or id already", other.Name, other.ID)
		}
		for _, f := range p.Federated {
			if slices.Contains(other.Federated, f) {
				return Principal{}, arm.Errorf(arm.CodeConflict, "the subject %q of %s is the principal %s already", f.Subject, f.Issuer, other.Name)
			}
		}
	}
	if err := d.put(ctx, p, document.Condition{IfNoneMatch: true}); err != nil {
		return p, err
	}
	for _, g := range p.Groups {
		if err := d.AddMember(ctx, g, p.ID); err != nil {
			return p, err
		}
	}
	return p, nil
}

// Delete removes a principal: its tokens are worth nothing from then on. Members
// of a deleted group leave it.
func (d *Directory) Delete(ctx context.Context, id string) error {
	p, err := d.Get(ctx, id)
	if err != nil {
		return err
	}
	if err := d.leave(ctx, p.ID); err != nil {
		return err
	}
	return d.Principals.Delete(ctx, p.ID, document.Condition{})
}

// ResetSecret gives a service principal a new secret, which is returned and
// kept nowhere, in place of all that it had. Its certificates stay.
func (d *Directory) ResetSecret(ctx context.Context, id string, lifetime time.Duration) (secret string, err error) {
	salt, raw := make([]byte, 16), make([]byte, 32)
	_, _ = rand.Read(salt) // never fails
	_, _ = rand.Read(raw)
	secret = base64.RawURLEncoding.EncodeToString(raw)
	now := d.now()
	c := Credential{ID: uuid.NewString(), Salt: salt, Digest: digestSecret(salt, secret), CreatedAt: now, ExpiresAt: now.Add(lifetime)}
	return secret, d.change(ctx, id, func(p *Principal) {
		p.Credentials = append(slices.DeleteFunc(p.Credentials, func(c Credential) bool { return c.Digest != nil }), c)
	})
}

// AddCertificate lets a service principal sign in with assertions signed by the
// key of a certificate.
func (d *Directory) AddCertificate(ctx context.Context, id string, cert *x509.Certificate) error {
	return d.change(ctx, id, func(p *Principal) {
		p.Credentials = append(p.Credentials, Credential{ID: uuid.NewString(), Certificate: cert.Raw, CreatedAt: d.now(), ExpiresAt: cert.NotAfter})
	})
}

// bySecret is the credential of p that secret is; every one is compared, in
// constant time.
func (d *Directory) bySecret(p Principal, secret string) (id string, ok bool) {
	now := d.now()
	for _, c := range p.Credentials {
		if c.Digest == nil {
			continue
		}
		same := subtle.ConstantTimeCompare(digestSecret(c.Salt, secret), c.Digest) == 1
		if same && now.Before(c.ExpiresAt) {
			id, ok = c.ID, true
		}
	}
	return id, ok
}

// change reads a principal, applies f and writes it back.
func (d *Directory) change(ctx context.Context, id string, f func(*Principal)) error {
	for {
		r, err := d.Principals.Get(ctx, strings.ToLower(id))
		if err != nil {
			return err
		}
		p, err := decode(r)
		if err != nil {
			return err
		}
		if f(&p); p.check() != nil {
			return p.check()
		}
		if err = d.put(ctx, p, document.Condition{IfMatch: r.ETag}); !arm.IsCode(err, arm.CodePreconditionFailed) {
			return err
		}
	}
}

func (d *Directory) put(ctx context.Context, p Principal, cond document.Condition) error {
	body, err := json.Marshal(p)
	if err != nil {
		return arm.Errorf(arm.CodeInternal, "encode the principal: %w", err)
	}
	_, err = d.Principals.Put(ctx, p.ID, body, cond)
	return err
}

func decode(r document.Record) (Principal, error) {
	var p Principal
	if err := json.Unmarshal(r.Body, &p); err != nil {
		return p, arm.Errorf(arm.CodeCorrupt, "the principal %s does not decode: %w", r.Key, err)
	}
	return p, nil
}
