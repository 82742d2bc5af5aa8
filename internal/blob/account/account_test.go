package account_test

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
	"goldsmith/internal/blob/account"
	"goldsmith/internal/resource"
	"goldsmith/internal/store/memory"
)

const id = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/rg/providers/Microsoft.Storage/storageAccounts/scripts"

func put(t *testing.T, store resource.Store, r resource.Record) {
	t.Helper()
	if _, _, err := store.Put(t.Context(), r, resource.Condition{}); err != nil {
		t.Fatal(err)
	}
}

func TestKeysAreDrawnOnceAndRegenerated(t *testing.T) {
	store, ctx := memory.New().Resources(), t.Context()
	if _, err := account.Load(ctx, store, id); !arm.IsCode(err, arm.CodeNotFound) {
		t.Fatalf("no account: %v", err)
	}
	put(t, store, resource.Record{ID: id, Type: account.Type, Name: "scripts", Internal: json.RawMessage(`{"other":1}`)})
	all := make([]account.Secrets, 8)
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			var err error
			if all[i], err = account.Load(ctx, store, id); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	first := all[0]
	for _, s := range all {
		if diff := cmp.Diff(first, s); diff != "" {
			t.Fatalf("two loads differ:\n%s", diff)
		}
	}
	if len(first.Keys) != 2 || len(first.Keys[0].Value) != 64 || bytes.Equal(first.Keys[0].Value, first.Keys[1].Value) || len(first.Delegation) != 64 {
		t.Fatalf("%d keys", len(first.Keys))
	}
	second, err := account.Regenerate(ctx, store, id, "key2")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(second.Keys[0].Value, first.Keys[0].Value) || bytes.Equal(second.Keys[1].Value, first.Keys[1].Value) {
		t.Error("another key than key2 changed, or none")
	}
	if _, err := account.Regenerate(ctx, store, id, "key3"); !arm.IsCode(err, arm.CodeValidationFailed) {
		t.Errorf("key3: %v", err)
	}
	if err := account.RevokeDelegation(ctx, store, id); err != nil {
		t.Fatal(err)
	}
	third, err := account.Load(ctx, store, id)
	if err != nil || bytes.Equal(third.Delegation, second.Delegation) || !cmp.Equal(third.Keys, second.Keys) {
		t.Errorf("revoked: %v", err)
	}
	r, err := store.Get(ctx, id)
	if err != nil || !strings.Contains(string(r.Internal), `"other":1`) {
		t.Errorf("%s, %v", r.Internal, err)
	}
}

func TestDirectory(t *testing.T) {
	store, ctx := memory.New().Resources(), t.Context()
	d := account.NewDirectory(store)
	if _, err := d.Find(ctx, "scripts"); !arm.IsCode(err, arm.CodeNotFound) {
		t.Fatalf("no account: %v", err)
	}
	put(t, store, resource.Record{ID: id, Type: account.Type, Name: "scripts"})
	got, err := d.Find(ctx, "scripts")
	if err != nil || got.ID != id || !got.Public || !got.SharedKey || len(got.Secrets.Keys) != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	if want := id + "/blobServices/default/containers/c"; got.ContainerID("c") != want {
		t.Errorf("%s", got.ContainerID("c"))
	}
	// A changed account is seen, and one that moved to another group is found.
	if _, err := store.Delete(ctx, id, resource.Condition{}); err != nil {
		t.Fatal(err)
	}
	moved := strings.Replace(id, "/rg/", "/other/", 1)
	put(t, store, resource.Record{ID: moved, Type: account.Type, Name: "scripts",
		Properties: json.RawMessage(`{"allowBlobPublicAccess":false,"allowSharedKeyAccess":false}`)})
	got, err = d.Find(ctx, "scripts")
	if err != nil || got.ID != moved || got.Public || got.SharedKey {
		t.Fatalf("%+v, %v", got, err)
	}
	put(t, store, resource.Record{ID: moved, Type: account.Type, Name: "scripts", Internal: json.RawMessage(`{"storageSecrets":{}}`)})
	if _, err := d.Find(ctx, "scripts"); !arm.IsCode(err, arm.CodeCorrupt) {
		t.Errorf("damaged keys: %v", err)
	}
}
