package rbac

import (
	"encoding/json"
	"strings"

	"goldsmith/internal/arm"
)

// exportedRole is one element of "az role definition list -o json", or of the
// REST list that it comes from.
type exportedRole struct {
	ID               string          `json:"id"`
	RoleName         string          `json:"roleName"`
	RoleType         string          `json:"roleType"`
	Description      string          `json:"description"`
	AssignableScopes []string        `json:"assignableScopes"`
	Permissions      []Permission    `json:"permissions"`
	Properties       json.RawMessage `json:"properties"`
}

// ParseRoleExport reads what "az role definition list -o json" prints, or a REST
// answer {"value": [...]}. Actions are not judged: a real subscription has more
// of them than this program knows.
func ParseRoleExport(raw []byte) ([]Role, error) {
	list, err := parseList[exportedRole](raw, "az role definition list -o json")
	if err != nil {
		return nil, err
	}
	roles := make([]Role, 0, len(list))
	for _, e := range list {
		r := Role{
			ID: e.ID, RoleName: e.RoleName, Description: e.Description, BuiltIn: strings.EqualFold(e.RoleType, builtInRole),
			AssignableScopes: e.AssignableScopes, Permissions: e.Permissions,
		}
		if e.Properties != nil {
			if r, err = ParseRole(e.ID, e.Properties); err != nil {
				return nil, err
			}
		}
		if r.GUID() == "" || r.RoleName == "" {
			return nil, arm.Errorf(arm.CodeValidationFailed, "a role definition of the export has no id or no roleName: write it with az role definition list -o json")
		}
		roles = append(roles, r)
	}
	return roles, nil
}

// exportedAssignment is one element of "az role assignment list --all -o json".
type exportedAssignment struct {
	ID               string          `json:"id"`
	Scope            string          `json:"scope"`
	RoleDefinitionID string          `json:"roleDefinitionId"`
	PrincipalID      string          `json:"principalId"`
	PrincipalName    string          `json:"principalName"`
	PrincipalType    string          `json:"principalType"`
	Condition        *string         `json:"condition"`
	Properties       json.RawMessage `json:"properties"`
}

// managementGroup begins the scopes above subscriptions.
const managementGroup = "/providers/microsoft.management/managementgroups/"

// ParseAssignmentExport reads what "az role assignment list --all -o json"
// prints, or a REST answer {"value": [...]}. The builder's service principal,
// whose object id differs from tenant to tenant, is told by its application id
// and gets BuilderObject; an assignment at a management group, which az lists
// only where it applies, holds everywhere.
func ParseAssignmentExport(raw []byte) ([]Assignment, error) {
	list, err := parseList[exportedAssignment](raw, "az role assignment list --all -o json")
	if err != nil {
		return nil, err
	}
	out := make([]Assignment, 0, len(list))
	for _, e := range list {
		a := Assignment{ID: e.ID, Scope: e.Scope, Role: e.RoleDefinitionID, Principal: e.PrincipalID, PrincipalType: e.PrincipalType}
		if e.Condition != nil {
			a.Condition = *e.Condition
		}
		if e.Properties != nil {
			if a, err = ParseAssignment(e.ID, e.Properties); err != nil {
				return nil, err
			}
		}
		if a.Scope == "" || a.Role == "" || a.Principal == "" {
			return nil, arm.Errorf(arm.CodeValidationFailed, "a role assignment of the export lacks scope, roleDefinitionId or principalId: write it with az role assignment list --all -o json").At(a.ID)
		}
		if strings.EqualFold(e.PrincipalName, BuilderApp) {
			a.Principal = BuilderObject
		}
		if strings.HasPrefix(strings.ToLower(a.Scope), managementGroup) {
			a.Scope = "/"
		}
		out = append(out, a)
	}
	return out, nil
}

// parseList reads a JSON array, or the "value" of an object.
func parseList[T any](raw []byte, command string) ([]T, error) {
	var list []T
	err := json.Unmarshal(raw, &list)
	if err != nil {
		var page struct {
			Value *[]T `json:"value"`
		}
		if json.Unmarshal(raw, &page) == nil && page.Value != nil {
			return *page.Value, nil
		}
		return nil, arm.Errorf(arm.CodeInvalidJSON, "this is not the output of %q: %w", command, err)
	}
	return list, nil
}
