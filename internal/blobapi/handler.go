// Package blobapi serves storage accounts over the subset of the Blob service's
// REST protocol that the az CLI and the Azure SDKs use: bearer tokens under RBAC,
// account keys, shared access signatures and public containers.
package blobapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
	"goldsmith/internal/authorization"
	"goldsmith/internal/blob"
	"goldsmith/internal/blob/account"
	"goldsmith/internal/blob/signature"
	"goldsmith/internal/identity"
	"goldsmith/internal/rbac"
)

// Audience is what bearer tokens for the Blob service are issued for.
const Audience = "https://storage.azure.com"

// Authenticator checks the bearer token of a request, which must be issued for
// Audience; identity.Service.Storage is one. Every error is a refusal.
type Authenticator interface {
	Authenticate(ctx context.Context, r *http.Request) (identity.Caller, error)
}

// Authorizer decides whether a principal has a right, and keeps a record of the
// decision; authorization.Authorizer is one.
type Authorizer interface {
	Check(ctx context.Context, r authorization.Request) (rbac.Decision, error)
	// Record keeps a decision that no role made.
	Record(ctx context.Context, r authorization.Request, d rbac.Decision) error
}

// Config configures a Handler. All but Log is needed.
type Config struct {
	Blobs        *blob.Accounts
	Accounts     *account.Directory
	Authenticate Authenticator
	Authorize    Authorizer
	// Suffix ends the host of every account, ACCOUNT.blob.SUFFIX, without a port.
	Suffix string
	// Login is the authority that a client without a token is sent to.
	Login string
	// Log hears of faults of this program; nil drops them.
	Log *slog.Logger
}

// Handler serves the accounts. It is safe for concurrent use and has no
// goroutines of its own.
type Handler struct {
	cfg Config
	now func() time.Time
}

// New makes a Handler.
func New(cfg Config) *Handler {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	cfg.Suffix = strings.ToLower(cfg.Suffix)
	return &Handler{cfg: cfg, now: time.Now}
}

// newestVersion is answered to clients that say no version.
const newestVersion = "2024-11-04"

// call is one request on its way.
type call struct {
	*Handler
	w       http.ResponseWriter
	r       *http.Request
	query   url.Values
	target  target
	account account.Account
	who     principal
	newOnly bool // the caller may create, and replace nothing
}

func (c *call) ctx() context.Context { return c.r.Context() }

func (c *call) name() blob.Name {
	return blob.Name{Account: c.target.account, Container: c.target.container, Blob: c.target.blob}
}

func (c *call) header(name string) string { return c.r.Header.Get(name) }

// set sets an answer's header unless value is "".
func (c *call) set(name, value string) {
	if value != "" {
		c.w.Header().Set(name, value)
	}
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := &call{Handler: h, w: w, r: r}
	id := uuid.NewString()
	c.set("x-ms-request-id", id)
	c.set("Server", "Windows-Azure-Blob/1.0 Microsoft-HTTPAPI/2.0") // clients tell services by it
	if v := c.header("x-ms-client-request-id"); len(v) <= 1024 {
		c.set("x-ms-client-request-id", v)
	}
	if err := c.serve(); err != nil {
		c.fail(id, err)
	}
}

func (c *call) serve() error {
	version := c.header("x-ms-version")
	if version == "" {
		version = newestVersion
	}
	if _, err := time.Parse(time.DateOnly, version); err != nil {
		return fail(codeInvalidHeader, "x-ms-version: %.20q is not a version", version)
	}
	c.set("x-ms-version", version)
	var err error
	if c.query, err = url.ParseQuery(c.r.URL.RawQuery); err != nil {
		return fail(codeInvalidQuery, "the query does not parse")
	}
	if c.target, err = c.locate(c.r.Host, c.r.URL); err != nil {
		return err
	}
	op, err := operationOf(c.r.Method, c.target, c.query, c.r.Header)
	if err != nil {
		return err
	}
	if c.account, err = c.find(c.target.account); err != nil {
		return err
	}
	if c.who, err = c.authenticate(c.target, c.query); err != nil {
		return err
	}
	if err := c.authorize(c.who, c.target, op.need); err != nil {
		return err
	}
	return op.run(c)
}

// find is the account called name, in the control plane and on the disk.
func (c *call) find(name string) (account.Account, error) {
	ok, err := c.cfg.Blobs.HasAccount(c.ctx(), name)
	if err != nil {
		return account.Account{}, err
	}
	if !ok {
		return account.Account{}, missing("there is no storage account " + name)
	}
	a, err := c.cfg.Accounts.Find(c.ctx(), name)
	if arm.IsCode(err, arm.CodeNotFound) {
		return account.Account{}, missing("there is no storage account " + name)
	}
	return a, err
}

// client is the address that the request came from.
func (c *call) client() netip.Addr {
	at, err := netip.ParseAddrPort(c.r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}

// verifier checks signatures for resources of a.
func (c *call) verifier(a account.Account, container string) signature.Verifier {
	return signature.Verifier{
		Secrets: a.Secrets, SharedKey: a.SharedKey, Now: c.now(), Client: c.client(), TLS: c.r.TLS != nil,
		Policy: func(name string) (signature.Policy, bool) {
			info, err := c.cfg.Blobs.Container(c.ctx(), a.Name, container)
			if err != nil {
				return signature.Policy{}, false
			}
			for _, p := range info.Policies {
				if p.ID == name {
					return signature.Policy{Start: p.Start, Expiry: p.Expiry, Permission: p.Permission}, true
				}
			}
			return signature.Policy{}, false
		},
	}
}

// isNotFound reports whether err says that a blob or container is not there.
func isNotFound(err error) bool { return errors.Is(err, &arm.Error{Code: arm.CodeNotFound}) }
