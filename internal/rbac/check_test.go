package rbac

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"goldsmith/internal/arm"
)

func TestCheckAction(t *testing.T) {
	for _, tt := range []struct {
		action string
		data   bool
		want   string // part of the message, "" accepted
	}{
		{"*", false, ""},
		{"*/read", false, ""},
		{"Microsoft.Compute/images/write", false, ""},
		{"microsoft.compute/IMAGES/Write", false, ""},
		{"Microsoft.Compute/*", false, ""},
		{"Microsoft.Compute/*/read", false, ""},
		{"Microsoft.Compute/register/action", false, ""},
		{"Microsoft.Compute/virtualMachines/start/action", false, ""},
		{"Microsoft.Compute/galleries/images/versions/write", false, ""},
		{"Microsoft.ManagedIdentity/userAssignedIdentities/*/assign/action", false, ""},
		{"Microsoft.Network/virtualNetworks/subnets/join/action", false, ""},
		{"Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read", true, ""},
		{"Microsoft.Storage/storageAccounts/blobServices/containers/blobs/*", true, ""},
		{"Microsoft.KeyVault/vaults/secrets/getSecret/action", true, ""},
		{"Contoso.Billing/accounts/read", false, ""},

		{"", false, "without spaces"},
		{"Microsoft.Compute/images/read ", false, "without spaces"},
		{"Microsoft.Compute/im\x00ages/read", false, "without spaces"},
		{"Microsoft.Compute//read", false, "empty part"},
		{"Microsoft.Compute", false, "no resource type"},
		{"images/read", false, "namespace"},
		{"Microsoft.Compute/images/rea", false, "read, write, delete, action"},
		{"Microsoft.Compute/images", false, "read, write, delete, action"},
		{"Microsoft.Compute/image/read", false, "did you mean 'images'?"},
		{"Microsoft.Compute/images/start/action", false, "knows read, write, delete"},
		{"Microsoft.Compute/galleries/images/versions/publish/action", false, "knows"},
		{"Microsoft.Compute/virtual*/read", false, "whole parts"},
		{"Micro*/read", false, "whole parts"},
		{"Microsoft.Compute/**", false, "whole parts"},
		{"Microsoft.Compute/galleries/read", true, "write it in Actions"},
		{"Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read", false, "write it in DataActions"},
	} {
		e := CheckAction(tt.action, tt.data)
		switch {
		case tt.want == "" && e != nil:
			t.Errorf("%q is refused: %v", tt.action, e)
		case tt.want != "" && (e == nil || e.Code != CodeBadAction || !strings.Contains(e.Message, tt.want) ||
			!strings.HasPrefix(e.Message, "'"+tt.action+"' does not match any of the actions supported by the providers.")):
			t.Errorf("%q: %v, want %q", tt.action, e, tt.want)
		}
	}
}

func TestBuiltInRolesAreWellFormed(t *testing.T) {
	names := map[string]bool{}
	for _, r := range BuiltIn() {
		if names[r.RoleName] || names[r.GUID()] || !isGUID([]byte(r.GUID())) || r.Description == "" {
			t.Errorf("%s (%s) is there twice or incomplete", r.RoleName, r.GUID())
		}
		names[r.RoleName], names[r.GUID()] = true, true
		for _, p := range r.Permissions {
			for _, a := range append(p.Actions, p.NotActions...) {
				if e := CheckAction(a, false); e != nil {
					t.Errorf("%s: %v", r.RoleName, e)
				}
			}
			for _, a := range append(p.DataActions, p.NotDataActions...) {
				if e := CheckAction(a, true); e != nil {
					t.Errorf("%s: %v", r.RoleName, e)
				}
			}
		}
	}
}

func TestCheckRole(t *testing.T) {
	other := custom(7, "Taken", Permission{Actions: []string{"*/read"}})
	good := func() Role { return custom(8, "Mine", Permission{Actions: []string{"Microsoft.Compute/images/read"}}) }
	for _, tt := range []struct {
		name   string
		change func(*Role)
		code   arm.Code
		at     string
	}{
		{"as it should be", func(*Role) {}, "", ""},
		{"scope of a group", func(r *Role) { r.AssignableScopes = []string{group} }, "", ""},
		{"scope of a resource", func(r *Role) { r.AssignableScopes = []string{group + "/providers/Microsoft.Compute/galleries/g"} }, "", ""},
		{"no name", func(r *Role) { r.RoleName = "" }, CodeRoleName, "/properties/roleName"},
		{"name with spaces around", func(r *Role) { r.RoleName = " Mine" }, CodeRoleName, "/properties/roleName"},
		{"name of another", func(r *Role) { r.RoleName = "tAKEN" }, CodeRoleNameTaken, "/properties/roleName"},
		{"name of a built-in role", func(r *Role) { r.RoleName = "reader" }, CodeRoleNameTaken, "/properties/roleName"},
		{"GUID of a built-in role", func(r *Role) { r.ID = sub + "/providers/" + TypeRole + "/" + Owner }, CodeRoleReadOnly, "/properties/roleName"},
		{"no scopes", func(r *Role) { r.AssignableScopes = nil }, CodeBadScope, "/properties/assignableScopes"},
		{"root scope", func(r *Role) { r.AssignableScopes = []string{"/"} }, CodeBadScope, "/properties/assignableScopes/0"},
		{"another subscription", func(r *Role) {
			r.AssignableScopes = []string{sub, "/subscriptions/22222222-2222-2222-2222-222222222222"}
		}, CodeBadScope, "/properties/assignableScopes/1"},
		{"no id", func(r *Role) { r.AssignableScopes = []string{"images"} }, CodeBadScope, "/properties/assignableScopes/0"},
		{"an empty group name", func(r *Role) { r.AssignableScopes = []string{sub + "/resourceGroups//x"} }, CodeBadScope, "/properties/assignableScopes/0"},
		{"no permissions", func(r *Role) { r.Permissions = nil }, CodeBadAction, "/properties/permissions"},
		{"no actions", func(r *Role) { r.Permissions = []Permission{{NotActions: []string{"*/read"}}} }, CodeBadAction, "/properties/permissions"},
		{"unknown action", func(r *Role) { r.Permissions[0].Actions = []string{"*/read", "Microsoft.Compute/imagse/read"} }, CodeBadAction, "/properties/permissions/0/actions/1"},
		{"bad wildcard", func(r *Role) { r.Permissions[0].NotActions = []string{"Microsoft.Comp*"} }, CodeBadAction, "/properties/permissions/0/notActions/0"},
		{"control action as data action", func(r *Role) { r.Permissions[0].DataActions = []string{"Microsoft.Compute/images/read"} }, CodeBadAction, "/properties/permissions/0/dataActions/0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := good()
			tt.change(&r)
			err := CheckRole(r, group, []Role{other, good()})
			if tt.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			e, ok := err.(*arm.Error)
			if !ok || e.Code != tt.code || e.Target != tt.at {
				t.Fatalf("error %v (%v), want %s at %s", err, arm.CodeOf(err), tt.code, tt.at)
			}
		})
	}
}

func TestCheckAssignment(t *testing.T) {
	role := custom(1, "Mine", Permission{Actions: []string{"*/read"}})
	role.AssignableScopes = []string{group}
	have := assign(1, alice, role.ID, group)
	for _, tt := range []struct {
		name string
		a    Assignment
		code arm.Code
	}{
		{"at the assignable scope", assign(2, team, role.ID, group), ""},
		{"below it", assign(2, alice, role.ID, group+"/providers/Microsoft.Compute/galleries/g"), ""},
		{"above it", assign(2, alice, role.ID, sub), CodeNotAssignable},
		{"beside it", assign(2, alice, role.ID, sub+"/resourceGroups/other"), CodeNotAssignable},
		{"written again", have, ""},
		{"the same with another name", assign(2, strings.ToUpper(alice), strings.ToUpper(role.ID), strings.ToUpper(group)), CodeAssignmentExists},
		{"to nobody", assign(2, "", role.ID, group), CodePrincipalMissing},
		{"at no scope", assign(2, alice, role.ID, sub+"/resourceGroups//providers/x"), arm.CodeInvalidResourceID},
	} {
		if got := arm.CodeOf(CheckAssignment(tt.a, role, []Assignment{have})); got != tt.code {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.code)
		}
	}
	if _, err := FindRole(sub+"/providers/"+TypeRole+"/nope", []Role{role}); !arm.IsCode(err, CodeRoleMissing) {
		t.Errorf("a missing role is found: %v", err)
	}
	if r, err := FindRole(sub+"/providers/"+TypeRole+"/"+strings.ToUpper(Reader), nil); err != nil || r.RoleName != "Reader" {
		t.Errorf("Reader is %v, %v", r, err)
	}
	if err := CheckUnused(role, []Assignment{have}); !arm.IsCode(err, CodeRoleInUse) {
		t.Errorf("a role in use may go: %v", err)
	}
	if err := CheckUnused(role, nil); err != nil {
		t.Error(err)
	}
}

func TestWireFormsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := custom(rapid.IntRange(0, 9).Draw(t, "n"), rapid.String().Draw(t, "name"), Permission{
			Actions: append([]string{}, listGen.Draw(t, "a")...), NotActions: append([]string{}, listGen.Draw(t, "na")...),
			DataActions: []string{}, NotDataActions: []string{},
		})
		back, err := ParseRole(r.ID, r.Properties())
		if err != nil {
			t.Fatal(err)
		}
		r.RoleName = strings.ToValidUTF8(r.RoleName, "\ufffd")
		if diff := cmp.Diff(r, back); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestAssignmentScopeComesFromTheID(t *testing.T) {
	a := assign(1, alice, Reader, group)
	raw, _ := json.Marshal(map[string]any{"roleDefinitionId": a.Role, "principalId": a.Principal, "condition": nil})
	got, err := ParseAssignment(a.ID, raw)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(a, got); diff != "" {
		t.Error(diff)
	}
	if s := AssignmentScope("/providers/" + TypeAssignment + "/x"); s != "/" {
		t.Errorf("scope %q of an assignment at tenant level", s)
	}
	for _, raw := range []string{"", "[]", `{"principalId":1}`} {
		if _, err := ParseAssignment(a.ID, json.RawMessage(raw)); !arm.IsCode(err, arm.CodeInvalidJSON) {
			t.Errorf("%q: %v", raw, err)
		}
		if _, err := ParseRole(a.ID, json.RawMessage(strings.ReplaceAll(raw, "principalId", "roleName"))); !arm.IsCode(err, arm.CodeInvalidJSON) {
			t.Errorf("%q: %v", raw, err)
		}
	}
}
