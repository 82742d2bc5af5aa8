package identity

import (
	"testing"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
)

func TestTokensOfManagedIdentities(t *testing.T) {
	s, _, _, _ := tenantFor(t)
	const id = "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/vm"
	if _, err := s.IdentityToken(t.Context(), id, "https://storage.azure.com/"); !arm.IsCode(err, arm.CodeNotFound) {
		t.Errorf("no identity: %v", err)
	}
	_, _, err := s.Directory().Resources.Put(t.Context(), resource.Record{
		ID: id, Type: "Microsoft.ManagedIdentity/userAssignedIdentities", Name: "vm",
		Properties: []byte(`{"principalId":"6c7d2a8e-3b07-4a51-9a3c-93a4a1ce3a01","clientId":"6c7d2a8e-3b07-4a51-9a3c-93a4a1ce3a02"}`),
	}, resource.Condition{})
	if err != nil {
		t.Fatal(err)
	}
	token, err := s.IdentityToken(t.Context(), id, "https://storage.azure.com/")
	if err != nil {
		t.Fatal(err)
	}
	caller, err := s.Storage().Token(t.Context(), token.Access)
	if err != nil || caller.ObjectID != "6c7d2a8e-3b07-4a51-9a3c-93a4a1ce3a01" {
		t.Errorf("%+v, %v", caller, err)
	}
	if _, err := s.Management().Token(t.Context(), token.Access); err == nil {
		t.Error("a token for storage manages resources")
	}
}
