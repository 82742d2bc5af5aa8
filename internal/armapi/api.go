// Package armapi is the front door of Azure Resource Manager: routing,
// authentication, authorisation, api-versions, the error envelope, entity tags,
// paging and long-running operations. Resource providers plug into it as values.
//
// Do not put it behind http.ServeMux: that redirects "//", which clients send.
package armapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
	"goldsmith/internal/document"
	"goldsmith/internal/jsontree"
	"goldsmith/internal/resource"
)

// Config is what the front door needs.
type Config struct {
	Subscription string // the GUID of the one subscription
	Tenant       string // the GUID of its tenant
	Resources    resource.Store
	// Documents opens a collection of documents, for long-running operations.
	Documents func(collection string) document.Store
	// Authenticate finds out who sent a request. Its error becomes a 401.
	Authenticate func(context.Context, *http.Request) (Caller, error)
	// Authorize decides whether a caller may do what Access says.
	Authorize func(context.Context, Access) (bool, error)
	Providers []Provider
	// Authority is the address that 401 answers send clients to; "" is
	// https://HOST/TENANT.
	Authority string
	// Log gets one record per request that failed inside, and panics. nil is
	// none.
	Log *slog.Logger
	Now func() time.Time // nil is time.Now
}

// API is the front door. It is an http.Handler. Close it.
type API struct {
	config   Config
	registry *registry
	ops      *operations
}

// New makes the front door. Resume continues the operations of the process
// before; until it is called, they stay as they are.
func New(config Config) (*API, error) {
	if config.Now == nil {
		config.Now = time.Now
	}
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	a := &API{config: config, ops: newOperations(config)}
	var err error
	if a.registry, err = newRegistry(append([]Provider{a.builtin()}, config.Providers...)); err != nil {
		return nil, err
	}
	for _, p := range a.registry.providers {
		if err := a.registry.add(a.everywhere(p.Namespace)); err != nil {
			return nil, err
		}
	}
	a.ops.works = a.registry.works
	return a, nil
}

// Resume starts the works of operations that a process before did not finish.
func (a *API) Resume(ctx context.Context) error { return a.ops.resume(ctx) }

// Close stops the works of operations, which a later Resume continues, and waits
// for them.
func (a *API) Close() { a.ops.close() }

// ServeHTTP implements http.Handler.
func (a *API) ServeHTTP(w http.ResponseWriter, hr *http.Request) {
	x := exchange{api: a, w: w, hr: hr, id: newRequestID(), version: hr.URL.Query().Get("api-version")}
	x.headers()
	defer func() {
		if v := recover(); v != nil {
			if v == http.ErrAbortHandler {
				panic(v)
			}
			a.config.Log.Error("a request ended in a panic", "request", x.id, "method", hr.Method, "path", hr.URL.Path, "panic", v, "stack", string(debug.Stack()))
			x.fail(arm.Errorf(arm.CodeInternal, "an internal error occurred; the service's log has it under the request id %s", x.id))
		}
	}()
	resp, err := x.serve(hr.Context())
	if err == nil {
		if err = write(w, hr.Method, resp, x.route.provider); err == nil || hr.Context().Err() != nil {
			return
		}
	}
	x.fail(err)
}

// newRequestID is a GUID that grows with time: operations are kept under it.
func newRequestID() string { return uuid.Must(uuid.NewV7()).String() }

// exchange is one request and its answer.
type exchange struct {
	api     *API
	w       http.ResponseWriter
	hr      *http.Request
	id      string
	version string
	route   route
}

func (x *exchange) headers() {
	h := x.w.Header()
	h.Set("x-ms-request-id", x.id)
	correlation := x.hr.Header.Get("x-ms-correlation-request-id")
	if uuid.Validate(correlation) != nil {
		correlation = x.id
	}
	h.Set("x-ms-correlation-request-id", correlation)
	h.Set("x-ms-routing-request-id", "LOCAL:"+x.id)
	if id := x.hr.Header.Get("x-ms-client-request-id"); id != "" && len(id) <= 64 && strings.EqualFold(x.hr.Header.Get("x-ms-return-client-request-id"), "true") {
		h.Set("x-ms-client-request-id", id)
	}
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Strict-Transport-Security", "max-age=31536000; includeSubDomains")
}

// serve takes a request through the door: who, what, whether, and then how.
func (x *exchange) serve(ctx context.Context) (Response, error) {
	a := x.api
	t, err := parseTarget(x.hr.URL.EscapedPath())
	if err != nil {
		return Response{}, err
	}
	// The provider decides how errors look, even that of a missing token.
	x.route.provider = a.registry.providers[strings.ToLower(t.namespace)]
	caller, err := a.config.Authenticate(ctx, x.hr)
	if err != nil {
		return Response{}, x.unauthenticated(err)
	}
	return x.admit(ctx, t, caller, false)
}

// admit takes a request of a known caller on: to its handler, or, when it is only
// tried, to where its handler would begin.
func (x *exchange) admit(ctx context.Context, t target, caller Caller, try bool) (Response, error) {
	a := x.api
	var err error
	if err := checkVersion(x.version); err != nil {
		return Response{}, err
	}
	if s := t.subscription(); s != "" && !strings.EqualFold(s, a.config.Subscription) {
		return Response{}, arm.Errorf(codeNoSubscription, "the subscription '%s' could not be found.", clip(s))
	}
	if x.route, err = a.registry.find(x.hr.Method, &t); err != nil {
		return Response{}, err
	}
	r := x.request(t, caller)
	narrow, err := x.authorize(ctx, r, t)
	if err != nil {
		return Response{}, err
	}
	if r.Body, err = x.body(); err != nil {
		return Response{}, err
	}
	if err := a.checkRegistered(ctx, x.hr.Method, x.route, t.namespace); err != nil {
		return Response{}, err
	}
	if narrow {
		ctx = withReader(ctx, r)
	}
	if try {
		return Response{}, nil
	}
	return x.route.handle(ctx, r)
}

// request is what the handler sees.
func (x *exchange) request(t target, caller Caller) *Request {
	s := x.api.config.Subscription
	r := &Request{
		Method: x.hr.Method, Version: x.version, Caller: caller, ID: t.id(s), Scope: canonicalScope(t.scope, s),
		Group: t.group(), Names: t.names, Header: x.hr.Header, RequestID: x.id, Query: lowerKeys(x.hr.URL.Query()),
		path: x.hr.URL.EscapedPath(), host: x.hr.Host, api: x.api,
	}
	if t.subscription() != "" {
		r.Subscription = s
	}
	if x.hr.Method == http.MethodPost {
		r.Action = t.types[len(t.types)-1]
	}
	if x.route.typ != nil {
		r.Type = t.namespace + "/" + x.route.typ.Name
	}
	return r
}

func (x *exchange) body() ([]byte, error) {
	body, err := readBody(x.w, x.hr)
	if err != nil || x.route.typ == nil || !x.route.typ.Lenient || len(body) == 0 {
		return body, err
	}
	return jsontree.Strict(body), nil
}

func lowerKeys(q url.Values) url.Values {
	low := make(url.Values, len(q))
	for name, values := range q {
		low[strings.ToLower(name)] = values
	}
	return low
}

// checkVersion refuses what is no api-version. Which versions a provider knows
// does not matter: clients choose their own.
func checkVersion(version string) error {
	if version == "" {
		return arm.Errorf(codeMissingVersion, "the api-version query parameter (?api-version=) is required for all requests.")
	}
	day, suffix, _ := strings.Cut(version, "-preview")
	if _, err := time.Parse(time.DateOnly, day); err != nil || suffix != "" {
		return arm.Errorf(arm.CodeInvalidAPIVersion, "the api-version '%s' is invalid: it is a date like 2024-02-01, with or without -preview", clip(version))
	}
	return nil
}

// fail answers with an error, and logs what is this program's fault.
func (x *exchange) fail(err error) {
	status := statusOf(err)
	if x.hr.Context().Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
		status = 499 // the client went away and will not see it
	} else if status >= 500 {
		x.api.config.Log.Error("a request failed", "request", x.id, "method", x.hr.Method, "path", x.hr.URL.Path, "error", err)
	}
	h := x.w.Header()
	if status == http.StatusUnauthorized {
		h.Set("WWW-Authenticate", x.challenge(err))
	}
	h.Set("x-ms-failure-cause", "gateway")
	p := x.route.provider
	bare := p != nil && p.Bare != nil && p.Bare(x.version) && !ofGateway(arm.CodeOf(err))
	f := FaultOf(err)
	resp := Response{Status: status, Body: f.envelope(bare)}
	if x.hr.Method == http.MethodHead {
		resp.Body = nil
	}
	if status == http.StatusServiceUnavailable {
		h.Set("Retry-After", "1")
	}
	h.Set("x-ms-error-code", f.Code)
	if err := write(x.w, x.hr.Method, resp, gateway(p)); err != nil {
		x.api.config.Log.Debug("an answer was not delivered", "request", x.id, "error", err)
	}
}

// gateway is the form of errors: those of the door, not of the provider.
func gateway(p *Provider) *Provider {
	if p == nil {
		return nil
	}
	return &Provider{Indent: p.Indent}
}

// base is the address of this service for links.
func base(host string) string { return "https://" + host }

// retryAfter is how long clients wait between two polls, in seconds.
const retryAfter = 1

func withRetry(r Response) Response { return r.With("Retry-After", strconv.Itoa(retryAfter)) }
