package blobapi_test

import (
	"bytes"
	"context"
	"crypto/md5"
	"crypto/rand"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	sdkblob "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blockblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/blob"
	"goldsmith/internal/blob/blobtest"
)

func dirWorld(t testing.TB) *world {
	t.Helper()
	blobs, err := blob.OpenDir(filepath.Join(t.TempDir(), "accounts"), blobtest.Renderer{})
	ok(t, err)
	return newWorld(t, blobs)
}

func download(t testing.TB, c *azblob.Client, container, name string, o *azblob.DownloadStreamOptions) ([]byte, azblob.DownloadStreamResponse) {
	t.Helper()
	resp, err := c.DownloadStream(t.Context(), container, name, o)
	ok(t, err)
	raw, err := io.ReadAll(resp.Body)
	ok(t, err)
	ok(t, resp.Body.Close())
	return raw, resp
}

func TestSDKUploadsAndDownloads(t *testing.T) {
	w := dirWorld(t)
	c, ctx := w.keyClient(t), t.Context()
	_, err := c.CreateContainer(ctx, "data", nil)
	ok(t, err)
	_, err = c.CreateContainer(ctx, "data", nil)
	wantCode(t, err, "ContainerAlreadyExists")

	big := make([]byte, 3<<20+17)
	_, err = rand.Read(big)
	ok(t, err)
	for _, content := range [][]byte{{}, []byte("hello"), big} {
		name := "dir one/f é+%2F.txt"
		_, err := c.UploadStream(ctx, "data", name, bytes.NewReader(content), &azblob.UploadStreamOptions{
			BlockSize: 1 << 20, Concurrency: 3, Metadata: map[string]*string{"Owner": to.Ptr("me")},
			HTTPHeaders: &sdkblob.HTTPHeaders{BlobContentType: to.Ptr("text/x-test"), BlobCacheControl: to.Ptr("no-store"), BlobContentLanguage: to.Ptr("en")},
		})
		ok(t, err)
		got, resp := download(t, c, "data", name, nil)
		if !bytes.Equal(got, content) || *resp.ContentType != "text/x-test" || *resp.CacheControl != "no-store" || *resp.Metadata["Owner"] != "me" {
			t.Fatalf("%d bytes, %v, %v", len(got), *resp.ContentType, resp.Metadata)
		}
		_, err = c.UploadBuffer(ctx, "data", "buffer", content, &azblob.UploadBufferOptions{BlockSize: 1 << 20})
		ok(t, err)
		back := make([]byte, len(content))
		_, err = c.DownloadBuffer(ctx, "data", "buffer", back, &azblob.DownloadBufferOptions{BlockSize: 700 << 10, Concurrency: 4})
		ok(t, err)
		if !bytes.Equal(back, content) {
			t.Fatal("the buffer came back changed")
		}
	}
	part, resp := download(t, c, "data", "buffer", &azblob.DownloadStreamOptions{Range: azblob.HTTPRange{Offset: 1 << 20, Count: 100}})
	if !bytes.Equal(part, big[1<<20:1<<20+100]) || *resp.ContentRange != "bytes 1048576-1048675/3145745" {
		t.Fatalf("%d bytes, %s", len(part), *resp.ContentRange)
	}
	_, err = c.DownloadStream(ctx, "data", "buffer", &azblob.DownloadStreamOptions{Range: azblob.HTTPRange{Offset: int64(len(big))}})
	wantCode(t, err, "InvalidRange")
	_, err = c.DownloadStream(ctx, "data", "none", nil)
	wantCode(t, err, "BlobNotFound")
	_, err = c.DownloadStream(ctx, "none", "none", nil)
	wantCode(t, err, "ContainerNotFound")
	_, err = c.DeleteBlob(ctx, "data", "buffer", nil)
	ok(t, err)
	_, err = c.DeleteBlob(ctx, "data", "buffer", nil)
	wantCode(t, err, "BlobNotFound")
	_, err = c.DeleteContainer(ctx, "data", nil)
	ok(t, err)
	_, err = c.DeleteContainer(ctx, "data", nil)
	wantCode(t, err, "ContainerNotFound")
}

func TestSDKBlocks(t *testing.T) {
	w := memoryWorld(t)
	ctx := t.Context()
	cc := w.keyClient(t).ServiceClient().NewContainerClient("data")
	_, err := cc.Create(ctx, nil)
	ok(t, err)
	b := cc.NewBlockBlobClient("a/b")
	stage := func(id, content string, o *blockblob.StageBlockOptions) error {
		_, err := b.StageBlock(ctx, id, readSeeker(content), o)
		return err
	}
	ok(t, stage("YTE=", "one", nil))
	ok(t, stage("YjI=", "two", &blockblob.StageBlockOptions{TransactionalValidation: sdkblob.TransferValidationTypeComputeCRC64()}))
	sum := md5.Sum([]byte("other"))
	wantCode(t, stage("YzM=", "three", &blockblob.StageBlockOptions{TransactionalValidation: sdkblob.TransferValidationTypeMD5(sum[:])}), "Md5Mismatch")
	wantCode(t, stage("YzM=", "three", &blockblob.StageBlockOptions{TransactionalValidation: sdkblob.TransferValidationTypeCRC64(7)}), "Crc64Mismatch")
	wantCode(t, stage("!", "x", nil), "InvalidQueryParameterValue")
	list, err := b.GetBlockList(ctx, blockblob.BlockListTypeAll, nil)
	ok(t, err)
	if len(list.UncommittedBlocks) != 2 || *list.UncommittedBlocks[0].Name != "YTE=" || *list.UncommittedBlocks[1].Size != 3 || len(list.CommittedBlocks) != 0 {
		t.Fatalf("%+v", list.BlockList)
	}
	_, err = b.GetProperties(ctx, nil)
	if err == nil {
		t.Fatal("staged blocks are visible")
	}
	_, err = b.CommitBlockList(ctx, []string{"YTE=", "enp6"}, nil)
	wantCode(t, err, "InvalidBlockList")
	_, err = b.CommitBlockList(ctx, []string{"YjI=", "YTE="}, &blockblob.CommitBlockListOptions{Metadata: map[string]*string{"a": to.Ptr("b")}})
	ok(t, err)
	list, err = b.GetBlockList(ctx, blockblob.BlockListTypeAll, nil)
	ok(t, err)
	if len(list.CommittedBlocks) != 2 || len(list.UncommittedBlocks) != 0 || *list.BlobContentLength != 6 {
		t.Fatalf("%+v", list)
	}
	raw, _ := download(t, w.keyClient(t), "data", "a/b", nil)
	if string(raw) != "twoone" {
		t.Fatalf("%q", raw)
	}
}

func readSeeker(s string) io.ReadSeekCloser {
	return struct {
		io.ReadSeeker
		io.Closer
	}{bytes.NewReader([]byte(s)), io.NopCloser(nil)}
}

func TestSDKConditionsPropertiesAndMetadata(t *testing.T) {
	w := memoryWorld(t)
	ctx := t.Context()
	cc := w.keyClient(t).ServiceClient().NewContainerClient("data")
	_, err := cc.Create(ctx, nil)
	ok(t, err)
	b := cc.NewBlockBlobClient("x")
	upload := func(content string, cond *sdkblob.ModifiedAccessConditions) (blockblob.UploadResponse, error) {
		return b.Upload(ctx, readSeeker(content), &blockblob.UploadOptions{AccessConditions: &sdkblob.AccessConditions{ModifiedAccessConditions: cond}})
	}
	_, err = upload("x", &sdkblob.ModifiedAccessConditions{IfMatch: to.Ptr(azcore.ETag(`"0x1"`))})
	wantCode(t, err, "ConditionNotMet")
	first, err := upload("one", &sdkblob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)})
	ok(t, err)
	if sum := md5.Sum([]byte("one")); !bytes.Equal(first.ContentMD5, sum[:]) {
		t.Errorf("MD5 %x", first.ContentMD5)
	}
	_, err = upload("two", &sdkblob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)})
	wantCode(t, err, "BlobAlreadyExists")
	second, err := upload("two", &sdkblob.ModifiedAccessConditions{IfMatch: first.ETag})
	ok(t, err)
	_, err = upload("three", &sdkblob.ModifiedAccessConditions{IfMatch: first.ETag})
	wantCode(t, err, "ConditionNotMet")
	_, err = upload("three", &sdkblob.ModifiedAccessConditions{IfUnmodifiedSince: to.Ptr(time.Now().Add(-time.Hour))})
	wantCode(t, err, "ConditionNotMet")
	_, err = upload("three", &sdkblob.ModifiedAccessConditions{IfModifiedSince: to.Ptr(time.Now().Add(time.Hour))})
	wantCode(t, err, "ConditionNotMet")
	_, err = b.GetProperties(ctx, &sdkblob.GetPropertiesOptions{AccessConditions: &sdkblob.AccessConditions{ModifiedAccessConditions: &sdkblob.ModifiedAccessConditions{IfNoneMatch: second.ETag}}})
	wantCode(t, err, "NotModified")

	_, err = b.SetMetadata(ctx, map[string]*string{"k": to.Ptr("v")}, nil)
	ok(t, err)
	_, err = b.SetHTTPHeaders(ctx, sdkblob.HTTPHeaders{BlobContentType: to.Ptr("text/y"), BlobContentDisposition: to.Ptr("attachment")}, nil)
	ok(t, err)
	p, err := b.GetProperties(ctx, nil)
	ok(t, err)
	if *p.ContentType != "text/y" || *p.ContentDisposition != "attachment" || *p.Metadata["K"] != "v" || *p.ETag == *second.ETag || *p.ContentLength != 3 ||
		*p.BlobType != sdkblob.BlobTypeBlockBlob || p.CreationTime == nil || *p.LeaseState != "available" {
		t.Fatalf("%+v", p)
	}
	_, err = b.Delete(ctx, &sdkblob.DeleteOptions{AccessConditions: &sdkblob.AccessConditions{ModifiedAccessConditions: &sdkblob.ModifiedAccessConditions{IfMatch: first.ETag}}})
	wantCode(t, err, "ConditionNotMet")
	_, err = b.SetMetadata(ctx, map[string]*string{"big": to.Ptr(string(bytes.Repeat([]byte("x"), 9000)))}, nil)
	wantCode(t, err, "MetadataTooLarge")
}

func TestSDKLists(t *testing.T) {
	w := memoryWorld(t)
	ctx := t.Context()
	s := w.keyClient(t).ServiceClient()
	for _, name := range []string{"data", "logs", "log2"} {
		_, err := s.CreateContainer(ctx, name, &container.CreateOptions{Metadata: map[string]*string{"a": to.Ptr("b")}})
		ok(t, err)
	}
	var containers []string
	for p := s.NewListContainersPager(&service.ListContainersOptions{Prefix: to.Ptr("log"), MaxResults: to.Ptr(int32(1)), Include: service.ListContainersInclude{Metadata: true}}); p.More(); {
		page, err := p.NextPage(ctx)
		ok(t, err)
		for _, c := range page.ContainerItems {
			containers = append(containers, *c.Name+*c.Metadata["a"])
		}
	}
	if diff := cmp.Diff([]string{"log2b", "logsb"}, containers); diff != "" {
		t.Error(diff)
	}
	cc := s.NewContainerClient("data")
	names := []string{"a", "a & <b>", "dir/1", "dir/2", "dir/sub/3", "z", "ünï"}
	for _, name := range names {
		_, err := cc.NewBlockBlobClient(name).UploadBuffer(ctx, []byte(name), nil)
		ok(t, err)
	}
	var flat []string
	for p := cc.NewListBlobsFlatPager(&container.ListBlobsFlatOptions{MaxResults: to.Ptr(int32(2)), Include: container.ListBlobsInclude{Metadata: true}}); p.More(); {
		page, err := p.NextPage(ctx)
		ok(t, err)
		for _, b := range page.Segment.BlobItems {
			flat = append(flat, *b.Name)
			if *b.Properties.ContentLength != int64(len(*b.Name)) || b.Properties.ETag == nil {
				t.Errorf("%s: %+v", *b.Name, b.Properties)
			}
		}
	}
	if diff := cmp.Diff(names, flat); diff != "" {
		t.Error(diff)
	}
	for _, tt := range []struct {
		prefix string
		want   []string
	}{{"", []string{"a", "a & <b>", "z", "ünï", "dir/"}}, {"dir/", []string{"dir/1", "dir/2", "dir/sub/"}}} {
		var tree []string
		p := cc.NewListBlobsHierarchyPager("/", &container.ListBlobsHierarchyOptions{Prefix: &tt.prefix})
		for p.More() {
			page, err := p.NextPage(ctx)
			ok(t, err)
			for _, b := range page.Segment.BlobItems {
				tree = append(tree, *b.Name)
			}
			for _, b := range page.Segment.BlobPrefixes {
				tree = append(tree, *b.Name)
			}
		}
		if diff := cmp.Diff(tt.want, tree); diff != "" {
			t.Error(diff)
		}
	}
}

func TestSDKContainersAndService(t *testing.T) {
	w := memoryWorld(t)
	ctx := t.Context()
	s := w.keyClient(t).ServiceClient()
	cc := s.NewContainerClient("data")
	_, err := cc.Create(ctx, nil)
	ok(t, err)
	_, err = cc.SetMetadata(ctx, &container.SetMetadataOptions{Metadata: map[string]*string{"m": to.Ptr("1")}})
	ok(t, err)
	_, err = cc.SetAccessPolicy(ctx, &container.SetAccessPolicyOptions{Access: to.Ptr(container.PublicAccessTypeBlob), ContainerACL: []*container.SignedIdentifier{
		{ID: to.Ptr("readers"), AccessPolicy: &container.AccessPolicy{Expiry: to.Ptr(time.Now().Add(time.Hour)), Permission: to.Ptr("r")}},
	}})
	ok(t, err)
	acl, err := cc.GetAccessPolicy(ctx, nil)
	ok(t, err)
	if len(acl.SignedIdentifiers) != 1 || *acl.SignedIdentifiers[0].ID != "readers" || *acl.BlobPublicAccess != container.PublicAccessTypeBlob {
		t.Errorf("%+v", acl)
	}
	p, err := cc.GetProperties(ctx, nil)
	ok(t, err)
	if *p.Metadata["M"] != "1" || *p.BlobPublicAccess != container.PublicAccessTypeBlob || *p.LeaseState != "available" {
		t.Errorf("%+v", p)
	}
	if sp, err := s.GetProperties(ctx, nil); err != nil || *sp.DeleteRetentionPolicy.Enabled {
		t.Errorf("%+v, %v", sp, err)
	}
	if a, err := s.GetAccountInfo(ctx, nil); err != nil || *a.AccountKind != service.AccountKindStorageV2 {
		t.Errorf("%+v, %v", a, err)
	}
	_, err = s.SetProperties(ctx, nil)
	if err == nil {
		t.Error("service properties can be set")
	}
}

func TestSDKCopies(t *testing.T) {
	w := memoryWorld(t)
	ctx := t.Context()
	c := w.keyClient(t)
	cc := c.ServiceClient().NewContainerClient("data")
	_, err := cc.Create(ctx, nil)
	ok(t, err)
	src := cc.NewBlockBlobClient("dir/src")
	_, err = src.UploadBuffer(ctx, []byte("0123456789"), &blockblob.UploadBufferOptions{Metadata: map[string]*string{"m": to.Ptr("1")}})
	ok(t, err)
	dst := cc.NewBlockBlobClient("dst")
	started, err := dst.StartCopyFromURL(ctx, src.URL(), nil)
	ok(t, err)
	if *started.CopyStatus != sdkblob.CopyStatusTypeSuccess || *started.CopyID == "" {
		t.Fatalf("%+v", started)
	}
	p, err := dst.GetProperties(ctx, nil)
	ok(t, err)
	if *p.CopyStatus != sdkblob.CopyStatusTypeSuccess || *p.Metadata["M"] != "1" || *p.CopySource != endpoint+"data/dir/src" {
		t.Errorf("%+v", p)
	}
	raw, _ := download(t, c, "data", "dst", nil)
	if string(raw) != "0123456789" {
		t.Fatalf("%q", raw)
	}
	_, err = dst.StageBlockFromURL(ctx, "YTE=", src.URL(), &blockblob.StageBlockFromURLOptions{Range: azblob.HTTPRange{Offset: 2, Count: 3}})
	ok(t, err)
	_, err = dst.CommitBlockList(ctx, []string{"YTE="}, nil)
	ok(t, err)
	if raw, _ := download(t, c, "data", "dst", nil); string(raw) != "234" {
		t.Errorf("%q", raw)
	}
	_, err = dst.UploadBlobFromURL(ctx, src.URL(), nil)
	ok(t, err)
	// A view is copied as one.
	_, err = w.blobs.PutReference(ctx, blob.Name{Account: name, Container: "data", Blob: "image.vhd"}, blob.Reference{Format: "vhd", Image: "abc", Size: 7}, false)
	ok(t, err)
	_, err = dst.StartCopyFromURL(ctx, cc.NewBlobClient("image.vhd").URL(), nil)
	ok(t, err)
	if raw, _ := download(t, c, "data", "dst", nil); string(raw) != "abcabca" {
		t.Errorf("%q", raw)
	}
	if i, err := w.blobs.Stat(context.WithoutCancel(ctx), blob.Name{Account: name, Container: "data", Blob: "dst"}); err != nil || i.Reference == nil {
		t.Errorf("the view was copied as bytes: %+v, %v", i, err)
	}
	for url, code := range map[string]string{
		"https://example.com/x/y":  "CannotVerifyCopySource",
		endpoint + "data/none":     "ResourceNotFound",
		endpoint + "data":          "InvalidHeaderValue",
		endpoint + "data/..%2Fx":   "InvalidResourceName",
		"http://example.com/data/": "InvalidHeaderValue",
	} {
		_, err := dst.StartCopyFromURL(ctx, url, nil)
		wantCode(t, err, code)
	}
	// The key of one account opens no other.
	other := accountID[:len(accountID)-len(name)] + "other01"
	w.addAccount(t, other, `{}`)
	ok(t, w.blobs.CreateContainer(ctx, "other01", "data"))
	_, err = w.blobs.Put(ctx, blob.Name{Account: "other01", Container: "data", Blob: "x"}, bytes.NewReader([]byte("secret")), blob.PutOptions{})
	ok(t, err)
	_, err = dst.StartCopyFromURL(ctx, "https://other01.blob."+suffix+"/data/x", nil)
	wantCode(t, err, "CannotVerifyCopySource")
}
