package build_test

import (
	"encoding/json"
	"strings"
	"testing"

	"goldsmith/internal/authorization"
	"goldsmith/internal/build"
	"goldsmith/internal/document"
	"goldsmith/internal/rbac"
	"goldsmith/internal/run"
)

// What is assigned to a group holds for the identity and the service principal
// in it, at submission and while the run works, as long as they are in it.
func TestAGroupsAssignmentsHoldForItsMembers(t *testing.T) {
	e := newEstate(t)
	e.Serve(1)
	members := e.Engine.Database().Documents(authorization.Memberships)
	const builders, all = "9b0b0b0b-0000-0000-0000-000000000001", "9b0b0b0b-0000-0000-0000-000000000002"
	put := func(member, group string) string {
		key := rbac.Membership{Member: member, Group: group}.Key()
		if _, err := members.Put(t.Context(), key, json.RawMessage(`{}`), document.Condition{}); err != nil {
			t.Fatal(err)
		}
		return key
	}
	put(builders, all)
	target := e.scenarios()[0].target
	for _, version := range []string{byService, byIdentity} {
		e.revoke()
		e.Assign(all, rbac.Contributor, e.group("dst"))
		if _, served := e.submit(e.template(version, nil, target, nil)); served.State != build.StateFailed {
			t.Errorf("%s: nobody is in the group: %s", version, served.State)
		}
		key := put(principalOf(version), builders)
		rec, served := e.submit(e.template(version, nil, target, nil))
		if served.State != build.StateSucceeded {
			t.Fatalf("%s: %+v", version, served.Problem)
		}
		if ended := e.mustRun(rec.ID); ended.State != run.Succeeded {
			t.Errorf("%s: %+v", version, ended)
		}
		if err := members.Delete(t.Context(), key, document.Condition{}); err != nil {
			t.Fatal(err)
		}
		if ended := e.mustRun(rec.ID); ended.State != run.Failed || !strings.Contains(ended.Message, "Microsoft.Compute/images/write") {
			t.Errorf("%s: out of the group: %s: %s", version, ended.State, ended.Message)
		}
	}
}
