package rbac

import (
	"encoding/json"
	"strings"

	"goldsmith/internal/arm"
)

// Assignment gives a principal a role at a scope and everything below it.
type Assignment struct {
	ID            string // resource id
	Scope         string // "/" or the id of a subscription, group, resource or sub-resource
	Role          string // id of the role definition; only its GUID counts
	Principal     string // object id of a user, group or service principal
	PrincipalType string // "User", "Group" or "ServicePrincipal", "" when unknown
	// Condition is an expression that restricts the grant. This program evaluates
	// none, so an assignment that has one grants nothing.
	Condition string
}

// assignmentProperties is an assignment's properties object on the wire.
type assignmentProperties struct {
	RoleDefinitionID string  `json:"roleDefinitionId"`
	PrincipalID      string  `json:"principalId"`
	PrincipalType    string  `json:"principalType,omitempty"`
	Scope            string  `json:"scope,omitempty"`
	Condition        *string `json:"condition"`
}

// ParseAssignment reads the properties object of the role assignment id. A
// missing scope is taken from the id. The error is CodeInvalidJSON.
func ParseAssignment(id string, properties json.RawMessage) (Assignment, error) {
	var p assignmentProperties
	if err := json.Unmarshal(properties, &p); err != nil {
		return Assignment{}, arm.Errorf(arm.CodeInvalidJSON, "the properties of the role assignment do not parse: %w", err).At(id)
	}
	a := Assignment{ID: id, Scope: p.Scope, Role: p.RoleDefinitionID, Principal: p.PrincipalID, PrincipalType: p.PrincipalType}
	if p.Condition != nil {
		a.Condition = *p.Condition
	}
	if a.Scope == "" {
		a.Scope = AssignmentScope(id)
	}
	return a, nil
}

// AssignmentScope is the scope in the id of a role assignment: what stands
// before its last "/providers/Microsoft.Authorization/roleAssignments/"; "/" for
// an id at tenant level.
func AssignmentScope(id string) string {
	i := strings.LastIndex(strings.ToLower(id), "/providers/"+strings.ToLower(TypeAssignment)+"/")
	if i <= 0 {
		return "/"
	}
	return id[:i]
}

// Covers reports whether what is granted at scope holds at id: they are the same
// or id lies below scope, in any case.
func Covers(scope, id string) bool {
	s, t := scopeKey(scope), scopeKey(id)
	return s == "" || s == t || strings.HasPrefix(t, s+"/")
}

// scopeKey is a scope in lower case without a trailing slash; "" for the root.
func scopeKey(scope string) string { return strings.TrimRight(strings.ToLower(scope), "/") }
