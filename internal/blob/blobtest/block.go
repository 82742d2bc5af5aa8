package blobtest

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
	"goldsmith/internal/blob"
)

func stage(t *testing.T, a *blob.Accounts, name, id, content string) {
	t.Helper()
	ok(t, a.StageBlock(t.Context(), at(name), id, strings.NewReader(content)))
}

func refs(ids ...string) (list []blob.BlockRef) {
	for _, id := range ids {
		list = append(list, blob.BlockRef{ID: id})
	}
	return list
}

func blocks(t *testing.T, a *blob.Accounts) {
	ctx, n := t.Context(), at("dir/big")
	_, _, err := a.Blocks(ctx, n)
	wantCode(t, err, arm.CodeNotFound)
	stage(t, a, n.Blob, "a1", "AAAA")
	stage(t, a, n.Blob, "b1", "wrong")
	stage(t, a, n.Blob, "b1", "BB")
	stage(t, a, n.Blob, "c1", "unused")
	_, err = a.Stat(ctx, n)
	wantCode(t, err, arm.CodeNotFound)
	committed, staged, err := a.Blocks(ctx, n)
	ok(t, err)
	if diff := cmp.Diff([]blob.Block{{ID: "a1", Size: 4}, {ID: "b1", Size: 2}, {ID: "c1", Size: 6}}, staged); diff != "" || committed != nil {
		t.Fatalf("%v %s", committed, diff)
	}
	_, err = a.CommitBlocks(ctx, n, refs("a1", "zz"), blob.PutOptions{})
	wantCode(t, err, blob.CodeInvalidBlockList)
	_, err = a.CommitBlocks(ctx, n, []blob.BlockRef{{ID: "a1", Source: blob.Committed}}, blob.PutOptions{})
	wantCode(t, err, blob.CodeInvalidBlockList)
	info, err := a.CommitBlocks(ctx, n, refs("b1", "a1", "b1"), blob.PutOptions{Properties: blob.Properties{ContentType: "text/x", Metadata: map[string]string{"k": "v"}}})
	ok(t, err)
	if info.Size != 8 || info.Blocks != 3 || info.ContentType != "text/x" || info.Metadata["k"] != "v" {
		t.Fatalf("%+v", info)
	}
	for from := range int64(9) {
		for length := range 9 - from {
			if got, want := read(t, a, n.Blob, from, length), "BBAAAABB"[from:from+length]; got != want {
				t.Errorf("from %d, %d: %q, want %q", from, length, got, want)
			}
		}
	}
	committed, staged, err = a.Blocks(ctx, n)
	ok(t, err)
	if len(committed) != 3 || staged != nil {
		t.Fatalf("after the commit: %v, %v", committed, staged)
	}

	// An edit: one block stays, one is new, one changes its content.
	stage(t, a, n.Blob, "d1", "D")
	stage(t, a, n.Blob, "b1", "newB")
	_, err = a.Update(ctx, n, func(i *blob.Info) error { i.ContentType = "text/y"; return nil })
	ok(t, err) // keeps the staged blocks
	list := []blob.BlockRef{{ID: "a1", Source: blob.Committed}, {ID: "d1", Source: blob.Uncommitted}, {ID: "b1", Source: blob.Committed}, {ID: "b1"}}
	edited, err := a.CommitBlocks(ctx, n, list, blob.PutOptions{})
	ok(t, err)
	if got := read(t, a, n.Blob, 0, -1); got != "AAAADBBnewB" || edited.Created != info.Created {
		t.Fatalf("edited: %q, %v", got, edited.Created)
	}
	stage(t, a, n.Blob, "longer id", "x")
	_, err = a.CommitBlocks(ctx, n, refs("a1", "longer id"), blob.PutOptions{})
	wantCode(t, err, blob.CodeInvalidBlockList)
	// A put drops blocks of every kind.
	put(t, a, n.Blob, "whole")
	committed, staged, err = a.Blocks(ctx, n)
	if err != nil || committed != nil || staged != nil {
		t.Fatalf("after a put: %v, %v, %v", committed, staged, err)
	}
	if info, err := a.CommitBlocks(ctx, n, nil, blob.PutOptions{}); err != nil || info.Size != 0 {
		t.Fatalf("an empty list: %+v, %v", info, err)
	}
	for _, id := range []string{"", strings.Repeat("x", blob.MaxBlockID+1)} {
		wantCode(t, a.StageBlock(ctx, n, id, strings.NewReader("x")), arm.CodeValidationFailed)
	}
	_, err = a.CommitBlocks(ctx, n, make([]blob.BlockRef, blob.MaxBlocks+1), blob.PutOptions{})
	wantCode(t, err, blob.CodeInvalidBlockList)
}

func updates(t *testing.T, a *blob.Accounts) {
	ctx, n := t.Context(), at("x")
	change := func(i *blob.Info) error {
		i.Metadata, i.CacheControl, i.Size = map[string]string{"a": "b"}, "no-store", 77
		return nil
	}
	_, err := a.Update(ctx, n, change)
	wantCode(t, err, arm.CodeNotFound)
	old := put(t, a, n.Blob, "content")
	info, err := a.Update(ctx, n, change)
	ok(t, err)
	if info.ETag == old.ETag || info.Size != 7 || info.Metadata["a"] != "b" || info.CacheControl != "no-store" || read(t, a, n.Blob, 0, -1) != "content" {
		t.Fatalf("%+v", info)
	}
	boom := errors.New("boom")
	if _, err := a.Update(ctx, n, func(*blob.Info) error { return boom }); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	// A view keeps being one.
	ref := blob.Reference{Format: "vhd", Image: "abc", Size: 9}
	_, err = a.PutReference(ctx, at("v"), ref, false)
	ok(t, err)
	info, err = a.Update(ctx, at("v"), change)
	if err != nil || info.Reference == nil || read(t, a, "v", 3, 3) != "abc" {
		t.Fatalf("%+v, %v", info, err)
	}
	// Checks see the blob, and nothing is written against them.
	for _, tt := range []struct {
		name   string
		exists bool
	}{{"x", true}, {"new", false}} {
		check := func(i *blob.Info) error {
			if (i != nil) != tt.exists {
				t.Errorf("%s: the check saw %+v", tt.name, i)
			}
			return boom
		}
		if _, err := a.Put(ctx, at(tt.name), strings.NewReader("new"), blob.PutOptions{Check: check}); !errors.Is(err, boom) {
			t.Error(err)
		}
	}
	if err := a.DeleteIf(ctx, n, func(*blob.Info) error { return boom }); !errors.Is(err, boom) || read(t, a, n.Blob, 0, -1) != "content" {
		t.Error(err)
	}
}

func containerSettings(t *testing.T, a *blob.Accounts) {
	ctx := t.Context()
	info, err := a.NewContainer(ctx, account, "open", blob.ContainerSettings{Access: blob.AccessBlob, Metadata: map[string]string{"k": "v"}})
	ok(t, err)
	if info.Access != blob.AccessBlob || info.Name != "open" || info.Metadata["k"] != "v" || info.ETag == "" || info.ModTime.IsZero() {
		t.Fatalf("%+v", info)
	}
	later, err := a.UpdateContainer(ctx, account, "open", func(i *blob.ContainerInfo) error {
		i.Access, i.Policies = blob.AccessNone, []blob.Policy{{ID: "p", Permission: "r", Expiry: time.Unix(1e9, 0).UTC()}}
		return nil
	})
	ok(t, err)
	got, err := a.Container(ctx, account, "open")
	ok(t, err)
	if diff := cmp.Diff(later, got); diff != "" || got.ETag == info.ETag || len(got.Policies) != 1 || got.Metadata["k"] != "v" {
		t.Fatalf("%+v %s", got, diff)
	}
	_, err = a.UpdateContainer(ctx, account, "none", func(*blob.ContainerInfo) error { return nil })
	wantCode(t, err, arm.CodeNotFound)
	ok(t, a.CreateAccount(ctx, "another"))
	if names, err := a.Names(ctx); err != nil || !cmp.Equal(names, []string{"another", account}) {
		t.Errorf("%v, %v", names, err)
	}
	for name, want := range map[string]bool{account: true, "nobody": false, "..": false} {
		if got, err := a.HasAccount(ctx, name); err != nil || got != want {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

func collect(t *testing.T, a *blob.Accounts) {
	ctx := t.Context()
	put(t, a, "kept..", "content")
	stage(t, a, "kept..", "s1", "staged")
	stage(t, a, "never", "s1", "staged")
	stage(t, a, "made", "s1", "block")
	_, err := a.CommitBlocks(ctx, at("made"), refs("s1"), blob.PutOptions{})
	ok(t, err)
	if n, _, err := a.Collect(ctx, time.Now(), blob.StagedAge); n != 0 || err != nil {
		t.Fatalf("young content: %d, %v", n, err)
	}
	n, bytes, err := a.Collect(ctx, time.Now().Add(2*blob.StagedAge), blob.StagedAge)
	if n != 2 || bytes != 12 || err != nil {
		t.Fatalf("%d, %d bytes, %v", n, bytes, err)
	}
	if got := read(t, a, "kept..", 0, -1) + read(t, a, "made", 0, -1); got != "contentblock" {
		t.Fatalf("%q", got)
	}
	// A reader of one segment is not disturbed by the end of its blob.
	r, _, err := a.Open(ctx, at("kept.."), 0, -1)
	ok(t, err)
	ok(t, a.Delete(ctx, at("kept..")))
	if raw, err := io.ReadAll(r); err != nil || string(raw) != "content" {
		t.Fatalf("%q, %v", raw, err)
	}
	ok(t, r.Close())
}
