package store_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
	"goldsmith/internal/store"
)

// Every decision about access asks for the generation, and reads all assignments
// again when it has changed: other writes must leave it alone.
func TestAccessGeneration(t *testing.T) {
	ctx := t.Context()
	db, err := store.Open(ctx, filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	const group = "/subscriptions/s/resourceGroups/g"
	for _, tt := range []struct {
		id, typ string
		counts  bool
	}{
		{group + "/providers/Microsoft.Authorization/roleAssignments/a", "Microsoft.Authorization/roleAssignments", true},
		{"/subscriptions/s/providers/Microsoft.Authorization/roleDefinitions/r", "Microsoft.Authorization/roleDefinitions", true},
		{"/subscriptions/s/providers/Microsoft.VirtualMachineImages", "Microsoft.Resources/providers", true},
		{group + "/providers/Microsoft.VirtualMachineImages/imageTemplates/t", "Microsoft.VirtualMachineImages/imageTemplates", false},
		{group, "Microsoft.Resources/resourceGroups", false},
	} {
		generation := func() int64 {
			n, err := db.AccessGeneration(ctx)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		before := generation()
		rec, _, err := db.Resources().Put(ctx, resource.Record{ID: tt.id, Type: tt.typ, Name: "n"}, resource.Condition{})
		if err != nil {
			t.Fatal(err)
		}
		written := generation()
		if (written > before) != tt.counts {
			t.Errorf("a new %s: generation %d, before %d", tt.typ, written, before)
		}
		if _, _, err := db.Resources().Put(ctx, rec, resource.Condition{}); err != nil {
			t.Fatal(err)
		}
		changed := generation()
		if (changed > written) != tt.counts {
			t.Errorf("a changed %s: generation %d, before %d", tt.typ, changed, written)
		}
		if _, err := db.Resources().Delete(ctx, tt.id, resource.Condition{}); err != nil {
			t.Fatal(err)
		}
		if (generation() > changed) != tt.counts {
			t.Errorf("a deleted %s: generation %d, before %d", tt.typ, generation(), changed)
		}
	}
}

// What a transaction could not prepare is prepared for the next one, and what many
// ask for at once is prepared once.
func TestStatementsAreShared(t *testing.T) {
	ctx := t.Context()
	db, err := store.Open(ctx, filepath.Join(t.TempDir(), "db"))
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 50 {
				r := resource.Record{ID: fmt.Sprintf("/subscriptions/s/resourceGroups/g%02d", i), Type: "Microsoft.Resources/resourceGroups", Name: "n", Tags: map[string]string{"a": "b"}}
				if _, _, err := db.Resources().Put(ctx, r, resource.Condition{}); err != nil {
					t.Error(err)
				}
				if _, err := db.Resources().Get(ctx, r.ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := db.Resources().Get(gone, "/subscriptions/s/resourceGroups/g00"); !arm.IsCode(err, arm.CodeCanceled) {
		t.Errorf("a read after its end: %v", err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}
