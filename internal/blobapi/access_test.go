package blobapi_test

import (
	"bytes"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"

	"goldsmith/internal/blob"
	"goldsmith/internal/blob/account"
	"goldsmith/internal/blob/signature"
	"goldsmith/internal/resource"
)

// seeded is a world with the private containers data and more, each with blob x.
func seeded(t *testing.T) *world {
	t.Helper()
	w := memoryWorld(t)
	for _, c := range []string{"data", "more"} {
		ok(t, w.blobs.CreateContainer(t.Context(), name, c))
		_, err := w.blobs.Put(t.Context(), blob.Name{Account: name, Container: c, Blob: "x"}, strings.NewReader("in "+c), blob.PutOptions{})
		ok(t, err)
	}
	return w
}

func TestEveryOperationNeedsItsOwnRight(t *testing.T) {
	w := seeded(t)
	list := `<BlockList/>`
	for _, tt := range []struct {
		method, path, body string
		header             []string
		action             string
		level              string // of its scope
		status             int
	}{
		{"GET", "data/x", "", nil, readBlobs, "data", 200},
		{"HEAD", "data/x", "", nil, readBlobs, "data", 200},
		{"GET", "data/x?comp=metadata", "", nil, readBlobs, "data", 200},
		{"GET", "data/x?comp=blocklist", "", nil, readBlobs, "data", 200},
		{"GET", "data?restype=container&comp=list", "", nil, readBlobs, "data", 200},
		{"PUT", "data/new", "hi", []string{"x-ms-blob-type", "BlockBlob"}, writeBlobs, "data", 201},
		{"PUT", "data/new?comp=block&blockid=YQ==", "hi", nil, writeBlobs, "data", 201},
		{"PUT", "data/x?comp=metadata", "", nil, writeBlobs, "data", 200},
		{"PUT", "data/x?comp=properties", "", nil, writeBlobs, "data", 200},
		{"PUT", "data/new?comp=blocklist", list, nil, writeBlobs, "data", 201},
		{"DELETE", "data/new", "", nil, deleteBlobs, "data", 202},
		{"GET", "data?restype=container", "", nil, actions + "containers/read", "data", 200},
		{"GET", "data?restype=container&comp=metadata", "", nil, actions + "containers/read", "data", 200},
		{"PUT", "data?restype=container&comp=metadata", "", nil, actions + "containers/write", "data", 200},
		{"GET", "data?restype=container&comp=acl", "", nil, actions + "containers/getAcl/action", "data", 200},
		{"PUT", "data?restype=container&comp=acl", "", nil, actions + "containers/setAcl/action", "data", 200},
		{"PUT", "fresh?restype=container", "", nil, actions + "containers/write", "fresh", 201},
		{"DELETE", "fresh?restype=container", "", nil, actions + "containers/delete", "fresh", 202},
		{"GET", "?comp=list", "", nil, actions + "containers/read", "", 200},
		{"GET", "?restype=service&comp=properties", "", nil, actions + "read", "", 200},
		{"GET", "?restype=account&comp=properties", "", nil, actions + "getInfo/action", "", 200},
		{"POST", "?restype=service&comp=userdelegationkey", "<KeyInfo><Expiry>" + time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + "</Expiry></KeyInfo>", nil,
			actions + "generateUserDelegationKey/action", "", 200},
	} {
		where := accountID
		if tt.level != "" {
			where = scope + tt.level
		}
		header := append([]string{"Authorization", "Bearer somebody"}, tt.header...)
		w.people.grant("somebody", actions+"other "+where)
		resp, body := w.do(t, tt.method, endpoint+tt.path, tt.body, header...)
		if code := resp.Header.Get("x-ms-error-code"); resp.StatusCode != 403 || code != "AuthorizationPermissionMismatch" {
			t.Errorf("%s %s without the right: %d %s %s", tt.method, tt.path, resp.StatusCode, code, body)
		}
		if tt.method != "HEAD" && (!strings.Contains(body, tt.action) || !strings.Contains(body, where) || !strings.Contains(body, "somebody")) {
			t.Errorf("%s %s: the refusal does not say what is missing: %s", tt.method, tt.path, body)
		}
		if tt.level != "" { // a right to another container is none
			w.people.grant("somebody", tt.action+" "+scope+"more")
			if resp, _ := w.do(t, tt.method, endpoint+tt.path, tt.body, header...); resp.StatusCode != 403 {
				t.Errorf("%s %s with the right elsewhere: %d", tt.method, tt.path, resp.StatusCode)
			}
		}
		w.people.grant("somebody", tt.action+" "+where)
		if resp, body := w.do(t, tt.method, endpoint+tt.path, tt.body, header...); resp.StatusCode != tt.status {
			t.Errorf("%s %s: %d %s, want %d", tt.method, tt.path, resp.StatusCode, body, tt.status)
		}
	}
}

func TestTheRightToCreateReplacesNothing(t *testing.T) {
	w := seeded(t)
	w.people.grant("adder", addBlobs+" "+scope)
	c := w.tokenClient(t, "adder")
	_, err := c.UploadBuffer(t.Context(), "data", "new", []byte("1"), nil)
	ok(t, err)
	_, err = c.UploadBuffer(t.Context(), "data", "new", []byte("2"), nil)
	wantCode(t, err, "AuthorizationPermissionMismatch")
	_, err = c.UploadStream(t.Context(), "data", "x", bytes.NewReader(make([]byte, 3<<20)), &azblob.UploadStreamOptions{BlockSize: 1 << 20})
	wantCode(t, err, "AuthorizationPermissionMismatch")
}

func TestTokensAndKeysThatAreNone(t *testing.T) {
	w := seeded(t)
	now := time.Now().UTC().Format(http.TimeFormat)
	signed := "SharedKey " + name + ":" + base64.StdEncoding.EncodeToString(make([]byte, 32))
	for what, tt := range map[string]struct {
		header []string
		status int
		code   string
	}{
		"nothing":         {nil, 409, "PublicAccessNotPermitted"},
		"forged token":    {[]string{"Authorization", "Bearer forged"}, 401, "InvalidAuthenticationInfo"},
		"another scheme":  {[]string{"Authorization", "Basic eDp5"}, 403, "AuthenticationFailed"},
		"forged key":      {[]string{"Authorization", signed, "x-ms-date", now}, 403, "AuthenticationFailed"},
		"forged lite":     {[]string{"Authorization", strings.Replace(signed, "Key", "KeyLite", 1), "x-ms-date", now}, 403, "AuthenticationFailed"},
		"another account": {[]string{"Authorization", strings.Replace(signed, name, "other", 1), "x-ms-date", now}, 403, "AuthenticationFailed"},
		"no date":         {[]string{"Authorization", signed}, 403, "AuthenticationFailed"},
		"old":             {[]string{"Authorization", signed, "x-ms-date", time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)}, 403, "AuthenticationFailed"},
	} {
		resp, body := w.do(t, "GET", endpoint+"data/x", "", tt.header...)
		if code := resp.Header.Get("x-ms-error-code"); resp.StatusCode != tt.status || code != tt.code || strings.Contains(body, "in data") {
			t.Errorf("%s: %d %s %s", what, resp.StatusCode, code, body)
		}
		if tt.status == 401 && !strings.Contains(resp.Header.Get("WWW-Authenticate"), "Bearer authorization_uri=https://login.test/tenant") {
			t.Errorf("%s: %q", what, resp.Header.Get("WWW-Authenticate"))
		}
	}
	// A key that was regenerated opens nothing any more.
	c := w.keyClient(t)
	_, err := c.DownloadStream(t.Context(), "data", "x", nil)
	ok(t, err)
	_, err = account.Regenerate(t.Context(), w.store, accountID, "key1")
	ok(t, err)
	_, err = c.DownloadStream(t.Context(), "data", "x", nil)
	wantCode(t, err, "AuthenticationFailed")
	setAccount(t, w, `{"allowSharedKeyAccess":false}`)
	_, err = c.DownloadStream(t.Context(), "data", "x", nil)
	wantCode(t, err, "KeyBasedAuthenticationNotPermitted")
}

func setAccount(t *testing.T, w *world, properties string) {
	t.Helper()
	_, err := w.store.Update(t.Context(), accountID, func(r *resource.Record) error {
		r.Properties = []byte(properties)
		return nil
	})
	ok(t, err)
}

func TestSharedKeyLite(t *testing.T) {
	w := seeded(t)
	key, err := base64.StdEncoding.DecodeString(w.key)
	ok(t, err)
	date := time.Now().UTC().Format(http.TimeFormat)
	text := "GET\n\n\n\nx-ms-date:" + date + "\nx-ms-version:2021-08-06\n/" + name + "/data/x?comp=metadata"
	resp, body := w.do(t, "GET", endpoint+"data/x?comp=metadata", "", "x-ms-date", date, "x-ms-version", "2021-08-06",
		"Authorization", "SharedKeyLite "+name+":"+signature.Sign(key, text))
	if resp.StatusCode != 200 || resp.Header.Get("x-ms-version") != "2021-08-06" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestPublicContainers(t *testing.T) {
	w := seeded(t)
	open := func(a blob.Access) {
		t.Helper()
		_, err := w.blobs.UpdateContainer(t.Context(), name, "data", func(i *blob.ContainerInfo) error { i.Access = a; return nil })
		ok(t, err)
	}
	status := func(method, path string) int {
		t.Helper()
		resp, _ := w.do(t, method, endpoint+path, "")
		return resp.StatusCode
	}
	for _, tt := range []struct {
		access     blob.Access
		blob, list int
	}{{blob.AccessNone, 409, 409}, {blob.AccessBlob, 200, 409}, {blob.AccessContainer, 200, 200}} {
		open(tt.access)
		if got := status("GET", "data/x"); got != tt.blob {
			t.Errorf("%q: blob %d", tt.access, got)
		}
		if got := status("GET", "data?restype=container&comp=list"); got != tt.list {
			t.Errorf("%q: list %d", tt.access, got)
		}
		if a, b, c := status("DELETE", "data/x"), status("PUT", "data/x?comp=metadata"), status("GET", "more/x"); a != 409 || b != 409 || c != 409 {
			t.Errorf("%q opens too much: %d %d %d", tt.access, a, b, c)
		}
	}
	setAccount(t, w, `{"allowBlobPublicAccess":false}`)
	if got := status("GET", "data/x"); got != 409 {
		t.Errorf("an account that allows none: %d", got)
	}
	_, err := w.keyClient(t).CreateContainer(t.Context(), "public", &azblob.CreateContainerOptions{Access: to.Ptr(azblob.PublicAccessTypeBlob)})
	wantCode(t, err, "PublicAccessNotPermitted")
}

func TestSignatures(t *testing.T) {
	w := seeded(t)
	ctx := t.Context()
	cred, err := azblob.NewSharedKeyCredential(name, w.key)
	ok(t, err)
	w.people.grant("delegator", actions+"generateUserDelegationKey/action "+accountID, readBlobs+" "+scope+"data")
	udc, err := w.tokenClient(t, "delegator").ServiceClient().GetUserDelegationCredential(ctx, service.KeyInfo{
		Start: to.Ptr(time.Now().Add(-time.Minute).UTC().Format(sas.TimeFormat)), Expiry: to.Ptr(time.Now().Add(time.Hour).UTC().Format(sas.TimeFormat)),
	}, nil)
	ok(t, err)
	later := time.Now().Add(time.Hour)
	values := func(change func(*sas.BlobSignatureValues)) sas.BlobSignatureValues {
		v := sas.BlobSignatureValues{ExpiryTime: later, ContainerName: "data", BlobName: "x", Permissions: "r", Protocol: sas.ProtocolHTTPS}
		if change != nil {
			change(&v)
		}
		return v
	}
	for _, tt := range []struct {
		name   string
		change func(*sas.BlobSignatureValues)
		path   string
		status int
		code   string
	}{
		{"its blob", nil, "data/x", 200, ""},
		{"another blob", nil, "data/y", 403, "AuthenticationFailed"},
		{"another container", nil, "more/x", 403, "AuthenticationFailed"},
		{"the list", nil, "data?restype=container&comp=list", 403, "AuthorizationResourceTypeMismatch"},
		{"container", func(v *sas.BlobSignatureValues) { v.BlobName, v.Permissions = "", "rl" }, "data/x", 200, ""},
		{"container's list", func(v *sas.BlobSignatureValues) { v.BlobName, v.Permissions = "", "l" }, "data?restype=container&comp=list", 200, ""},
		{"a blob by list right", func(v *sas.BlobSignatureValues) { v.BlobName, v.Permissions = "", "l" }, "data/x", 403, "AuthorizationPermissionMismatch"},
		{"another container by container", func(v *sas.BlobSignatureValues) { v.BlobName = "" }, "more/x", 403, "AuthenticationFailed"},
		{"no read right", func(v *sas.BlobSignatureValues) { v.Permissions = "w" }, "data/x", 403, "AuthorizationPermissionMismatch"},
		{"expired", func(v *sas.BlobSignatureValues) { v.ExpiryTime = time.Now().Add(-time.Second) }, "data/x", 403, "AuthenticationFailed"},
		{"not yet", func(v *sas.BlobSignatureValues) { v.StartTime = later }, "data/x", 403, "AuthenticationFailed"},
		{"from here", func(v *sas.BlobSignatureValues) { v.IPRange = sas.IPRange{Start: []byte{127, 0, 0, 1}} }, "data/x", 200, ""},
		{"from elsewhere", func(v *sas.BlobSignatureValues) {
			v.IPRange = sas.IPRange{Start: []byte{10, 0, 0, 1}, End: []byte{10, 0, 0, 9}}
		}, "data/x", 403, "AuthorizationSourceIPMismatch"},
		{"headers", func(v *sas.BlobSignatureValues) { v.ContentDisposition = "attachment; filename=y" }, "data/x", 200, ""},
	} {
		for kind, sign := range map[string]func(sas.BlobSignatureValues) (sas.QueryParameters, error){
			"key":        func(v sas.BlobSignatureValues) (sas.QueryParameters, error) { return v.SignWithSharedKey(cred) },
			"delegation": func(v sas.BlobSignatureValues) (sas.QueryParameters, error) { return v.SignWithUserDelegation(udc) },
		} {
			for _, version := range []string{"2020-12-06", "2022-11-02", ""} {
				if version != "" && kind == "delegation" {
					continue // the SDK signs only the newest form
				}
				v := values(tt.change)
				v.Version = version
				q, err := sign(v)
				ok(t, err)
				sep := "?"
				if strings.Contains(tt.path, "?") {
					sep = "&"
				}
				resp, body := w.do(t, "GET", endpoint+tt.path+sep+q.Encode(), "")
				if code := resp.Header.Get("x-ms-error-code"); resp.StatusCode != tt.status || code != tt.code {
					t.Errorf("%s, %s %s: %d %s %s", tt.name, kind, version, resp.StatusCode, code, body)
				}
				if tt.name == "headers" && resp.Header.Get("Content-Disposition") != "attachment; filename=y" {
					t.Errorf("%v", resp.Header)
				}
			}
		}
	}
	q, err := values(nil).SignWithUserDelegation(udc)
	ok(t, err)
	// The delegator loses the right, and the signature with it; so it does when the
	// account's delegation keys are revoked.
	w.people.grant("delegator")
	if resp, _ := w.do(t, "GET", endpoint+"data/x?"+q.Encode(), ""); resp.StatusCode != 403 {
		t.Errorf("without the delegator's right: %d", resp.StatusCode)
	}
	w.people.grant("delegator", readBlobs+" "+scope+"data")
	ok(t, account.RevokeDelegation(ctx, w.store, accountID))
	if resp, _ := w.do(t, "GET", endpoint+"data/x?"+q.Encode(), ""); resp.Header.Get("x-ms-error-code") != "AuthenticationFailed" {
		t.Errorf("revoked: %d", resp.StatusCode)
	}
	// Whoever changes a signature has none.
	q, err = values(nil).SignWithSharedKey(cred)
	ok(t, err)
	for _, change := range []func(url.Values){
		func(v url.Values) { v.Set("sp", "rwd") }, func(v url.Values) { v.Set("se", "2099-01-01T00:00:00Z") }, func(v url.Values) { v.Set("sr", "c") },
		func(v url.Values) { v.Add("sp", "w") }, func(v url.Values) { v.Set("sv", "2015-02-21") }, func(v url.Values) { v.Set("rsct", "text/html") },
		func(v url.Values) { v.Set("skoid", "delegator") }, func(v url.Values) { v.Set("ss", "b"); v.Set("srt", "o") }, func(v url.Values) { v.Del("sv") },
	} {
		params, err := url.ParseQuery(q.Encode())
		ok(t, err)
		change(params)
		if resp, _ := w.do(t, "GET", endpoint+"data/x?"+params.Encode(), ""); resp.Header.Get("x-ms-error-code") != "AuthenticationFailed" {
			t.Errorf("%s: %d", params.Encode(), resp.StatusCode)
		}
	}
}

func TestAccountSignatures(t *testing.T) {
	w := seeded(t)
	ctx := t.Context()
	for _, tt := range []struct{ permissions, types, list, read, service string }{
		{"rl", "sco", "", "", ""},
		{"rl", "o", "AuthorizationResourceTypeMismatch", "", "AuthorizationResourceTypeMismatch"},
		{"l", "sco", "", "AuthorizationPermissionMismatch", "AuthorizationPermissionMismatch"},
	} {
		u, err := w.keyClient(t).ServiceClient().GetSASURL(resourceTypes(t, tt.types), permissions(t, tt.permissions), time.Now().Add(time.Hour), nil)
		ok(t, err)
		s := w.sasClient(t, u)
		check := func(what string, err error, code string) {
			t.Helper()
			if code == "" {
				ok(t, err)
			} else {
				wantCode(t, err, code)
			}
		}
		_, err = s.NewContainerClient("data").NewListBlobsFlatPager(nil).NextPage(ctx)
		check("list", err, tt.list)
		_, err = s.NewContainerClient("data").NewBlobClient("x").GetProperties(ctx, nil)
		check("read", err, tt.read)
		_, err = s.GetProperties(ctx, nil)
		check("service", err, tt.service)
	}
}

func permissions(t *testing.T, s string) sas.AccountPermissions {
	t.Helper()
	return sas.AccountPermissions{Read: strings.Contains(s, "r"), List: strings.Contains(s, "l")}
}

func resourceTypes(t *testing.T, s string) sas.AccountResourceTypes {
	t.Helper()
	return sas.AccountResourceTypes{Service: strings.Contains(s, "s"), Container: strings.Contains(s, "c"), Object: strings.Contains(s, "o")}
}

func TestStoredAccessPolicies(t *testing.T) {
	w := seeded(t)
	ctx := t.Context()
	cc := w.keyClient(t).ServiceClient().NewContainerClient("data")
	set := func(expiry time.Time) {
		t.Helper()
		_, err := cc.SetAccessPolicy(ctx, &container.SetAccessPolicyOptions{ContainerACL: []*container.SignedIdentifier{
			{ID: to.Ptr("p"), AccessPolicy: &container.AccessPolicy{Expiry: &expiry, Permission: to.Ptr("r")}},
		}})
		ok(t, err)
	}
	cred, err := azblob.NewSharedKeyCredential(name, w.key)
	ok(t, err)
	q, err := sas.BlobSignatureValues{ContainerName: "data", BlobName: "x", Identifier: "p"}.SignWithSharedKey(cred)
	ok(t, err)
	get := func() string {
		t.Helper()
		resp, _ := w.do(t, "GET", endpoint+"data/x?"+q.Encode(), "")
		return resp.Header.Get("x-ms-error-code")
	}
	if got := get(); got != "AuthenticationFailed" {
		t.Errorf("without the policy: %s", got)
	}
	set(time.Now().Add(time.Hour))
	if got := get(); got != "" {
		t.Errorf("with the policy: %s", got)
	}
	set(time.Now().Add(-time.Hour))
	if got := get(); got != "AuthenticationFailed" {
		t.Errorf("with an expired policy: %s", got)
	}
}
