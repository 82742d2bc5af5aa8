package authorization_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/armapitest"
	"goldsmith/internal/armapi/authorization"
	"goldsmith/internal/armapi/resources"
	"goldsmith/internal/resource"
)

const (
	s         = armapitest.S
	rg        = s + "/resourceGroups/g"
	roles     = "/providers/Microsoft.Authorization/roleDefinitions"
	assigns   = "/providers/Microsoft.Authorization/roleAssignments"
	reader    = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
	roleGUID  = "d2b77c8f-a290-4b88-bb92-aec8a1025ebf"
	principal = "ef511139-6170-438e-a6e1-763dc31bdf74"
)

func guid(n int) string { return fmt.Sprintf("00000000-0000-0000-0000-%012d", n) }

func door(t *testing.T, principals map[string]string) *armapitest.Door {
	d := armapitest.New(t, func(store resource.Store) []armapi.Provider {
		c := authorization.Config{Subscription: armapitest.Subscription, Tenant: armapitest.Tenant, Store: store}
		if principals != nil {
			c.PrincipalType = func(_ context.Context, id string) (string, bool, error) {
				typ, found := principals[id]
				return typ, found, nil
			}
		}
		return append(resources.Providers(resources.Config{Subscription: armapitest.Subscription, Tenant: armapitest.Tenant, Store: store}),
			authorization.Provider(c))
	})
	d.Want(201, "PUT", rg, `{"location":"westus2"}`)
	return d
}

func roleBody(name, scope string) string {
	return `{"properties":{"roleName":"` + name + `","description":"d","permissions":[{"actions":["Microsoft.Compute/images/read"],"notActions":[]}],"assignableScopes":["` + scope + `"]}}`
}

func assignBody(role string) string {
	return `{"properties":{"roleDefinitionId":"` + s + roles + "/" + role + `","principalId":"` + principal + `"}}`
}

func TestRoles(t *testing.T) {
	d := door(t, nil)
	a := d.Want(201, "PUT", rg+roles+"/"+roleGUID, roleBody("Builder", rg))
	if a.Field("id") != s+roles+"/"+roleGUID || a.Field("name") != roleGUID || a.Field("properties.type") != "CustomRole" || a.Field("properties.permissions.0.dataActions") != "[]" {
		t.Error(a.Text)
	}
	if a := d.Want(409, "PUT", rg+roles+"/"+guid(1), roleBody("builder", rg)); a.Code() != "RoleDefinitionWithSameNameExists" {
		t.Error(a.Text)
	}
	d.Want(201, "PUT", rg+roles+"/"+roleGUID, roleBody("Builder", rg))
	// It is defined at the subscription whatever the scope of the request was.
	for _, scope := range []string{"", s, rg, rg + "/providers/Microsoft.Storage/storageAccounts/a/blobServices/default/containers/c"} {
		if a := d.Want(200, "GET", scope+roles+"/"+roleGUID, ""); a.Field("properties.roleName") != "Builder" {
			t.Error(a.Text)
		}
		for filter, n := range map[string]int{"roleName eq 'builder'": 1, "roleName eq 'Reader' and type eq 'BuiltInRole'": 1, "type eq 'CustomRole'": 1, "roleName eq 'None'": 0, "atScopeAndBelow() and roleName eq 'Builder'": 1} {
			a := d.Want(200, "GET", scope+roles+"?$filter="+filter, "")
			if got := strings.Count(a.Text, `"roleName"`); got != n {
				t.Errorf("%s with %s lists %d, want %d", scope, filter, got, n)
			}
		}
	}
	if a := d.Want(200, "GET", s+"/resourceGroups/other"+roles+"?$filter=type eq 'CustomRole'", ""); a.Field("value") != "[]" {
		t.Errorf("a role is listed where it cannot be assigned: %s", a.Text)
	}
	if a := d.Want(200, "GET", s+roles+"?$filter=roleName eq 'Reader'", ""); a.Field("value.0.id") != s+roles+"/"+reader {
		t.Error(a.Text)
	}
	for body, code := range map[string]string{
		`{}`: "InvalidRequestContent",
		`{"properties":{"roleName":"x","permissions":[{"actions":["Nonsense"]}],"assignableScopes":["` + rg + `"]}}`: "InvalidActionOrNotAction",
		roleBody("x", "/"): "InvalidAssignableScope",
	} {
		if a := d.Want(400, "PUT", rg+roles+"/"+guid(2), body); a.Code() != code {
			t.Errorf("%s: %s", body, a.Text)
		}
	}
	d.Want(400, "PUT", rg+roles+"/Builder", roleBody("x", rg))
	d.Want(400, "PUT", rg+roles+"/"+reader, roleBody("x", rg))
	d.Want(400, "DELETE", rg+roles+"/"+reader, "")
	d.Want(200, "DELETE", s+roles+"/"+roleGUID, "")
	d.Want(204, "DELETE", s+roles+"/"+roleGUID, "")
	if a := d.Want(404, "GET", s+roles+"/"+roleGUID, ""); a.Code() != "RoleDefinitionDoesNotExist" {
		t.Error(a.Text)
	}
}

func TestAssignments(t *testing.T) {
	d := door(t, nil)
	d.Want(201, "PUT", rg+roles+"/"+roleGUID, roleBody("Builder", rg))
	one := rg + assigns + "/" + guid(1)
	a := d.Want(201, "PUT", one, assignBody(roleGUID))
	if a.Field("properties.scope") != rg || a.Field("properties.principalType") != "ServicePrincipal" || a.Field("properties.createdBy") != armapitest.Admin {
		t.Error(a.Text)
	}
	if a := d.Want(409, "PUT", rg+assigns+"/"+guid(2), assignBody(roleGUID)); a.Code() != "RoleAssignmentExists" {
		t.Error(a.Text)
	}
	d.Want(201, "PUT", one, assignBody(roleGUID)) // as it is
	if a := d.Want(400, "PUT", one, assignBody(reader)); a.Code() != "RoleAssignmentUpdateNotPermitted" {
		t.Error(a.Text)
	}
	if a := d.Want(400, "DELETE", s+roles+"/"+roleGUID, ""); a.Code() != "RoleDefinitionHasAssignments" {
		t.Error(a.Text)
	}
	if a := d.Want(404, "PUT", rg+assigns+"/"+guid(3), assignBody(guid(9))); a.Code() != "RoleDefinitionDoesNotExist" {
		t.Error(a.Text)
	}
	if a := d.Want(400, "PUT", s+assigns+"/"+guid(3), assignBody(roleGUID)); a.Code() != "RoleDefinitionNotAssignableAtScope" {
		t.Error(a.Text)
	}
	if a := d.Want(404, "PUT", s+"/resourceGroups/none"+assigns+"/"+guid(3), assignBody(reader)); a.Code() != "ResourceGroupNotFound" {
		t.Error(a.Text)
	}
	// A scope that is no record, the old form of the body, and the subscription.
	deep := rg + "/providers/Microsoft.Storage/storageAccounts/a/blobServices/default/containers/c"
	d.Want(201, "PUT", deep+assigns+"/"+guid(4)+"?api-version=2015-07-01", `{"roleDefinitionId":"`+s+roles+"/"+reader+`","principalId":"other"}`)
	d.Want(201, "PUT", s+assigns+"/"+guid(5), assignBody(reader))

	for _, tc := range []struct{ scope, filter, want string }{
		{s, "", "1 4 5"},
		{s, "atScope()", "5"},
		{rg, "", "1 4 5"},
		{rg, "atScope()", "1 5"},
		{deep, "atScope()", "1 4 5"},
		{deep, "atScope() and principalId eq 'OTHER'", "4"},
		{s, "principalId eq '" + principal + "'", "1 5"},
		{s, "assignedTo('" + principal + "')", "1 5"},
		{s + "/resourceGroups/h", "", "5"},
	} {
		a := d.Want(200, "GET", tc.scope+assigns+"?$filter="+tc.filter, "")
		var got []string
		for i := 1; i <= 5; i++ {
			if strings.Contains(a.Text, `"name":"`+guid(i)+`"`) {
				got = append(got, fmt.Sprint(i))
			}
		}
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s with %q lists %v, want %s", tc.scope, tc.filter, got, tc.want)
		}
	}
	d.Want(400, "GET", s+assigns+"?$filter=color eq 'red'", "")
	d.Want(200, "GET", one, "")
	d.Want(200, "DELETE", one, "")
	d.Want(204, "DELETE", one, "")
	d.Want(404, "GET", one, "")
	d.Want(200, "DELETE", s+roles+"/"+roleGUID, "")
}

func TestPrincipals(t *testing.T) {
	d := door(t, map[string]string{principal: "Group"})
	if a := d.Want(201, "PUT", rg+assigns+"/"+guid(1), assignBody(reader)); a.Field("properties.principalType") != "Group" {
		t.Error(a.Text)
	}
	if a := d.Want(400, "PUT", rg+assigns+"/"+guid(2), strings.Replace(assignBody(reader), principal, guid(7), 1)); a.Code() != "PrincipalNotFound" {
		t.Error(a.Text)
	}
	if a := d.Want(400, "PUT", rg+assigns+"/"+guid(1), strings.Replace(assignBody(reader), `"principalId"`, `"principalType":"User","principalId"`, 1)); a.Code() != "UnmatchedPrincipalType" {
		t.Error(a.Text)
	}
}

// Whoever defines a role must be allowed to at every scope that it names.
func TestRoleNeedsEveryScope(t *testing.T) {
	d := door(t, nil)
	d.Allow = func(q armapi.Access) bool { return strings.HasPrefix(q.Scope, rg) }
	a := d.As("some", "PUT", rg+roles+"/"+roleGUID, roleBody("Wide", s))
	if a.Status != 403 || a.Code() != "LinkedAuthorizationFailed" {
		t.Errorf("%d %s", a.Status, a.Text)
	}
	if a := d.As("some", "PUT", rg+roles+"/"+roleGUID, roleBody("Narrow", rg)); a.Status != 201 {
		t.Errorf("%d %s", a.Status, a.Text)
	}
}
