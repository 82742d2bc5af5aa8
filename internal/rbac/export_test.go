package rbac

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
)

const roleExport = `[
 {"assignableScopes": ["/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/images"], "description": "",
  "id": "/subscriptions/11111111-1111-1111-1111-111111111111/providers/Microsoft.Authorization/roleDefinitions/00000000-0000-0000-0000-000000000001",
  "name": "00000000-0000-0000-0000-000000000001", "roleName": "Image Creator", "roleType": "CustomRole", "type": "Microsoft.Authorization/roleDefinitions",
  "permissions": [{"actions": ["Microsoft.Compute/images/read"], "condition": null, "conditionVersion": null, "dataActions": [], "notActions": [], "notDataActions": []}]}
]`

const assignmentExport = `[
 {"canDelegate": null, "condition": null, "id": "/subscriptions/1/resourceGroups/images/providers/Microsoft.Authorization/roleAssignments/a",
  "name": "a", "principalId": "99999999-0000-0000-0000-000000000001", "principalName": "cf32a0cc-373c-47c9-9156-0db11f6a6dfc", "principalType": "ServicePrincipal",
  "resourceGroup": "images", "roleDefinitionId": "/subscriptions/1/providers/Microsoft.Authorization/roleDefinitions/00000000-0000-0000-0000-000000000001",
  "roleDefinitionName": "Image Creator", "scope": "/subscriptions/1/resourceGroups/images", "type": "Microsoft.Authorization/roleAssignments"},
 {"condition": "@Resource[x] StringEquals 'y'", "id": "/providers/Microsoft.Management/managementGroups/mg/providers/Microsoft.Authorization/roleAssignments/b",
  "principalId": "p", "principalName": "", "principalType": "Group", "roleDefinitionId": "/providers/Microsoft.Authorization/roleDefinitions/acdd72a7-3385-48ef-bd42-f606fba81ae7",
  "scope": "/providers/Microsoft.Management/managementGroups/mg"}
]`

func TestExports(t *testing.T) {
	roles, err := ParseRoleExport([]byte(roleExport))
	if err != nil {
		t.Fatal(err)
	}
	if len(roles) != 1 || roles[0].RoleName != "Image Creator" || roles[0].BuiltIn || !roles[0].Grants("Microsoft.Compute/images/read", false) {
		t.Errorf("roles %+v", roles)
	}
	got, err := ParseAssignmentExport([]byte(assignmentExport))
	if err != nil {
		t.Fatal(err)
	}
	want := []Assignment{
		{
			ID: "/subscriptions/1/resourceGroups/images/providers/Microsoft.Authorization/roleAssignments/a", Scope: "/subscriptions/1/resourceGroups/images",
			Role: "/subscriptions/1/providers/Microsoft.Authorization/roleDefinitions/00000000-0000-0000-0000-000000000001", Principal: BuilderObject, PrincipalType: "ServicePrincipal",
		},
		{
			ID: "/providers/Microsoft.Management/managementGroups/mg/providers/Microsoft.Authorization/roleAssignments/b", Scope: "/",
			Role: "/providers/Microsoft.Authorization/roleDefinitions/acdd72a7-3385-48ef-bd42-f606fba81ae7", Principal: "p", PrincipalType: "Group", Condition: "@Resource[x] StringEquals 'y'",
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	// The answer of the REST API, whole.
	wrapped := `{"value": [{"id": "/x/roleDefinitions/r", "properties": {"roleName": "n", "type": "BuiltInRole", "permissions": []}}]}`
	if roles, err = ParseRoleExport([]byte(wrapped)); err != nil || len(roles) != 1 || !roles[0].BuiltIn {
		t.Errorf("roles of a REST answer: %+v, %v", roles, err)
	}
	for _, bad := range []string{"", "{}", "null[", `[{"id": ""}]`, `[{"scope": 1}]`, `[{"properties": []}]`, `{"value": 3}`} {
		_, rerr := ParseRoleExport([]byte(bad))
		_, aerr := ParseAssignmentExport([]byte(bad))
		for _, err := range []error{rerr, aerr} {
			if code := arm.CodeOf(err); code != arm.CodeInvalidJSON && code != arm.CodeValidationFailed && !(bad == `[{"scope": 1}]` && code == "") {
				t.Errorf("%q: %v", bad, err)
			}
		}
	}
}

func FuzzExports(f *testing.F) {
	f.Add([]byte(roleExport))
	f.Add([]byte(assignmentExport))
	f.Fuzz(func(t *testing.T, raw []byte) {
		roles, _ := ParseRoleExport(raw)
		assignments, _ := ParseAssignmentExport(raw)
		p := Compile(State{Roles: roles, Assignments: assignments})
		for _, a := range assignments {
			p.Check(Request{Principal: a.Principal, Action: "a/b/read", Scope: a.Scope})
		}
	})
}

func FuzzCheckAction(f *testing.F) {
	f.Add("Microsoft.Compute/images/read")
	f.Add("Microsoft.Compute/*/read")
	f.Fuzz(func(t *testing.T, action string) {
		if CheckAction(action, false) != nil {
			return
		}
		r := Role{Permissions: []Permission{{Actions: []string{action}}}}
		if !r.Grants(action, false) {
			t.Fatalf("a role of %q does not grant it", action)
		}
	})
}
