package blob_test

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"goldsmith/internal/blob"
	"goldsmith/internal/blob/blobtest"
)

// TestBlobsOfEarlierVersions reads what was written before blobs had records, and
// what a writer leaves that is killed while it replaces such a blob.
func TestBlobsOfEarlierVersions(t *testing.T) {
	dir := t.TempDir()
	a, err := blob.OpenDir(dir, blobtest.Renderer{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	ctx := t.Context()
	for name, content := range map[string]string{
		"m/account/.account": "", "m/account/c.vhds": "",
		"b/account/vhds/plain":      "old content",
		"b/account/vhds/view":       `{"format":"vhd","image":"abc","size":7}`,
		"b/account/vhds/view.attrs": `{"user.content_type":"application/vnd.goldsmith.reference+json"}`,
		"b/account/vhds/half":       "old content",
		"b/account/vhds/half.attrs": `{"user.content_type":"application/vnd.goldsmith.blob+json"}`,
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if info, err := a.Container(ctx, "account", "vhds"); err != nil || info.Access != blob.AccessNone || info.ETag == "" {
		t.Errorf("%+v, %v", info, err)
	}
	for name, want := range map[string]string{"plain": "old content", "half": "old content", "view": "abcabca"} {
		n := blob.Name{Account: "account", Container: "vhds", Blob: name}
		for _, what := range []string{"as it was", "with new metadata"} {
			r, info, err := a.Open(ctx, n, 0, -1)
			if err != nil {
				t.Fatalf("%s %s: %v", name, what, err)
			}
			raw, err := io.ReadAll(r)
			_ = r.Close()
			if err != nil || string(raw) != want || info.Size != int64(len(want)) || info.ContentType != "application/octet-stream" {
				t.Errorf("%s %s: %q, %+v, %v", name, what, raw, info, err)
			}
			if _, err := a.Update(ctx, n, func(i *blob.Info) error { i.Metadata = map[string]string{"a": "b"}; return nil }); err != nil {
				t.Fatal(err)
			}
		}
	}
	blobs, _, err := a.List(ctx, "account", "vhds", blob.ListOptions{})
	if err != nil || len(blobs) != 3 {
		t.Errorf("%+v, %v", blobs, err)
	}
}
