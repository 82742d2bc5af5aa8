// Package rbac decides who may do what: role definitions, built-in and custom,
// assignments, and a compiled Policy whose Check answers for one action at one
// scope. Names and rules are those of Azure role-based access control. It is
// pure: no I/O, no clock.
package rbac

import (
	"encoding/json"
	"strings"

	"goldsmith/internal/arm"
)

// The first-party application of the Image Builder service. Up to
// 2019-05-01-preview it does everything for a template; later it makes the
// staging group only.
const (
	BuilderApp    = "cf32a0cc-373c-47c9-9156-0db11f6a6dfc" // application id, the same in every tenant
	BuilderObject = "ef511139-6170-438e-a6e1-763dc31bdf74" // object id of its service principal here
	BuilderName   = "Azure Virtual Machine Image Builder"  // its display name
)

// Resource types of this package's records.
const (
	TypeRole       = "Microsoft.Authorization/roleDefinitions"
	TypeAssignment = "Microsoft.Authorization/roleAssignments"
)

// Role is a role definition.
type Role struct {
	// ID is its resource id; its last segment is the GUID that assignments name.
	ID          string
	RoleName    string // display name, unique in the tenant
	Description string
	BuiltIn     bool
	// AssignableScopes are the scopes at and below which it can be assigned.
	AssignableScopes []string
	Permissions      []Permission
}

// Permission is one element of a role's permissions. What it grants is Actions
// without NotActions, and DataActions without NotDataActions.
type Permission struct {
	Actions        []string `json:"actions"`
	NotActions     []string `json:"notActions"`
	DataActions    []string `json:"dataActions"`
	NotDataActions []string `json:"notDataActions"`
}

// GUID is the last segment of the role's id, in lower case.
func (r Role) GUID() string { return lastSegment(r.ID) }

// lastSegment is the last segment of an id, in lower case.
func lastSegment(id string) string {
	id = strings.TrimRight(id, "/")
	return strings.ToLower(id[strings.LastIndexByte(id, '/')+1:])
}

// roleProperties is a role's properties object on the wire.
type roleProperties struct {
	RoleName         string       `json:"roleName"`
	Type             string       `json:"type"`
	Description      string       `json:"description"`
	AssignableScopes []string     `json:"assignableScopes"`
	Permissions      []Permission `json:"permissions"`
}

// Values of a role's type on the wire.
const (
	customRole  = "CustomRole"
	builtInRole = "BuiltInRole"
)

// ParseRole reads the properties object of the role definition id. The error is
// CodeInvalidJSON; CheckRole judges the content.
func ParseRole(id string, properties json.RawMessage) (Role, error) {
	var p roleProperties
	if err := json.Unmarshal(properties, &p); err != nil {
		return Role{}, arm.Errorf(arm.CodeInvalidJSON, "the properties of the role definition do not parse: %w", err).At(id)
	}
	return Role{
		ID: id, RoleName: p.RoleName, Description: p.Description, BuiltIn: strings.EqualFold(p.Type, builtInRole),
		AssignableScopes: p.AssignableScopes, Permissions: p.Permissions,
	}, nil
}

// Properties is the role's properties object on the wire. Lists are never null.
func (r Role) Properties() json.RawMessage {
	p := roleProperties{
		RoleName: r.RoleName, Type: customRole, Description: r.Description,
		AssignableScopes: orEmpty(r.AssignableScopes), Permissions: make([]Permission, len(r.Permissions)),
	}
	if r.BuiltIn {
		p.Type = builtInRole
	}
	for i, q := range r.Permissions {
		p.Permissions[i] = Permission{
			Actions: orEmpty(q.Actions), NotActions: orEmpty(q.NotActions),
			DataActions: orEmpty(q.DataActions), NotDataActions: orEmpty(q.NotDataActions),
		}
	}
	raw, err := json.Marshal(p)
	if err != nil {
		panic("rbac: a role of strings does not encode: " + err.Error())
	}
	return raw
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
