package providers_test

import (
	"strings"
	"testing"

	"goldsmith/internal/arm"
)

const accounts = rg + "/providers/Microsoft.Storage/storageAccounts/"

const accountBody = `{"sku":{"name":"Standard_LRS"},"kind":"StorageV2","location":"westus2","properties":{"encryption":{"services":{"blob":{}},"keySource":"Microsoft.Storage"}}}`

func TestStorageAccounts(t *testing.T) {
	d, blobs := door(t)
	check := s + "/providers/Microsoft.Storage/checkNameAvailability"
	name := `{"name":"acct1","type":"Microsoft.Storage/storageAccounts"}`
	if a := d.Want(200, "POST", check, name); a.Text != `{"nameAvailable":true}` {
		t.Error(a.Text)
	}
	a := d.Want(200, "PUT", accounts+"acct1", accountBody) // never 201
	if a.Field("properties.primaryEndpoints.blob") != "https://acct1.blob.local.test:8443/" || a.Field("sku.tier") != "Standard" || a.Field("kind") != "StorageV2" || a.Field("properties.encryption.keySource") != "Microsoft.Storage" {
		t.Error(a.Text)
	}
	if ok, err := blobs.HasAccount(t.Context(), "acct1"); err != nil || !ok {
		t.Errorf("the data plane has no account: %v", err)
	}
	if a := d.Want(200, "POST", check, name); a.Field("reason") != "AlreadyExists" {
		t.Error(a.Text)
	}
	if a := d.Want(200, "POST", check, `{"name":"No"}`); a.Field("reason") != "AccountNameInvalid" {
		t.Error(a.Text)
	}
	d.Want(201, "PUT", s+"/resourceGroups/h", `{"location":"westus2"}`)
	if a := d.Want(409, "PUT", s+"/resourceGroups/h/providers/Microsoft.Storage/storageAccounts/acct1", accountBody); a.Code() != "StorageAccountAlreadyTaken" {
		t.Error(a.Text)
	}
	d.Want(400, "PUT", accounts+"Acct2", accountBody)
	d.Want(400, "PUT", accounts+"acct2", `{"location":"westus2"}`)
	created := a.Field("properties.creationTime")
	if a := d.Want(200, "PATCH", accounts+"acct1", `{"properties":{"allowBlobPublicAccess":true}}`); a.Field("properties.allowBlobPublicAccess") != "true" || a.Field("properties.creationTime") != created || a.Field("sku.name") != "Standard_LRS" {
		t.Error(a.Text)
	}
	keys := d.Want(200, "POST", accounts+"acct1/listKeys?$expand=kerb", "")
	if len(keys.Field("keys.0.value")) != 88 || keys.Field("keys.1.keyName") != "key2" {
		t.Error(keys.Text)
	}
	if again := d.Want(200, "POST", accounts+"acct1/LISTKEYS", ""); again.Text != keys.Text {
		t.Error("the keys change by being asked for")
	}
	rolled := d.Want(200, "POST", accounts+"acct1/regenerateKey", `{"keyName":"key1"}`)
	if rolled.Field("keys.0.value") == keys.Field("keys.0.value") || rolled.Field("keys.1.value") != keys.Field("keys.1.value") {
		t.Error(rolled.Text)
	}
	d.Want(400, "POST", accounts+"acct1/regenerateKey", `{"keyName":"key9"}`)
	d.Want(404, "POST", accounts+"none1/listKeys", "")
	if text := d.Want(200, "GET", accounts+"acct1", "").Text + d.Want(200, "GET", s+"/providers/Microsoft.Storage/storageAccounts", "").Text; strings.Contains(text, keys.Field("keys.1.value")) {
		t.Error("a key is served with its account")
	}
	d.Want(200, "DELETE", accounts+"acct1", "")
	d.Want(204, "DELETE", accounts+"acct1", "")
	if ok, err := blobs.HasAccount(t.Context(), "acct1"); err != nil || ok {
		t.Errorf("the data plane still has the account: %v", err)
	}
}

func TestContainers(t *testing.T) {
	d, blobs := door(t)
	d.Want(200, "PUT", accounts+"acct1", accountBody)
	c := accounts + "acct1/blobServices/default/containers/"
	if a := d.Want(201, "PUT", c+"cont1", `{}`); a.Field("id") != c+"cont1" || a.Field("properties.publicAccess") != "None" || a.Field("etag") == "" {
		t.Error(a.Text)
	}
	d.Want(200, "PUT", c+"cont1", "")
	if a := d.Want(200, "PATCH", c+"cont1", `{"properties":{"publicAccess":"Blob","metadata":{"A":"1"}}}`); a.Field("properties.publicAccess") != "Blob" || a.Field("properties.metadata.a") != "1" {
		t.Error(a.Text)
	}
	if err := blobs.CreateContainer(t.Context(), "acct1", "bydata"); err != nil {
		t.Fatal(err)
	}
	if a := d.Want(200, "GET", accounts+"acct1/blobServices/default/containers", ""); a.Field("value.0.name") != "bydata" || a.Field("value.1.name") != "cont1" {
		t.Error(a.Text)
	}
	d.Want(200, "GET", accounts+"acct1/blobServices/default", "")
	d.Want(200, "GET", accounts+"acct1/blobServices", "")
	d.Want(400, "PUT", c+"No", `{}`)
	d.Want(400, "PUT", c+"cont2", `{"properties":{"publicAccess":"Everybody"}}`)
	d.Want(404, "PATCH", c+"cont2", `{}`)
	if a := d.Want(404, "GET", c+"cont2", ""); a.Code() != "ContainerNotFound" {
		t.Error(a.Text)
	}
	d.Want(404, "GET", accounts+"none1/blobServices/default/containers/cont1", "")
	d.Want(200, "DELETE", c+"cont1", "")
	d.Want(204, "DELETE", c+"cont1", "")

	// The data goes with the group.
	d.Follow(d.Want(202, "DELETE", rg, ""))
	if _, err := blobs.Containers(t.Context(), "acct1"); arm.CodeOf(err) != arm.CodeNotFound {
		t.Errorf("the account outlives its group: %v", err)
	}
}

// What guides tell users to look at and to register is there.
func TestKnownProviders(t *testing.T) {
	d, _ := door(t)
	for ns, state := range map[string]string{"Microsoft.Compute": "Registered", "Microsoft.Network": "Registered", "Microsoft.Storage": "Registered", "Microsoft.ManagedIdentity": "Registered", "Microsoft.KeyVault": "NotRegistered", "Microsoft.ContainerInstance": "NotRegistered"} {
		if a := d.Want(200, "GET", s+"/providers/"+ns, ""); a.Field("registrationState") != state {
			t.Errorf("%s: %s", ns, a.Field("registrationState"))
		}
	}
	d.Want(200, "POST", s+"/providers/Microsoft.KeyVault/register", "")
}
