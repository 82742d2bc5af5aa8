package buildtest

import (
	"encoding/json"
	"strings"

	"github.com/google/uuid"

	"goldsmith/internal/authorization"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
)

// IdentityObject is the object id of the lab's identity.
const IdentityObject = "1ab01ab0-0000-0000-0000-000000000001"

// Put writes a record with properties.
func (l *Lab) Put(id, typ string, properties any) {
	l.Helper()
	raw, err := json.Marshal(properties)
	if err != nil {
		l.Fatal(err)
	}
	rec := resource.Record{ID: id, Type: typ, Name: id[strings.LastIndexByte(id, '/')+1:], Location: Location, Properties: raw}
	if _, _, err := l.Engine.Resources().Put(l.Context(), rec, resource.Condition{}); err != nil {
		l.Fatal(err)
	}
}

// Register registers the service for every API version.
func (l *Lab) Register() {
	l.Helper()
	for _, version := range []string{"2019-05-01-preview", "2022-07-01"} {
		if _, err := authorization.Register(l.Context(), l.Engine.Resources(), l.Engine.Subscription(), version); err != nil {
			l.Fatal(err)
		}
	}
}

// PutIdentity makes the identity of the lab's templates and returns its id.
func (l *Lab) PutIdentity() string {
	l.Helper()
	id := l.ID("Microsoft.ManagedIdentity/userAssignedIdentities/builder")
	l.Put(id, "Microsoft.ManagedIdentity/userAssignedIdentities", Object{"principalId": IdentityObject, "clientId": uuid.NewString()})
	return id
}

// Assign gives a principal a role, built-in by its GUID or custom by its id, at
// a scope, and returns the assignment's id.
func (l *Lab) Assign(principal, role, scope string) string {
	l.Helper()
	id := strings.TrimRight(scope, "/") + "/providers/" + rbac.TypeAssignment + "/" + uuid.NewString()
	l.Put(id, rbac.TypeAssignment, Object{"roleDefinitionId": role, "principalId": principal})
	return id
}

// Allow registers the service, makes the lab's identity and lets it and the
// service principal do everything in the subscription.
func (l *Lab) Allow() {
	l.Helper()
	l.Register()
	l.PutIdentity()
	for _, principal := range []string{IdentityObject, rbac.BuilderObject} {
		l.Assign(principal, rbac.Owner, "/subscriptions/"+l.Engine.Subscription())
	}
}
