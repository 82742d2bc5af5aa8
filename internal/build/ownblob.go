package build

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/authorization"
	"goldsmith/internal/blob"
	"goldsmith/internal/blob/account"
	"goldsmith/internal/blob/signature"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/network/imds"
	"goldsmith/internal/rbac"
)

// BlobAuthorizer decides whether a template's identity may read a blob;
// authorization.Authorizer is one.
type BlobAuthorizer interface {
	Check(ctx context.Context, r authorization.Request) (rbac.Decision, error)
}

// Equip gives the engine what a service has: Config's BlobSuffix, BlobAccess and
// Tokens. It is called before Serve.
func (e *Engine) Equip(blobSuffix string, access BlobAuthorizer, tokens imds.Tokens) {
	e.cfg.BlobSuffix, e.cfg.BlobAccess, e.cfg.Tokens = blobSuffix, access, tokens
}

// readBlobs is the data action that reading a script or file needs.
const readBlobs = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read"

// OwnBlob is the blob that a URI names in a storage account of this data
// directory, whatever its query. ok is false for any other address: an account
// that is not here is somebody else's.
func (e *Engine) OwnBlob(ctx context.Context, uri string) (n blob.Name, ok bool, err error) {
	for _, suffix := range e.blobSuffixes() {
		n, err := blob.ParseURI(suffix, uri)
		if err != nil {
			continue
		}
		if ok, err := e.blobs.HasAccount(ctx, n.Account); ok || err != nil {
			return n, ok, err
		}
	}
	return blob.Name{}, false, nil
}

// blobSuffixes are the domains under which this data directory's accounts are
// addressed: the public cloud's, which templates name, and the service's own.
func (e *Engine) blobSuffixes() []string {
	if e.cfg.BlobSuffix == "" || e.cfg.BlobSuffix == blobSuffix {
		return []string{blobSuffix}
	}
	return []string{e.cfg.BlobSuffix, blobSuffix}
}

// ownBlobs opens the blobs of this data directory that a template names: it is
// artifact.Freezer's Own. They are read here, at submission, and never again.
func (e *Engine) ownBlobs(t *imagetemplate.Template) func(ctx context.Context, uri string) (io.ReadCloser, error) {
	return func(ctx context.Context, uri string) (io.ReadCloser, error) {
		n, ok, err := e.OwnBlob(ctx, uri)
		if !ok || err != nil {
			return nil, err
		}
		if err := e.mayRead(ctx, t, n, uri); err != nil {
			return nil, err
		}
		r, _, err := e.blobs.Open(ctx, n, 0, -1)
		if arm.IsCode(err, arm.CodeNotFound) {
			return nil, arm.Errorf(arm.CodeFetchFailed, "the blob does not exist: put it there, or correct the address").At(address(uri))
		}
		return r, err
	}
}

// mayRead says why a template may not read a blob: its address carries no valid
// signature, the container is not open to anybody, and the identity of the
// template has no right.
func (e *Engine) mayRead(ctx context.Context, t *imagetemplate.Template, n blob.Name, uri string) error {
	u, err := url.Parse(uri)
	if err != nil {
		return err
	}
	a, err := e.accounts.Find(ctx, n.Account)
	if err != nil {
		return err
	}
	if q := u.Query(); signature.IsSAS(q) {
		return e.maySigned(ctx, a, n, q)
	}
	info, err := e.blobs.Container(ctx, n.Account, n.Container)
	if err != nil && !arm.IsCode(err, arm.CodeNotFound) {
		return err
	}
	if e.cfg.BlobAccess == nil || err == nil && a.Public && info.Access != blob.AccessNone {
		return nil
	}
	if t.Identity == nil || len(t.Identity.UserAssigned) == 0 {
		return notAuthorized(uri, "the container is private and the template has no identity to read it with")
	}
	identity := t.Identity.UserAssigned[0]
	who, err := e.managedIdentity(ctx, identity)
	if arm.IsCode(err, arm.CodeNotFound) {
		return notAuthorized(uri, fmt.Sprintf("the template's identity %s does not exist", identity))
	}
	if err != nil {
		return err
	}
	return e.mayRole(ctx, who.PrincipalID, a.ContainerID(n.Container), uri)
}

// maySigned says why a shared access signature does not let the blob be read.
func (e *Engine) maySigned(ctx context.Context, a account.Account, n blob.Name, q url.Values) error {
	v := signature.Verifier{Secrets: a.Secrets, SharedKey: a.SharedKey, Now: time.Now(), TLS: true, Policy: e.blobPolicy(ctx, n)}
	grant, err := v.Verify(q, signature.Resource{Account: n.Account, Container: n.Container, Blob: n.Blob})
	if err == nil {
		err = grant.Allows("r", 'o')
	}
	uri := n.URI(blobSuffix)
	if err != nil {
		return notAuthorized(uri, err.Error())
	}
	if grant.Kind == signature.DelegationSAS && e.cfg.BlobAccess != nil {
		return e.mayRole(ctx, grant.ObjectID, a.ContainerID(n.Container), uri)
	}
	return nil
}

// blobPolicy finds the stored access policies of n's container.
func (e *Engine) blobPolicy(ctx context.Context, n blob.Name) func(name string) (signature.Policy, bool) {
	return func(name string) (signature.Policy, bool) {
		info, err := e.blobs.Container(ctx, n.Account, n.Container)
		if err != nil {
			return signature.Policy{}, false
		}
		for _, p := range info.Policies {
			if p.ID == name {
				return signature.Policy{Start: p.Start, Expiry: p.Expiry, Permission: p.Permission}, true
			}
		}
		return signature.Policy{}, false
	}
}

// mayRole says that a principal has no role to read blobs at scope.
func (e *Engine) mayRole(ctx context.Context, principal, scope, uri string) error {
	d, err := e.cfg.BlobAccess.Check(ctx, authorization.Request{Principal: principal, Action: readBlobs, Scope: scope, Data: true, Why: "read " + address(uri)})
	if err != nil {
		return err
	}
	if !d.Allowed {
		return notAuthorized(uri, fmt.Sprintf("the principal %s lacks the data action %s at %s; assign it the role \"Storage Blob Data Reader\" there", principal, readBlobs, scope))
	}
	return nil
}

// notAuthorized is the real service's refusal, with the cause behind it.
func notAuthorized(uri, cause string) error {
	at := address(uri)
	return arm.Errorf(arm.CodeUnauthorized, "Not authorized to access the resource: %s. Please check the user assigned identity has the correct permissions. "+
		"For more details, go to https://aka.ms/azvmimagebuilderts. cause: %s", at, cause).At(at)
}

// address is a URI without what may be secret in it.
func address(uri string) string {
	uri, _, _ = strings.Cut(uri, "?")
	return uri
}

// managed is what a managed identity is known by.
type managed struct {
	PrincipalID string `json:"principalId"`
	ClientID    string `json:"clientId"`
}

// managedIdentity looks a user-assigned identity up; CodeNotFound.
func (e *Engine) managedIdentity(ctx context.Context, id string) (managed, error) {
	var m managed
	rec, err := e.resources.Get(ctx, id)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(rec.Properties, &m); err != nil || m.PrincipalID == "" {
		return m, arm.Errorf(arm.CodeCorrupt, "the managed identity has no principal").At(id)
	}
	return m, nil
}
