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
	"goldsmith/internal/rbac"
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
	key       string // name of the account key: whoever has one has every right
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
		all := c.account.Secrets.Keys
		var keys [][]byte
		for _, k := range all {
			keys = append(keys, k.Value)
		}
		r := signature.Request{Method: c.r.Method, Path: t.path, Query: c.query, Header: c.r.Header, ContentLength: c.r.ContentLength}
		i, err := signature.VerifySharedKey(t.account, keys, r, c.now())
		if err != nil {
			return principal{}, err
		}
		return principal{key: all[i].Name}, nil
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
	case who.key != "":
		return c.record(who.key, "account key", t, n, nil)
	case who.grant != nil:
		err := who.grant.Allows(n.letters, n.kind)
		if who.grant.Kind != signature.DelegationSAS {
			err = c.record(who.grant.Key, who.grant.Kind.String(), t, n, err)
		}
		if err != nil {
			return err
		}
		c.newOnly = c.newOnly || n.create && who.grant.Allows("w", n.kind) != nil
		if who.grant.Kind != signature.DelegationSAS {
			return nil
		}
		return c.role(identity.Caller{ObjectID: who.grant.ObjectID, TenantID: who.grant.TenantID}, t, n, ", "+who.grant.Kind.String())
	case who.caller != nil:
		return c.role(*who.caller, t, n, "")
	}
	return c.public(a, t, n)
}

// question asks for what n describes, in the words of roles.
func (c *call) question(t target, n need) authorization.Request {
	scope := c.account.ID
	if t.container != "" {
		scope = c.account.ContainerID(t.container)
	}
	return authorization.Request{Action: n.action, Data: n.data, Scope: scope, Why: c.r.Method + " " + t.level()}
}

// record keeps in the audit what somebody may do who is no principal: whoever has
// one of the account's keys or a signature that was made with it, or anybody;
// refusal is why not. The key is named, and nothing of it or of a signature is kept.
func (c *call) record(key, by string, t target, n need, refusal error) error {
	made := c.question(t, n)
	made.Principal, made.Why = c.account.Name+"/"+key, made.Why+", "+by
	d := rbac.Decision{Allowed: refusal == nil}
	if d.Allowed {
		d.Role = by
	}
	if err := c.cfg.Authorize.Record(c.ctx(), made, d); err != nil {
		return err
	}
	return refusal
}

// role asks whether a caller has the right by a role. by is said in the audit.
func (c *call) role(caller identity.Caller, t target, n need, by string) error {
	ask := c.question(t, n)
	ask.Principal, ask.Groups, ask.Why = caller.ObjectID, caller.Groups, ask.Why+by
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
		return fail(signature.CodePermissionMismatch, "the principal %s has no role with the %s %s at %s", caller.ObjectID, kind, n.action, ask.Scope)
	}
	return nil
}

// public says why not anybody may do it. Refusals are not kept: whoever needs no
// name could fill the audit with them.
func (c *call) public(a account.Account, t target, n need) error {
	if !n.public || !a.Public {
		return fail(codePublicNotPermitted, "the request carries no token, key or signature")
	}
	info, err := c.cfg.Blobs.Container(c.ctx(), a.Name, t.container)
	if err != nil && !arm.IsCode(err, arm.CodeNotFound) {
		return err
	}
	if err == nil && (info.Access == blob.AccessContainer || info.Access == blob.AccessBlob && t.blob != "") {
		return c.record("anonymous", "public access", t, n, nil)
	}
	return fail(codePublicNotPermitted, "the container is private, and the request carries no token, key or signature")
}
