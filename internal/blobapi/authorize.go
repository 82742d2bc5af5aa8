package blobapi

import (
	"net/http"
	"net/url"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/authorization"
	"goldsmith/internal/blob"
	"goldsmith/internal/blob/account"
	"goldsmith/internal/blob/signature"
	"goldsmith/internal/identity"
)

// Actions of the Blob service.
const (
	actionsBlob      = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/"
	actionsContainer = "Microsoft.Storage/storageAccounts/blobServices/containers/"
	actionsService   = "Microsoft.Storage/storageAccounts/blobServices/"
)

// need is what an operation requires of its caller, by each way to sign in.
type need struct {
	letters string // of a signature, one of which suffices
	kind    byte   // resource type that an account signature must cover
	action  string // of a role
	data    bool   // whether it is a data action
	public  bool   // public access to a container suffices; to its list only AccessContainer
	create  bool   // the right to create suffices where nothing is replaced
}

// principal is who a request is from; one of its fields is set.
type principal struct {
	anonymous bool
	key       bool // whoever has an account key has every right
	grant     *signature.Grant
	caller    *identity.Caller
}

// authenticate finds who the request is from. Its signature, if it has one, is
// removed from query.
func (c *call) authenticate(t target, query url.Values) (principal, error) {
	authorization := c.header("Authorization")
	scheme, _, _ := strings.Cut(authorization, " ")
	switch {
	case authorization == "" && signature.IsSAS(query):
		return c.signed(c.account, t, query)
	case authorization == "":
		return principal{anonymous: true}, nil
	case strings.EqualFold(scheme, "Bearer"):
		return c.bearer(c.r)
	case signature.IsSharedKey(c.r.Header):
		if !c.account.SharedKey {
			return principal{}, fail(codeKeyNotPermitted, "the account has allowSharedKeyAccess set to false")
		}
		var keys [][]byte
		for _, k := range c.account.Secrets.Keys {
			keys = append(keys, k.Value)
		}
		r := signature.Request{Method: c.r.Method, Path: t.path, Query: c.query, Header: c.r.Header, ContentLength: c.r.ContentLength}
		if err := signature.VerifySharedKey(t.account, keys, r, c.now()); err != nil {
			return principal{}, err
		}
		return principal{key: true}, nil
	}
	return principal{}, fail(signature.CodeAuthenticationFailed, "the authorization scheme %.20q is not one of Bearer, SharedKey and SharedKeyLite", scheme)
}

// signed is the principal of a shared access signature for t in account a.
func (c *call) signed(a account.Account, t target, query url.Values) (principal, error) {
	what := signature.Resource{Account: t.account, Container: t.container, Blob: t.blob}
	grant, err := c.verifier(a, t.container).Verify(query, what)
	if err != nil {
		return principal{}, err
	}
	signature.StripSAS(query)
	return principal{grant: &grant}, nil
}

func (c *call) bearer(r *http.Request) (principal, error) {
	caller, err := c.cfg.Authenticate.Authenticate(c.ctx(), r)
	if err != nil {
		return principal{}, fail(codeInvalidToken, "%w", err)
	}
	return principal{caller: &caller}, nil
}

// authorize says why who may not do what n describes to t.
func (c *call) authorize(who principal, t target, n need) error {
	a := c.account
	if t.account != a.Name {
		return fail(codeInternalServerError, "the account is another one")
	}
	switch {
	case who.key:
		return nil
	case who.grant != nil:
		if err := who.grant.Allows(n.letters, n.kind); err != nil {
			return err
		}
		c.newOnly = c.newOnly || n.create && who.grant.Allows("w", n.kind) != nil
		if who.grant.Kind != signature.DelegationSAS {
			return nil
		}
		return c.role(identity.Caller{ObjectID: who.grant.ObjectID, TenantID: who.grant.TenantID}, a, t, n)
	case who.caller != nil:
		return c.role(*who.caller, a, t, n)
	}
	return c.public(a, t, n)
}

// role asks whether a caller has the right by a role.
func (c *call) role(caller identity.Caller, a account.Account, t target, n need) error {
	scope := a.ID
	if t.container != "" {
		scope = a.ContainerID(t.container)
	}
	ask := authorization.Request{
		Principal: caller.ObjectID, Groups: caller.Groups, Action: n.action, Data: n.data, Scope: scope, Why: c.r.Method + " " + t.level(),
	}
	d, err := c.cfg.Authorize.Check(c.ctx(), ask)
	if err == nil && !d.Allowed && n.create {
		ask.Action = actionsBlob + "add/action"
		d, err = c.cfg.Authorize.Check(c.ctx(), ask)
		c.newOnly = c.newOnly || d.Allowed
	}
	if err != nil {
		return err
	}
	if !d.Allowed {
		kind := "action"
		if n.data {
			kind = "data action"
		}
		return fail(signature.CodePermissionMismatch, "the principal %s has no role with the %s %s at %s", caller.ObjectID, kind, n.action, scope)
	}
	return nil
}

// public says why not anybody may do it.
func (c *call) public(a account.Account, t target, n need) error {
	if !n.public || !a.Public {
		return fail(codePublicNotPermitted, "the request carries no token, key or signature")
	}
	info, err := c.cfg.Blobs.Container(c.ctx(), a.Name, t.container)
	if err != nil && !arm.IsCode(err, arm.CodeNotFound) {
		return err
	}
	if err == nil && (info.Access == blob.AccessContainer || info.Access == blob.AccessBlob && t.blob != "") {
		return nil
	}
	return fail(codePublicNotPermitted, "the container is private, and the request carries no token, key or signature")
}
