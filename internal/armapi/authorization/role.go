// Package authorization provides Microsoft.Authorization: role definitions and
// role assignments, at any scope.
package authorization

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/filter"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
)

// Config is what the provider works with.
type Config struct {
	Subscription string // GUID
	Tenant       string // GUID
	Store        resource.Store
	// PrincipalType finds a principal of the directory by object id: "User",
	// "Group" or "ServicePrincipal". nil believes what clients say.
	PrincipalType func(ctx context.Context, objectID string) (typ string, found bool, err error)
}

type provider struct {
	Config
	mu sync.Mutex // rules over all roles and assignments hold while one is written
}

// guid is the pattern of the names of definitions and assignments.
const guid = `[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}`

// Provider is Microsoft.Authorization.
func Provider(c Config) armapi.Provider {
	p := &provider{Config: c}
	return armapi.Provider{
		Namespace: "Microsoft.Authorization",
		Types: []armapi.Type{
			{Name: "roleDefinitions", Place: armapi.OnAnything, Pattern: guid,
				Versions: []string{"2022-05-01-preview", "2022-04-01", "2018-01-01-preview", "2015-07-01"},
				Get:      p.getRole, List: p.listRoles, Put: p.putRole, Delete: p.deleteRole},
			{Name: "roleAssignments", Place: armapi.OnAnything, Pattern: guid,
				Versions: []string{"2022-04-01", "2020-10-01-preview", "2020-04-01-preview", "2018-01-01-preview", "2015-07-01"},
				Get:      p.getAssignment, List: p.listAssignments, Put: p.putAssignment, Delete: p.deleteAssignment},
			{Name: "denyAssignments", Place: armapi.OnAnything, Versions: []string{"2022-04-01"},
				List: func(_ context.Context, r *armapi.Request) (armapi.Response, error) {
					return armapi.ListOf(r, []string{}, ""), nil // there are none
				}},
		},
	}
}

// failure is err with the status that Microsoft.Authorization gives its code.
func failure(err error) error {
	switch arm.CodeOf(err) {
	case rbac.CodeRoleNameTaken, rbac.CodeAssignmentExists:
		return armapi.Status(http.StatusConflict, err)
	case rbac.CodeRoleMissing:
		return armapi.Status(http.StatusNotFound, err)
	}
	return err
}

// roleScope is where custom roles are kept.
func (p *provider) roleScope() string { return "/subscriptions/" + p.Subscription }

func (p *provider) roleID(guid string) string {
	return p.roleScope() + "/providers/" + rbac.TypeRole + "/" + strings.ToLower(guid)
}

// custom are the custom roles.
func (p *provider) custom(ctx context.Context) ([]rbac.Role, error) {
	var roles []rbac.Role
	err := p.each(ctx, rbac.TypeRole, func(rec resource.Record) error {
		r, err := rbac.ParseRole(rec.ID, rec.Properties)
		roles = append(roles, r)
		return err
	})
	return roles, err
}

// each calls f with every record of a type.
func (p *provider) each(ctx context.Context, typ string, f func(resource.Record) error) error {
	for q := (resource.Query{Type: typ, PageSize: 1000}); ; {
		records, next, err := p.Store.List(ctx, q)
		if err != nil {
			return err
		}
		for _, rec := range records {
			if err := f(rec); err != nil {
				return err
			}
		}
		if next == "" {
			return nil
		}
		q.PageToken = next
	}
}

// roleBody is a role as the client sees it that asked at scope: built-in roles
// have ids below its subscription.
func (p *provider) roleBody(scope string, role rbac.Role) map[string]any {
	id := role.ID
	if role.BuiltIn {
		id = "/providers/" + rbac.TypeRole + "/" + role.GUID()
		if strings.HasPrefix(scope, "/subscriptions/") {
			id = p.roleScope() + id
		}
	}
	return map[string]any{"id": id, "type": rbac.TypeRole, "name": role.GUID(), "properties": role.Properties()}
}

func (p *provider) getRole(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	roles, err := p.custom(ctx)
	if err != nil {
		return armapi.Response{}, err
	}
	role, err := rbac.FindRole(r.Name(), roles)
	return armapi.OK(p.roleBody(r.Scope, role)), failure(err)
}

// listRoles lists the roles that can be assigned at the scope, or below it.
func (p *provider) listRoles(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	expr, err := filter.Parse(r.Query.Get("$filter"))
	if err != nil {
		return armapi.Response{}, err
	}
	custom, err := p.custom(ctx)
	if err != nil {
		return armapi.Response{}, err
	}
	var list []map[string]any
	for _, role := range append(rbac.BuiltIn(), custom...) {
		if !assignable(role, r.Scope) {
			continue
		}
		ok, err := expr.Match(func(t filter.Term) (bool, error) { return roleMatches(role, t) })
		if err != nil {
			return armapi.Response{}, err
		}
		if ok {
			list = append(list, p.roleBody(r.Scope, role))
		}
	}
	return armapi.ListOf(r, list, ""), nil
}

// assignable reports whether a role can be assigned at scope or somewhere below.
func assignable(role rbac.Role, scope string) bool {
	for _, s := range role.AssignableScopes {
		if rbac.Covers(s, scope) || rbac.Covers(scope, s) {
			return true
		}
	}
	return false
}

func roleMatches(role rbac.Role, t filter.Term) (bool, error) {
	switch name := strings.ToLower(t.Name); {
	case !t.Call && name == "rolename":
		return strings.EqualFold(role.RoleName, t.Args[0]), nil
	case !t.Call && name == "type":
		return strings.EqualFold(t.Args[0], "BuiltInRole") == role.BuiltIn, nil
	case t.Call && (name == "atscope" || name == "atscopeandbelow"):
		return true, nil // what can be assigned below a scope is shown in any case
	}
	return false, filter.Unknown(t)
}

func (p *provider) putRole(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	properties, err := propertiesOf(r, "roleName")
	if err != nil {
		return armapi.Response{}, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	all, err := p.custom(ctx)
	if err != nil {
		return armapi.Response{}, err
	}
	role, err := rbac.ParseRole(p.roleID(r.Name()), properties)
	if err != nil {
		return armapi.Response{}, err
	}
	role.BuiltIn = false
	if err := rbac.CheckRole(role, r.Scope, all); err != nil {
		return armapi.Response{}, failure(err)
	}
	for _, scope := range role.AssignableScopes {
		if err := r.RequireLinked(ctx, rbac.TypeRole+"/write", scope); err != nil {
			return armapi.Response{}, err
		}
	}
	rec := resource.Record{ID: role.ID, Type: rbac.TypeRole, Name: role.GUID(), Properties: role.Properties()}
	_, _, err = p.Store.Put(ctx, rec, resource.Condition{})
	// 201 for a change too, as the real service answers.
	return armapi.Created(true, p.roleBody(r.Scope, role)), err
}

func (p *provider) deleteRole(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	custom, err := p.custom(ctx)
	if err != nil {
		return armapi.Response{}, err
	}
	role, err := rbac.FindRole(r.Name(), custom)
	if arm.IsCode(err, rbac.CodeRoleMissing) {
		return armapi.NoContent(), nil
	}
	if err == nil && role.BuiltIn {
		err = arm.Errorf(rbac.CodeRoleReadOnly, "the role '%s' is built in and cannot be deleted", role.RoleName)
	}
	if err != nil {
		return armapi.Response{}, err
	}
	assignments, err := p.assignments(ctx)
	if err != nil {
		return armapi.Response{}, err
	}
	if err := rbac.CheckUnused(role, assignments); err != nil {
		return armapi.Response{}, failure(err)
	}
	_, err = p.Store.Delete(ctx, role.ID, resource.Condition{})
	return armapi.OK(p.roleBody(r.Scope, role)), err
}

// propertiesOf is the body's properties object. Api-version 2015-07-01 has its
// members at the top, of which member is one.
func propertiesOf(r *armapi.Request, member string) (json.RawMessage, error) {
	n, err := r.Tree()
	if err != nil {
		return nil, err
	}
	v := n.Fold("properties")
	if v == nil && n.Fold(member) != nil {
		v = n
	}
	if v == nil || v.Members == nil {
		return nil, arm.Errorf(arm.CodeInvalidJSON, "the request content has no 'properties' object").At("properties")
	}
	return v.Append(nil), nil
}
