// Package imds is the instance metadata endpoint of a build VM: it hands out
// tokens of the identities that the template gives to the machine, and nothing
// else ("Azure Instance Metadata Service", "How to use managed identities on an
// Azure VM to acquire an access token").
package imds

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Address is where every machine finds the endpoint.
var Address = netip.MustParseAddrPort("169.254.169.254:80")

// Identity is a managed identity that the machine has.
type Identity struct {
	ID          string // resource id
	PrincipalID string
	ClientID    string
}

// Token is an access token.
type Token struct {
	Access  string
	Expires time.Time
}

// Tokens issues tokens of managed identities.
type Tokens interface {
	// IdentityToken issues a token of the identity with resource id id for the
	// audience.
	IdentityToken(ctx context.Context, id, audience string) (Token, error)
}

// Server is one machine's endpoint. Close is always needed.
type Server struct {
	identities []Identity
	tokens     Tokens
	http       *http.Server
	listener   *pipeListener
	done       sync.WaitGroup
}

// Limits of what a guest can do to the endpoint.
const (
	headerTimeout = 10 * time.Second
	idleTimeout   = 30 * time.Second
	maxHeader     = 16 << 10
	tokenTimeout  = 10 * time.Second
)

// New starts the endpoint of a machine with the given identities.
func New(identities []Identity, tokens Tokens) *Server {
	s := &Server{identities: identities, tokens: tokens, listener: newPipeListener()}
	s.http = &http.Server{
		Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: headerTimeout, ReadTimeout: headerTimeout, WriteTimeout: 2 * tokenTimeout,
		IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
	}
	s.done.Go(func() { _ = s.http.Serve(s.listener) }) // ends with Close
	return s
}

// Dial opens a connection to the endpoint; it is a network.Service.
func (s *Server) Dial(ctx context.Context) (net.Conn, error) { return s.listener.dial(ctx) }

// Close ends the endpoint and waits for it.
func (s *Server) Close() error {
	err := s.http.Close()
	s.done.Wait()
	return err
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	refuse := func(status int, code, text string) {
		answer(w, status, map[string]string{"error": code, "error_description": text})
	}
	switch {
	case r.Header.Get("X-Forwarded-For") != "":
		// Somebody in between was talked into asking.
		refuse(http.StatusBadRequest, "invalid_request", "Proxied requests are not supported")
	case r.Header.Get("Metadata") != "true":
		refuse(http.StatusBadRequest, "bad_request_102", "Required metadata header not specified")
	case r.URL.Path != "/metadata/identity/oauth2/token":
		refuse(http.StatusNotFound, "not_found", "This endpoint serves /metadata/identity/oauth2/token only")
	case r.Method != http.MethodGet:
		refuse(http.StatusMethodNotAllowed, "invalid_request", "Use GET")
	default:
		s.token(w, r, refuse)
	}
}

func (s *Server) token(w http.ResponseWriter, r *http.Request, refuse func(status int, code, text string)) {
	q := r.URL.Query()
	resource := q.Get("resource")
	switch {
	case q.Get("api-version") < "2018-02-01":
		refuse(http.StatusBadRequest, "bad_request", "The api-version is missing or not one from 2018-02-01 on")
		return
	case resource == "":
		refuse(http.StatusBadRequest, "invalid_resource", "The parameter resource is missing")
		return
	}
	identity, err := s.choose(q)
	if err != nil {
		refuse(http.StatusBadRequest, "invalid_request", err.Error())
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), tokenTimeout)
	defer cancel()
	token, err := s.tokens.IdentityToken(ctx, identity.ID, resource)
	if err != nil {
		// Why is not the guest's business.
		refuse(http.StatusInternalServerError, "unknown", "Failed to retrieve a token of the identity")
		return
	}
	left := strconv.FormatInt(int64(time.Until(token.Expires)/time.Second), 10)
	answer(w, http.StatusOK, map[string]string{
		"access_token": token.Access, "client_id": identity.ClientID, "expires_in": left, "ext_expires_in": left,
		"expires_on": strconv.FormatInt(token.Expires.Unix(), 10), "not_before": strconv.FormatInt(time.Now().Unix(), 10),
		"resource": resource, "token_type": "Bearer",
	})
}

// refusal is a text of the service's own form, for the guest to read.
type refusal string

func (r refusal) Error() string { return string(r) }

const (
	errSeveral refusal = "Multiple user assigned identities exist, please specify the clientId / resourceId of the identity in the token request"
	errNone    refusal = "Identity not found"
	errTooMany refusal = "Only one of client_id, object_id and msi_res_id can be specified"
)

// choose finds the identity that a request is about.
func (s *Server) choose(q url.Values) (Identity, error) {
	var by func(Identity) string
	want := ""
	for name, field := range map[string]func(Identity) string{
		"client_id":  func(i Identity) string { return i.ClientID },
		"object_id":  func(i Identity) string { return i.PrincipalID },
		"msi_res_id": func(i Identity) string { return i.ID },
		"mi_res_id":  func(i Identity) string { return i.ID },
	} {
		if v := q.Get(name); v != "" {
			if by != nil {
				return Identity{}, errTooMany
			}
			by, want = field, v
		}
	}
	if by == nil {
		switch len(s.identities) {
		case 0:
			return Identity{}, errNone
		case 1:
			return s.identities[0], nil
		}
		return Identity{}, errSeveral
	}
	for _, i := range s.identities {
		if strings.EqualFold(by(i), want) {
			return i, nil
		}
	}
	return Identity{}, errNone
}

func answer(w http.ResponseWriter, status int, body map[string]string) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // a guest that is gone needs no answer
}

// pipeListener accepts connections that this process opens itself.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipeListener() *pipeListener {
	return &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
}

func (l *pipeListener) dial(ctx context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		return near, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// Accept implements net.Listener.
func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr implements net.Listener.
func (l *pipeListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(Address) }
