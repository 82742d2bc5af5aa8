package identity

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
)

// Users, service principals, managed identities and groups are in groups; what a
// token's principal is in goes with its requests.
func TestMembers(t *testing.T) {
	s, p, secret, _ := tenantFor(t)
	d, ctx := s.Directory(), t.Context()
	const id, object = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/vm", "6c7d2a8e-3b07-4a51-9a3c-93a4a1ce3a01"
	_, _, err := d.Resources.Put(ctx, resource.Record{
		ID: id, Type: "Microsoft.ManagedIdentity/userAssignedIdentities", Name: "vm",
		Properties: []byte(`{"principalId":"` + object + `","clientId":"6c7d2a8e-3b07-4a51-9a3c-93a4a1ce3a02"}`),
	}, resource.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	inner, err := d.Create(ctx, Principal{Kind: Group, Name: "inner", ID: "aaaaaaaa-0000-4000-8000-000000000001"})
	if err != nil {
		t.Fatal(err)
	}
	outer, err := d.Create(ctx, Principal{Kind: Group, Name: "outer", ID: "aaaaaaaa-0000-4000-8000-000000000002"})
	if err != nil {
		t.Fatal(err)
	}
	add := func(group, member string) {
		t.Helper()
		if err := d.AddMember(ctx, group, member); err != nil {
			t.Fatal(err)
		}
	}
	vm, err := d.Find(ctx, id)
	if err != nil || vm.ID != object {
		t.Fatalf("%+v, %v", vm, err)
	}
	for _, member := range []string{p.ID, vm.ID, rbac.BuilderObject} {
		add(inner.ID, member)
	}
	add(outer.ID, inner.ID)
	add(inner.ID, outer.ID) // a circle ends
	add(inner.ID, p.ID)     // again
	both := []string{inner.ID, outer.ID}
	for _, ref := range []string{p.ID, id, rbac.BuilderApp} {
		got, err := d.Find(ctx, ref)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(both, got.Groups); diff != "" {
			t.Errorf("%s: %s", ref, diff)
		}
	}
	answer := signIn(t, s, p.App, secret, base+"/.default")
	caller, err := s.Management().Token(ctx, answer)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(both, caller.Groups); diff != "" {
		t.Error(diff)
	}
	token, err := s.IdentityToken(ctx, id, "https://storage.azure.com/")
	if err != nil {
		t.Fatal(err)
	}
	if caller, err = s.Storage().Token(ctx, token.Access); err != nil || !cmp.Equal(caller.Groups, both) {
		t.Errorf("%+v, %v", caller, err)
	}

	_, shown, _ := get(t, s, "/v1.0/groups/"+inner.ID+"/members", answer)
	names := []string{}
	for _, m := range shown["value"].([]any) {
		names = append(names, m.(map[string]any)["displayName"].(string))
	}
	if diff := cmp.Diff([]string{rbac.BuilderName, "deployer", "outer", "vm"}, names); diff != "" {
		t.Error(diff)
	}
	if status, _, _ := get(t, s, "/v1.0/groups/"+p.ID+"/members", answer); status != 404 {
		t.Errorf("members of what is no group: %d", status)
	}

	for what, err := range map[string]error{
		"a principal as a group": d.AddMember(ctx, p.ID, vm.ID), "a group in itself": d.AddMember(ctx, inner.ID, inner.ID),
	} {
		if !arm.IsCode(err, arm.CodeValidationFailed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := d.AddMember(ctx, "aaaaaaaa-0000-4000-8000-000000000009", vm.ID); !arm.IsCode(err, arm.CodeNotFound) {
		t.Error(err)
	}
	if err := d.RemoveMember(ctx, inner.ID, vm.ID); err != nil {
		t.Error(err)
	}
	if err := d.RemoveMember(ctx, inner.ID, vm.ID); !arm.IsCode(err, arm.CodeNotFound) {
		t.Error(err)
	}
	if vm, err = d.Find(ctx, id); err != nil || len(vm.Groups) > 0 {
		t.Errorf("%+v, %v", vm, err)
	}
	if err := d.Delete(ctx, inner.ID); err != nil {
		t.Fatal(err)
	}
	if left, err := d.memberships(ctx); err != nil || len(left) > 0 {
		t.Errorf("%+v, %v", left, err)
	}
}
