package rbac

import (
	"fmt"
	"slices"
	"strings"

	"goldsmith/internal/arm"
)

// Limits of a custom role.
const (
	maxRoleName    = 512
	maxDescription = 2048
	maxActions     = 2048 // per list
)

// CheckRole says why the custom role r cannot be stored; nil when it can. scope
// is where it is defined, a subscription or something below; all are the custom
// roles that there are, of which the one with r's GUID is r before the change.
func CheckRole(r Role, scope string, all []Role) error {
	if e := checkRoleName(r, all); e != nil {
		return e
	}
	if len(r.Description) > maxDescription {
		return arm.Errorf(arm.CodeValidationFailed, "the description has %d bytes, more than %d", len(r.Description), maxDescription).At("/properties/description")
	}
	if e := checkScopes(r, scope); e != nil {
		return e
	}
	if len(r.Permissions) == 0 {
		return arm.Errorf(CodeBadAction, "the role grants nothing: it needs permissions with actions").At("/properties/permissions")
	}
	grants := 0
	for i, p := range r.Permissions {
		for _, list := range []struct {
			field   string
			actions []string
			data    bool
		}{
			{"actions", p.Actions, false}, {"notActions", p.NotActions, false},
			{"dataActions", p.DataActions, true}, {"notDataActions", p.NotDataActions, true},
		} {
			if len(list.actions) > maxActions {
				return arm.Errorf(CodeBadAction, "%d entries are more than %d", len(list.actions), maxActions).At(fmt.Sprintf("/properties/permissions/%d/%s", i, list.field))
			}
			for j, a := range list.actions {
				if e := CheckAction(a, list.data); e != nil {
					return e.At(fmt.Sprintf("/properties/permissions/%d/%s/%d", i, list.field, j))
				}
			}
		}
		grants += len(p.Actions) + len(p.DataActions)
	}
	if grants == 0 {
		return arm.Errorf(CodeBadAction, "the role grants nothing: actions and dataActions are empty").At("/properties/permissions")
	}
	return nil
}

func checkRoleName(r Role, all []Role) error {
	const at = "/properties/roleName"
	if r.RoleName == "" || len(r.RoleName) > maxRoleName || strings.TrimSpace(r.RoleName) != r.RoleName {
		return arm.Errorf(CodeRoleName, "a role's name has 1 to %d bytes and no spaces around it", maxRoleName).At(at)
	}
	if _, taken := BuiltInRole(r.GUID()); taken {
		return arm.Errorf(CodeRoleReadOnly, "%s is a built-in role, which cannot be changed: give the role another GUID", r.GUID()).At(at)
	}
	if _, taken := BuiltInRole(r.RoleName); taken {
		return nameTaken(r.RoleName, "a built-in role").At(at)
	}
	for _, other := range all {
		if strings.EqualFold(other.RoleName, r.RoleName) && other.GUID() != r.GUID() {
			return nameTaken(r.RoleName, other.ID).At(at)
		}
	}
	return nil
}

func nameTaken(name, by string) *arm.Error {
	return arm.Errorf(CodeRoleNameTaken, "A custom role with the same name already exists in this directory. Use a different name. '%s' is the name of %s", name, by)
}

// checkScopes judges AssignableScopes: at least one, none of them the root, and
// all within the subscription of scope.
func checkScopes(r Role, scope string) error {
	const at = "/properties/assignableScopes"
	if len(r.AssignableScopes) == 0 {
		return arm.Errorf(CodeBadScope, "AssignableScopes is empty: name the subscriptions and resource groups in which the role may be assigned").At(at)
	}
	sub := subscriptionOf(scope)
	for i, s := range r.AssignableScopes {
		here := fmt.Sprintf("%s/%d", at, i)
		if s == "/" {
			return arm.Errorf(CodeBadScope, "the root scope '/' is for built-in roles only: name a subscription or a resource group").At(here)
		}
		id, err := arm.ParseID(s)
		if err != nil || s[0] != '/' || id.Subscription == "" {
			return arm.Errorf(CodeBadScope, "'%s' is not the id of a subscription, a resource group or a resource", s).At(here)
		}
		if sub != "" && !strings.EqualFold(id.Subscription, sub) {
			return arm.Errorf(CodeBadScope, "'%s' is outside of subscription %s, in which the role is defined", s, sub).At(here)
		}
	}
	return nil
}

// subscriptionOf is the subscription's id in a scope, "" for none.
func subscriptionOf(scope string) string {
	parts := strings.Split(scope, "/")
	if len(parts) >= 3 && strings.EqualFold(parts[1], "subscriptions") {
		return parts[2]
	}
	return ""
}

// FindRole finds a role by the GUID at the end of id, among the built-in ones
// and custom. The error is CodeRoleMissing.
func FindRole(id string, custom []Role) (Role, error) {
	guid := lastSegment(id)
	if r, ok := BuiltInRole(guid); ok && strings.EqualFold(r.GUID(), guid) {
		return r, nil
	}
	if i := slices.IndexFunc(custom, func(r Role) bool { return r.GUID() == guid }); i >= 0 {
		return custom[i], nil
	}
	return Role{}, arm.Errorf(CodeRoleMissing, "The specified role definition with ID '%s' does not exist.", guid).At("/properties/roleDefinitionId")
}

// CheckAssignment says why a, of role r, cannot be stored beside existing; nil
// when it can. Codes are CodeNotAssignable, CodeAssignmentExists,
// CodePrincipalMissing (for an empty principal) and CodeInvalidResourceID.
func CheckAssignment(a Assignment, r Role, existing []Assignment) error {
	if a.Principal == "" {
		return ErrPrincipalMissing("", "")
	}
	if a.Scope != "/" {
		if _, err := arm.ParseID(a.Scope); err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(r.AssignableScopes, func(s string) bool { return Covers(s, a.Scope) }) {
		return arm.Errorf(CodeNotAssignable, "the role '%s' can be assigned at %s and below only, and not at %s: add that to its AssignableScopes",
			r.RoleName, strings.Join(r.AssignableScopes, ", "), a.Scope).At(a.ID)
	}
	for _, b := range existing {
		if strings.EqualFold(b.ID, a.ID) {
			continue // the same record written again
		}
		if scopeKey(a.Scope) == scopeKey(b.Scope) && lastSegment(a.Role) == lastSegment(b.Role) && strings.EqualFold(a.Principal, b.Principal) {
			return arm.Errorf(CodeAssignmentExists, "The role assignment already exists. The ID of the existing role assignment is %s.", lastSegment(b.ID)).At(a.ID)
		}
	}
	return nil
}

// ErrPrincipalMissing is the error of an assignment to a principal that the
// directory of a tenant does not have.
func ErrPrincipalMissing(principal, tenant string) error {
	return arm.Errorf(CodePrincipalMissing, "Principal %s does not exist in the directory %s. Check that you have the correct principal ID.", principal, tenant).At("/properties/principalId")
}

// CheckUnused says why the role cannot be deleted; nil when no assignment names
// it. The code is CodeRoleInUse.
func CheckUnused(role Role, assignments []Assignment) error {
	for _, a := range assignments {
		if lastSegment(a.Role) == role.GUID() {
			return arm.Errorf(CodeRoleInUse, "There are existing role assignments referencing role '%s', such as %s: delete them first", role.RoleName, a.ID).At(role.ID)
		}
	}
	return nil
}
