package armapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"

	"goldsmith/internal/arm"
)

// Call is a request that a provider makes on behalf of a caller, like those of a
// deployment for its resources. It takes the way of any other request, through the
// caller's rights, from where a caller is known.
type Call struct {
	Caller  Caller
	Host    string // for the links in the answer
	Method  string
	Path    string // of a resource or an action, as ids are written; or a link of this service, with Version ""
	Version string // api-version
	Body    []byte
	Header  http.Header // further ones; nil for none
	Try     bool        // stop where the handler would begin
}

// Answer is what a Call was answered with. Its errors are those of the handler.
type Answer struct {
	Status int
	Header http.Header
	Body   json.RawMessage // nil for none
}

// Call makes a request within the service.
func (a *API) Call(ctx context.Context, c Call) (Answer, error) {
	if len(c.Body) > MaxBody {
		return Answer{}, arm.Errorf(codeBodyTooLarge, "the request content is larger than the %d bytes that are read", MaxBody)
	}
	u, err := &url.URL{Path: c.Path, RawQuery: url.Values{"api-version": {c.Version}}.Encode()}, error(nil)
	if c.Version == "" {
		u, err = url.Parse(c.Path)
	}
	if err != nil {
		return Answer{}, arm.Errorf(codeInvalidURI, "'%s' is not a path: %w", clip(c.Path), err)
	}
	u.Scheme, u.Host = "https", c.Host
	hr, err := http.NewRequestWithContext(ctx, c.Method, u.String(), bytes.NewReader(c.Body))
	if err != nil {
		return Answer{}, arm.Errorf(codeInvalidURI, "'%s' is not a path: %w", clip(c.Path), err)
	}
	if c.Header != nil {
		hr.Header = c.Header
	}
	t, err := parseTarget(u.EscapedPath())
	if err != nil {
		return Answer{}, err
	}
	x := exchange{api: a, hr: hr, id: newRequestID(), version: u.Query().Get("api-version")}
	x.route.provider = a.registry.providers[strings.ToLower(t.namespace)]
	resp, err := x.admit(ctx, t, c.Caller, c.Try)
	if err != nil {
		return Answer{Status: statusOf(err)}, err
	}
	if resp.Stream != nil {
		return Answer{}, arm.Errorf(arm.CodeInternal, "%s %s has no answer but a stream", c.Method, c.Path)
	}
	answer := Answer{Status: resp.Status, Header: resp.Header}
	if answer.Status == 0 {
		answer.Status = http.StatusOK
	}
	if resp.Body != nil {
		answer.Body, err = json.Marshal(resp.Body)
	}
	return answer, err
}

// Err is the fault as an error again.
func (f Fault) Err() error { return f.err() }
