package armapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/jsontree"
	"goldsmith/internal/resource"
)

// Limits of a request's body.
const (
	MaxBody     = 4 << 20 // bytes; Azure Resource Manager has the same
	maxDepth    = 64      // nesting of JSON
	maxValues   = 500_000
	bodyTimeout = 30 * time.Second // from the headers to the last byte of the body
)

// Request is an authenticated and authorised request on a resource, a
// collection or an action.
type Request struct {
	Method       string
	Version      string     // api-version as it was sent
	Caller       Caller     // who asks
	ID           string     // the resource; for a collection what it is listed for, for an action its resource
	Scope        string     // what stands before the provider: a group, a subscription, any resource for extensions; "" for the tenant
	Subscription string     // GUID, "" at the tenant
	Group        string     // resource group as typed, "" above groups
	Type         string     // full resource type in its registered casing
	Names        []string   // names of the id from the first type on
	Action       string     // last segment of a POST, as typed
	Query        url.Values // keys in lower case
	Header       http.Header
	Body         []byte // JSON when the type is not Lenient is not yet checked: see Decode
	RequestID    string // GUID of this request, also in x-ms-request-id

	path string // for next links
	host string
	api  *API
}

// Name is the last name of the resource.
func (r *Request) Name() string {
	if len(r.Names) == 0 {
		return ""
	}
	return r.Names[len(r.Names)-1]
}

// Tree parses the body. An empty one is an error. Lenient bodies have been made
// strict before.
func (r *Request) Tree() (*jsontree.Node, error) {
	if len(bytes.TrimSpace(r.Body)) == 0 {
		return nil, arm.Errorf(arm.CodeInvalidJSON, "the request content is empty: a JSON object is expected")
	}
	n, err := jsontree.Parse(r.Body, jsontree.Limits{Bytes: MaxBody, Depth: maxDepth, Key: 4096, Values: maxValues})
	if err != nil {
		return nil, arm.Errorf(arm.CodeInvalidJSON, "the request content was invalid and could not be deserialized: %w", err)
	}
	return n, nil
}

// Decode reads the body, a JSON object, into v as encoding/json does: keys
// compare without regard to case, unknown ones are left out.
func (r *Request) Decode(v any) error {
	n, err := r.Tree()
	if err != nil {
		return err
	}
	if n.Kind != jsontree.Object {
		return arm.Errorf(arm.CodeInvalidJSON, "the request content must be a JSON object, not %s", n.Kind)
	}
	if err := json.Unmarshal(n.Append(nil), v); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return arm.Errorf(arm.CodeInvalidJSON, "the value of '%s' has the wrong type: it is %s and must be %s", wrong.Field, wrong.Value, jsonKind(wrong)).At(wrong.Field)
		}
		return arm.Errorf(arm.CodeInvalidJSON, "the request content could not be deserialized: %w", err)
	}
	return nil
}

func jsonKind(e *json.UnmarshalTypeError) string {
	switch e.Type.Kind().String() {
	case "string":
		return "a string"
	case "bool":
		return "true or false"
	case "slice", "array":
		return "an array"
	case "struct", "map", "ptr", "interface":
		return "an object"
	}
	return "a number"
}

// readBody reads at most MaxBody bytes in at most bodyTimeout.
func readBody(w http.ResponseWriter, hr *http.Request) ([]byte, error) {
	if hr.ContentLength > MaxBody {
		return nil, bodyTooLarge(w)
	}
	if hr.Body == nil || hr.ContentLength == 0 {
		return nil, nil
	}
	// A recorder in a test has no deadline to set; a connection always has.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, hr.Body, MaxBody))
	if err == nil {
		// Otherwise the time stays over: the server shall not wait for the rest before
		// it answers.
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
	}
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, bodyTooLarge(w)
	case err != nil:
		return nil, arm.Errorf(codeBodyIncomplete, "the request content did not arrive whole: %w", err)
	}
	return body, nil
}

func bodyTooLarge(w http.ResponseWriter) error {
	w.Header().Set("Connection", "close") // do not read the rest
	return arm.Errorf(codeBodyTooLarge, "the request content is larger than the %d bytes that are read", MaxBody)
}

// Condition is what If-Match and If-None-Match ask for. "*" as If-Match is not
// part of it: see MustExist.
func (r *Request) Condition() resource.Condition {
	c := resource.Condition{IfNoneMatch: strings.TrimSpace(r.Header.Get("If-None-Match")) == "*"}
	if tag := unquote(r.Header.Get("If-Match")); tag != "*" {
		c.IfMatch = tag
	}
	return c
}

// MustExist reports whether the request says "If-Match: *".
func (r *Request) MustExist() bool { return strings.TrimSpace(r.Header.Get("If-Match")) == "*" }

// unquote is the opaque tag of an entity tag, which some clients send bare.
func unquote(tag string) string {
	tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
	return strings.Trim(tag, `"`)
}

// Page is what $top and $skipToken ask for. Size is at most and without $top
// maxPage.
func (r *Request) Page() (size int, token string, err error) {
	const maxPage = 1000
	size = maxPage
	if top := r.Query.Get("$top"); top != "" {
		n, err := strconv.Atoi(top)
		if err != nil || n < 1 {
			return 0, "", arm.Errorf(arm.CodeValidationFailed, "$top must be a whole number from 1, not '%s'", clip(top)).At("$top")
		}
		size = min(n, maxPage)
	}
	return size, r.Query.Get("$skiptoken"), nil
}

// Allowed reports whether the caller may do action at scope. Providers ask it
// for resources that a request only refers to.
func (r *Request) Allowed(ctx context.Context, action, scope string) (bool, error) {
	return r.api.config.Authorize(ctx, Access{Caller: r.Caller, Action: action, Scope: scope})
}

// Sees is Allowed for one element of a list, which is not worth an audit record.
func (r *Request) Sees(ctx context.Context, action, scope string) (bool, error) {
	return r.api.config.Authorize(ctx, Access{Caller: r.Caller, Action: action, Scope: scope, Quiet: true})
}

// RequireLinked is LinkedAuthorizationFailed unless the caller may do action at
// the resource id that the request refers to.
func (r *Request) RequireLinked(ctx context.Context, action, id string) error {
	ok, err := r.Allowed(ctx, action, id)
	if err != nil || ok {
		return err
	}
	return arm.Errorf(codeLinkedForbidden, "the client '%s' with object id '%s' has permission to perform the request on scope '%s'; however, it does not have permission to perform action '%s' on the linked scope '%s' or the linked scope is invalid",
		r.Caller.Name, r.Caller.ObjectID, r.ID, action, id)
}

// Link is an absolute address on this service.
func (r *Request) Link(path string, query url.Values) string {
	u := base(r.host) + path
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	return u
}
