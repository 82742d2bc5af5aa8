package armapi

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
)

// Caller is the principal behind a request.
type Caller struct {
	ObjectID string // what role assignments name
	TenantID string
	AppID    string   // of a service principal or a managed identity
	Name     string   // for people
	Groups   []string // object ids
}

// Access is a question for the authorizer: may the caller do action at scope?
type Access struct {
	Caller Caller
	Action string // "Microsoft.Compute/images/read"
	Scope  string // a resource id, "/" for the tenant
	Data   bool   // a data action
	// Quiet questions decide what a list shows. They are not worth an audit
	// record each.
	Quiet bool
}

func (x *exchange) unauthenticated(err error) error {
	if arm.CodeOf(err) == codeInvalidToken {
		return err
	}
	return arm.Errorf(codeInvalidToken, "the access token is missing or not valid: %w", err)
}

// challenge is the WWW-Authenticate header of a 401.
func (x *exchange) challenge(err error) string {
	authority := x.api.config.Authority
	if authority == "" {
		authority = base(x.hr.Host) + "/" + x.api.config.Tenant
	}
	text := strings.Map(func(r rune) rune {
		if r == '"' || r == '\\' || r < ' ' {
			return '\''
		}
		return r
	}, FaultOf(err).Message)
	return fmt.Sprintf(`Bearer authorization_uri="%s", error="invalid_token", error_description="%s"`, authority, text)
}

// authorize checks the permission of the route. A list that the caller may not
// read as a whole is narrowed to what the caller may read.
func (x *exchange) authorize(ctx context.Context, r *Request, t target) (narrow bool, err error) {
	if x.route.permission == "" {
		return false, nil
	}
	ok, err := x.api.config.Authorize(ctx, Access{Caller: r.Caller, Action: x.route.permission, Scope: r.ID})
	if err != nil || ok {
		return false, err
	}
	if x.route.list && x.route.typ.Narrows && r.Group == "" && x.hr.Method == http.MethodGet {
		return true, nil
	}
	return false, ErrForbidden(r, x.route.permission, r.ID)
}

type readerKey struct{}

// reader decides which records of a list its caller sees.
type reader struct {
	r       *Request
	mu      sync.Mutex
	allowed map[string]bool // by permission and scope
}

func withReader(ctx context.Context, r *Request) context.Context {
	return context.WithValue(ctx, readerKey{}, &reader{r: r, allowed: map[string]bool{}})
}

// Visible reports whether the caller of a list may see a record: all of it,
// unless the caller was allowed only parts of what is listed.
func Visible(ctx context.Context, rec resource.Record) (bool, error) {
	rd, _ := ctx.Value(readerKey{}).(*reader)
	if rd == nil {
		return true, nil
	}
	permission := permissionOf(rec) + "/read"
	// Most rights are given for groups: one question serves all in a group.
	for _, scope := range []string{groupOf(rec.ID), rec.ID} {
		if scope == "" {
			continue
		}
		ok, err := rd.ask(ctx, permission, scope)
		if err != nil || ok {
			return ok, err
		}
	}
	return false, nil
}

func (rd *reader) ask(ctx context.Context, permission, scope string) (bool, error) {
	key := permission + " " + resource.Key(scope)
	rd.mu.Lock()
	defer rd.mu.Unlock()
	if ok, known := rd.allowed[key]; known {
		return ok, nil
	}
	ok, err := rd.r.api.config.Authorize(ctx, Access{Caller: rd.r.Caller, Action: permission, Scope: scope, Quiet: true})
	if err == nil {
		rd.allowed[key] = ok
	}
	return ok, err
}

func permissionOf(rec resource.Record) string {
	if strings.EqualFold(rec.Type, TypeGroup) {
		return "Microsoft.Resources/subscriptions/resourceGroups"
	}
	return rec.Type
}

// groupOf is the id of the group that holds id, "" for none.
func groupOf(id string) string {
	p := pairs(id)
	if p.at("resourceGroups", 1) == "" {
		return ""
	}
	return "/" + strings.Join(p[:4], "/")
}
