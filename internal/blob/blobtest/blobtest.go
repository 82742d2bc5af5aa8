// Package blobtest holds the conformance suite of blob.Store and of the accounts
// behind it.
package blobtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
	"goldsmith/internal/blob"
)

// Renderer is a fake that renders a reference of image "abc" as abcabcab...
type Renderer struct{}

// Render implements blob.Renderer. The image "broken" cannot be opened.
func (Renderer) Render(_ context.Context, r blob.Reference, offset, length int64) (io.ReadCloser, error) {
	if r.Image == "broken" {
		return nil, arm.Errorf(arm.CodeCorrupt, "the image is broken")
	}
	whole := strings.Repeat(r.Image, int(r.Size)/len(r.Image)+1)
	return io.NopCloser(strings.NewReader(whole[offset : offset+length])), nil
}

// Conformance is the suite; open makes empty accounts that render with Renderer.
func Conformance(t *testing.T, open func(t *testing.T) *blob.Accounts) {
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, a *blob.Accounts)
	}{
		{"PutOpenDelete", putOpenDelete}, {"Ranges", ranges}, {"OneCreatorWins", oneCreator}, {"FailedPut", failedPut},
		{"Names", names}, {"List", list}, {"Containers", containers}, {"References", references}, {"Refused", refused},
		{"Blocks", blocks}, {"Updates", updates}, {"ContainerSettings", containerSettings}, {"Collect", collect},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := open(t)
			t.Cleanup(func() {
				if err := a.Close(); err != nil {
					t.Error(err)
				}
			})
			ok(t, a.CreateAccount(t.Context(), account))
			ok(t, a.CreateContainer(t.Context(), account, container))
			tt.run(t, a)
		})
	}
}

const (
	account   = "stage0123"
	container = "packerlogs"
)

func at(name string) blob.Name { return blob.Name{Account: account, Container: container, Blob: name} }

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, code arm.Code) {
	t.Helper()
	if got := arm.CodeOf(err); got != code {
		t.Fatalf("error has code %q, want %q: %v", got, code, err)
	}
}

func put(t *testing.T, a *blob.Accounts, name, content string) blob.Info {
	t.Helper()
	info, err := a.Put(t.Context(), at(name), strings.NewReader(content), blob.PutOptions{})
	ok(t, err)
	return info
}

func read(t *testing.T, a *blob.Accounts, name string, offset, length int64) string {
	t.Helper()
	r, _, err := a.Open(t.Context(), at(name), offset, length)
	ok(t, err)
	raw, err := io.ReadAll(r)
	ok(t, errors.Join(err, r.Close()))
	return string(raw)
}

func putOpenDelete(t *testing.T, a *blob.Accounts) {
	ctx, n := t.Context(), at("run/customization.log")
	_, err := a.Stat(ctx, n)
	wantCode(t, err, arm.CodeNotFound)
	info, err := a.Put(ctx, n, strings.NewReader("hello"), blob.PutOptions{Properties: blob.Properties{ContentType: "text/plain"}})
	ok(t, err)
	if info.Name != n || info.Size != 5 || info.ContentType != "text/plain" || info.ETag == "" || info.ModTime.IsZero() || info.Reference != nil {
		t.Fatalf("%+v", info)
	}
	again, err := a.Stat(ctx, n)
	ok(t, err)
	if diff := cmp.Diff(info, again); diff != "" {
		t.Fatalf("put and stat differ:\n%s", diff)
	}
	if got := put(t, a, n.Blob, ""); got.Size != 0 || got.ContentType != "application/octet-stream" || got.ETag == info.ETag {
		t.Fatalf("%+v", got)
	}
	_, err = a.Put(ctx, n, strings.NewReader("x"), blob.PutOptions{IfNoneMatch: true})
	wantCode(t, err, arm.CodePreconditionFailed)
	ok(t, a.Delete(ctx, n))
	wantCode(t, a.Delete(ctx, n), arm.CodeNotFound)
	_, _, err = a.Open(ctx, n, 0, -1)
	wantCode(t, err, arm.CodeNotFound)
}

func ranges(t *testing.T, a *blob.Accounts) {
	put(t, a, "plain", "0123456789")
	put(t, a, "empty", "")
	_, err := a.PutReference(t.Context(), at("view"), blob.Reference{Format: "raw", Image: "0123456789", Size: 10}, false)
	ok(t, err)
	for _, name := range []string{"plain", "view"} {
		for _, tt := range []struct {
			offset, length int64
			want           string
		}{
			{0, -1, "0123456789"}, {3, 4, "3456"}, {8, 100, "89"}, {10, -1, ""}, {10, 5, ""}, {0, 0, ""}, {5, -1, "56789"},
		} {
			if got := read(t, a, name, tt.offset, tt.length); got != tt.want {
				t.Errorf("%s from %d, %d: %q, want %q", name, tt.offset, tt.length, got, tt.want)
			}
		}
		for _, bad := range [][2]int64{{11, -1}, {-1, 2}, {0, -2}} {
			_, _, err := a.Open(t.Context(), at(name), bad[0], bad[1])
			wantCode(t, err, arm.CodeValidationFailed)
		}
	}
	if got := read(t, a, "empty", 0, -1); got != "" {
		t.Errorf("empty blob: %q", got)
	}
}

func oneCreator(t *testing.T, a *blob.Accounts) {
	const racers = 8
	var wg sync.WaitGroup
	won := make(chan string, racers)
	for n := range racers {
		wg.Go(func() {
			content := strings.Repeat(fmt.Sprint(n), 10_000)
			_, err := a.Put(t.Context(), at("one"), strings.NewReader(content), blob.PutOptions{IfNoneMatch: true})
			if err == nil {
				won <- content
			} else if !arm.IsCode(err, arm.CodePreconditionFailed) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d creators", len(won))
	}
	if got := read(t, a, "one", 0, -1); got != <-won {
		t.Fatal("the content is not the winner's")
	}
}

func failedPut(t *testing.T, a *blob.Accounts) {
	put(t, a, "kept", "old")
	boom := errors.New("boom")
	broken := io.MultiReader(strings.NewReader("new"), iotest.ErrReader(boom))
	for _, name := range []string{"kept", "new"} {
		if _, err := a.Put(t.Context(), at(name), broken, blob.PutOptions{}); !errors.Is(err, boom) {
			t.Fatalf("put: %v", err)
		}
		broken = io.MultiReader(strings.NewReader("new"), iotest.ErrReader(boom))
	}
	ctx, cancel := context.WithCancel(t.Context())
	canceling := io.MultiReader(strings.NewReader("new"), readerFunc(func([]byte) (int, error) { cancel(); return 0, io.EOF }))
	_, err := a.Put(ctx, at("kept"), canceling, blob.PutOptions{})
	wantCode(t, err, arm.CodeCanceled)
	if got := read(t, a, "kept", 0, -1); got != "old" {
		t.Fatalf("content %q", got)
	}
	blobs, _, err := a.List(t.Context(), account, container, blob.ListOptions{})
	ok(t, err)
	if len(blobs) != 1 {
		t.Fatalf("a failed write left something: %+v", blobs)
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// strange are names that are legal in the Blob service and hard on file systems.
var strange = []string{
	"a", "a/b", "a/b/c", "a.b", "a-b", "A", "aB", "x.attrs", "x.attrs/y", "fileblob123", "dir/fileblob1", "a~/b", "a=/b", "a%2Fb", "a__0x2f__b",
	"a b", "ünï/日本", "..a", ".a", "a..", "con", strings.Repeat("n", 1024), strings.Repeat("é", 300) + "/" + strings.Repeat("m", 400), "a:b*c?d|e<f>\"g",
	strings.Repeat("x", 180) + "fileblob9",
}

func names(t *testing.T, a *blob.Accounts) {
	for _, name := range strange {
		put(t, a, name, "content of "+name)
	}
	want := map[string]int64{}
	for _, name := range strange {
		if got := read(t, a, name, 0, -1); got != "content of "+name {
			t.Errorf("%q holds %q", name, got)
		}
		want[name] = int64(len("content of " + name))
	}
	blobs, _, err := a.List(t.Context(), account, container, blob.ListOptions{})
	ok(t, err)
	got := map[string]int64{}
	for i, b := range blobs {
		got[b.Name.Blob] = b.Size
		if i > 0 && blobs[i-1].Name.Blob >= b.Name.Blob {
			t.Errorf("%q is listed after %q", b.Name.Blob, blobs[i-1].Name.Blob)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, name := range strange {
		ok(t, a.Delete(t.Context(), at(name)))
	}
}

func list(t *testing.T, a *blob.Accounts) {
	all := []string{"a", "a-b", "a/1", "a/2", "b"}
	for _, name := range all {
		put(t, a, name, "x")
	}
	pages := func(o blob.ListOptions) (got []string) {
		t.Helper()
		for {
			blobs, next, err := a.List(t.Context(), account, container, o)
			ok(t, err)
			for _, b := range blobs {
				got = append(got, b.Name.Blob)
			}
			if o.PageToken = next; next == "" {
				return got
			}
		}
	}
	for size := range len(all) + 2 {
		if diff := cmp.Diff(all, pages(blob.ListOptions{PageSize: size})); diff != "" {
			t.Errorf("pages of %d (-want +got):\n%s", size, diff)
		}
	}
	if diff := cmp.Diff([]string{"a/1", "a/2"}, pages(blob.ListOptions{Prefix: "a/", PageSize: 1})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for size := range 5 {
		var got []string
		for o := (blob.ListOptions{Delimiter: "/", PageSize: size}); ; {
			entries, next, err := a.ListPage(t.Context(), account, container, o)
			ok(t, err)
			for _, e := range entries {
				got = append(got, e.Prefix+e.Name.Blob)
			}
			if o.PageToken = next; next == "" {
				break
			}
		}
		if diff := cmp.Diff([]string{"a", "a-b", "a/", "b"}, got); diff != "" {
			t.Errorf("folded pages of %d (-want +got):\n%s", size, diff)
		}
	}
	_, _, err := a.List(t.Context(), account, container, blob.ListOptions{PageToken: "!"})
	wantCode(t, err, arm.CodeValidationFailed)
	_, _, err = a.List(t.Context(), account, "none", blob.ListOptions{})
	wantCode(t, err, arm.CodeNotFound)
}

func containers(t *testing.T, a *blob.Accounts) {
	ctx := t.Context()
	wantCode(t, a.CreateAccount(ctx, account), arm.CodeConflict)
	wantCode(t, a.CreateContainer(ctx, account, container), arm.CodeConflict)
	wantCode(t, a.CreateContainer(ctx, "other", "vhds"), arm.CodeNotFound)
	ok(t, a.CreateContainer(ctx, account, "fileblob1"))
	ok(t, a.CreateAccount(ctx, account+"0"))
	ok(t, a.CreateContainer(ctx, account+"0", "vhds"))
	got, err := a.Containers(ctx, account)
	ok(t, err)
	if diff := cmp.Diff([]string{"fileblob1", container}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	put(t, a, "a/b", "x")
	put(t, a, "a", "x")
	ok(t, a.DeleteContainer(ctx, account, container))
	wantCode(t, a.DeleteContainer(ctx, account, container), arm.CodeNotFound)
	_, err = a.Put(ctx, at("a"), strings.NewReader("x"), blob.PutOptions{})
	wantCode(t, err, arm.CodeNotFound)
	ok(t, a.CreateContainer(ctx, account, container))
	_, err = a.Stat(ctx, at("a/b"))
	wantCode(t, err, arm.CodeNotFound)
	put(t, a, "a", "x")
	ok(t, a.DeleteAccount(ctx, account))
	wantCode(t, a.DeleteAccount(ctx, account), arm.CodeNotFound)
	_, err = a.Containers(ctx, account)
	wantCode(t, err, arm.CodeNotFound)
	rest, err := a.Containers(ctx, account+"0")
	ok(t, err)
	if diff := cmp.Diff([]string{"vhds"}, rest); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func references(t *testing.T, a *blob.Accounts) {
	ctx, n := t.Context(), at("image.vhd")
	ref := blob.Reference{Format: "vhd", Image: "sha256:0", Size: 1<<20 + 512}
	info, err := a.PutReference(ctx, n, ref, true)
	ok(t, err)
	if info.Size != ref.Size || info.ContentType != "application/octet-stream" || info.Reference == nil || *info.Reference != ref {
		t.Fatalf("%+v", info)
	}
	if got := read(t, a, n.Blob, ref.Size-3, 100); len(got) != 3 {
		t.Fatalf("the end is %q", got)
	}
	_, err = a.PutReference(ctx, n, ref, true)
	wantCode(t, err, arm.CodePreconditionFailed)
	blobs, _, err := a.List(ctx, account, container, blob.ListOptions{})
	ok(t, err)
	if diff := cmp.Diff([]blob.Info{info}, blobs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, err = a.PutReference(ctx, at("b"), blob.Reference{Format: "raw", Image: "broken", Size: 1}, false)
	ok(t, err)
	_, _, err = a.Open(ctx, at("b"), 0, -1)
	wantCode(t, err, arm.CodeCorrupt)
	// Nobody but the program makes references.
	for _, kind := range []string{"application/vnd.goldsmith.reference+json", "Application/Vnd.Goldsmith.Reference+JSON; x=y", "rubbish; ;"} {
		_, err = a.Put(ctx, at("c"), bytes.NewReader([]byte(`{"image":"x"}`)), blob.PutOptions{Properties: blob.Properties{ContentType: kind}})
		wantCode(t, err, arm.CodeValidationFailed)
	}
	for _, bad := range []blob.Reference{{}, {Format: "raw", Image: "x", Size: -1}, {Format: "raw", Image: strings.Repeat("x", 5000)}} {
		_, err = a.PutReference(ctx, at("c"), bad, false)
		wantCode(t, err, arm.CodeInternal)
	}
	put(t, a, n.Blob, "plain again")
	if got := read(t, a, n.Blob, 0, -1); got != "plain again" {
		t.Fatalf("content %q", got)
	}
}

func refused(t *testing.T, a *blob.Accounts) {
	ctx := t.Context()
	bad := []blob.Name{
		{Account: "../x", Container: container, Blob: "a"}, {Account: "AB", Container: container, Blob: "a"},
		{Account: account, Container: "..", Blob: "a"}, {Account: account, Container: "a--b", Blob: "a"}, {Account: account, Container: "", Blob: "a"},
	}
	for _, name := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/..", "./a", "a/.", "a\x00b", "a\nb", `a\b`, "\xff", strings.Repeat("x", 1025),
	} {
		bad = append(bad, at(name))
	}
	for _, n := range bad {
		_, err := a.Put(ctx, n, strings.NewReader("x"), blob.PutOptions{})
		wantCode(t, err, arm.CodeValidationFailed)
		_, err = a.Stat(ctx, n)
		wantCode(t, err, arm.CodeValidationFailed)
		_, _, err = a.Open(ctx, n, 0, -1)
		wantCode(t, err, arm.CodeValidationFailed)
		wantCode(t, a.Delete(ctx, n), arm.CodeValidationFailed)
	}
	for _, name := range []string{"", "ab", "..", "A23", strings.Repeat("a", 25)} {
		wantCode(t, a.CreateAccount(ctx, name), arm.CodeValidationFailed)
		wantCode(t, a.DeleteAccount(ctx, name), arm.CodeValidationFailed)
		wantCode(t, a.CreateContainer(ctx, name, "vhds"), arm.CodeValidationFailed)
	}
	for _, name := range []string{"", "ab", "-ab", "ab-", "a--b", "Abc", "a/b", strings.Repeat("a", 64)} {
		wantCode(t, a.CreateContainer(ctx, account, name), arm.CodeValidationFailed)
		wantCode(t, a.DeleteContainer(ctx, account, name), arm.CodeValidationFailed)
	}
}
