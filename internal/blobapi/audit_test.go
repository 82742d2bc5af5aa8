package blobapi_test

import (
	"encoding/json"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"goldsmith/internal/audit"
	"goldsmith/internal/authorization"
	"goldsmith/internal/blob"
	"goldsmith/internal/blob/blobtest"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
	"goldsmith/internal/store"
)

// Whoever comes with a key, with a signature or to what is public is in the audit,
// by the key's name or the user's id; no signature, key or token is.
func TestKeysAndSignaturesAreInTheAudit(t *testing.T) {
	ctx := t.Context()
	db, err := store.Open(ctx, filepath.Join(t.TempDir(), "goldsmith.db"))
	ok(t, err)
	t.Cleanup(func() { ok(t, db.Close()) })
	access := authorization.Open(db)
	t.Cleanup(func() { ok(t, access.Close()) })
	everybody := &people{rights: map[string][]string{"user": nil}}
	w := newDecided(t, withAccount(t), db.Resources(), everybody, access)
	ok(t, w.blobs.CreateContainer(ctx, name, "data"))
	_, err = w.blobs.NewContainer(ctx, name, "open", blob.ContainerSettings{Access: blob.AccessBlob})
	ok(t, err)
	_, err = w.blobs.Put(ctx, blob.Name{Account: name, Container: "open", Blob: "x"}, strings.NewReader("in data"), blob.PutOptions{})
	ok(t, err)
	_, err = w.blobs.Put(ctx, blob.Name{Account: name, Container: "data", Blob: "x"}, strings.NewReader("in data"), blob.PutOptions{})
	ok(t, err)
	owner, _ := rbac.BuiltInRole("Storage Blob Data Owner")
	_, _, err = w.store.Put(ctx, resource.Record{
		ID: accountID + "/providers/" + rbac.TypeAssignment + "/a", Type: rbac.TypeAssignment, Name: "a",
		Properties: []byte(`{"roleDefinitionId":"` + owner.GUID() + `","principalId":"user"}`),
	}, resource.Condition{})
	ok(t, err)

	secrets := []string{w.key, "in data"}
	cred, err := azblob.NewSharedKeyCredential(name, w.key)
	ok(t, err)
	later := time.Now().Add(time.Hour)
	get := func(status int, signed string) {
		t.Helper()
		values, err := url.ParseQuery(signed)
		ok(t, err)
		secrets = append(secrets, values.Get("sig"), url.QueryEscape(values.Get("sig")))
		if resp, body := w.do(t, "GET", endpoint+"data/x?"+signed, ""); resp.StatusCode != status {
			t.Errorf("%d %s", resp.StatusCode, body)
		}
	}

	// A key.
	_, err = w.keyClient(t).DownloadStream(ctx, "data", "x", nil)
	ok(t, err)
	// A service signature, which lets read; one that lets write only.
	for status, permissions := range map[int]string{200: "r", 403: "w"} {
		v, err := sas.BlobSignatureValues{ExpiryTime: later, ContainerName: "data", BlobName: "x", Permissions: permissions}.SignWithSharedKey(cred)
		ok(t, err)
		get(status, v.Encode())
	}
	// An account signature.
	v, err := sas.AccountSignatureValues{ExpiryTime: later, Permissions: "r", ResourceTypes: "o"}.SignWithSharedKey(cred)
	ok(t, err)
	get(200, v.Encode())
	// A user's signature.
	udc, err := w.tokenClient(t, "user").ServiceClient().GetUserDelegationCredential(ctx, service.KeyInfo{
		Start: to.Ptr(time.Now().Add(-time.Minute).UTC().Format(sas.TimeFormat)), Expiry: to.Ptr(later.UTC().Format(sas.TimeFormat)),
	}, nil)
	ok(t, err)
	v, err = sas.BlobSignatureValues{ExpiryTime: later, ContainerName: "data", BlobName: "x", Permissions: "r"}.SignWithUserDelegation(udc)
	ok(t, err)
	get(200, v.Encode())
	// A forged signature is nobody's.
	get(403, strings.Replace(v.Encode(), "sig=", "sig=A", 1))
	// Nobody in particular: what is refused leaves nothing.
	for path, status := range map[string]int{"open/x": 200, "data/x": 409} {
		if resp, body := w.do(t, "GET", endpoint+path, ""); resp.StatusCode != status {
			t.Errorf("%s: %d %s", path, resp.StatusCode, body)
		}
	}

	ok(t, access.Flush(ctx))
	records, err := access.Journal().List(ctx, audit.Query{})
	ok(t, err)
	var got []string
	for _, r := range records {
		got = append(got, strings.Join([]string{r.Decision(), r.Principal, strings.TrimPrefix(r.Action, actions), strings.TrimPrefix(r.Scope, accountID), r.Role, r.Why}, "|"))
		line, err := json.Marshal(r)
		ok(t, err)
		for _, s := range secrets {
			if strings.Contains(string(line), s) {
				t.Errorf("%q is in the audit: %s", s, line)
			}
		}
	}
	const data = "/blobServices/default/containers/data"
	want := []string{
		"allow|" + name + "/key1|containers/blobs/read|" + data + "|account key|GET blob, account key",
		"allow|" + name + "/key1|containers/blobs/read|" + data + "|service SAS|GET blob, service SAS",
		"deny|" + name + "/key1|containers/blobs/read|" + data + "||GET blob, service SAS",
		"allow|" + name + "/key1|containers/blobs/read|" + data + "|account SAS|GET blob, account SAS",
		"allow|" + name + "/anonymous|containers/blobs/read|/blobServices/default/containers/open|public access|GET blob, public access",
		"allow|user|generateUserDelegationKey/action||Storage Blob Data Owner|POST account",
		"allow|user|containers/blobs/read|" + data + "|Storage Blob Data Owner|GET blob, user delegation SAS",
	}
	less := func(a, b string) bool { return a < b }
	if diff := cmp.Diff(want, got, cmpopts.SortSlices(less)); diff != "" {
		t.Error(diff)
	}
}

// withAccount is blobs in memory with the account in them.
func withAccount(t *testing.T) *blob.Accounts {
	t.Helper()
	blobs := blob.NewMemory(blobtest.Renderer{})
	ok(t, blobs.CreateAccount(t.Context(), name))
	return blobs
}
