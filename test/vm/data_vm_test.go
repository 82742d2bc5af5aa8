//go:build vm

package vm

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"goldsmith/internal/layer"
	"goldsmith/internal/run"
	"goldsmith/internal/store"
)

// list decodes what a command says with -o json.
func list[T any](t *testing.T, h host, args ...string) (items T) {
	t.Helper()
	out := h.must(t, append(args, "-o", "json")...)
	if err := json.Unmarshal([]byte(out), &items); err != nil {
		t.Fatalf("goldsmith %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return items
}

// open opens the database of h, to look into.
func (h host) open(t *testing.T) *store.DB {
	t.Helper()
	db, err := store.Open(context.WithoutCancel(t.Context()), filepath.Join(h.data, "goldsmith.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

// copied is a host with a copy of h's data directory, which shares the files
// that never change. Nothing may work on h meanwhile.
func (h host) copied(t *testing.T) host {
	t.Helper()
	warm(t, h)
	data, err := os.MkdirTemp(filepath.Dir(h.data), "test-copy-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(data); err != nil {
			t.Error(err)
		}
	})
	for _, name := range []string{"disks", "images", "layers", "blobs"} {
		tool(t, "cp", "--archive", "--link", filepath.Join(h.data, name), data)
	}
	databases, err := filepath.Glob(filepath.Join(h.data, "goldsmith.db*"))
	if err != nil || len(databases) == 0 {
		t.Fatalf("no database in %s: %v", h.data, err)
	}
	tool(t, "cp", append(databases, data)...)
	// Garbage was collected just now: what the copy has is what a test finds.
	if err := os.WriteFile(filepath.Join(data, "collected"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h.data = data
	return h
}

// group is the id of the resource group in which the tests make images.
func (h host) group(t *testing.T) string {
	t.Helper()
	settings, err := h.open(t).Settings(context.WithoutCancel(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	return "/subscriptions/" + settings.SubscriptionID + "/resourceGroups/vm-test"
}

// deleteImages deletes the images whose id begins with prefix.
func (h host) deleteImages(t *testing.T, prefix string) {
	t.Helper()
	for _, i := range list[[]struct{ ID string }](t, h, "image", "list") {
		if strings.HasPrefix(i.ID, prefix) {
			h.must(t, "image", "delete", i.ID)
		}
	}
}

// images are the ids of the images of a name.
func (h host) images(t *testing.T, name string) (ids []string) {
	t.Helper()
	for _, i := range list[[]struct{ ID string }](t, h, "image", "list") {
		if strings.HasSuffix(i.ID, "/images/"+name) {
			ids = append(ids, i.ID)
		}
	}
	return ids
}

// lastRun is the newest run.
func (h host) lastRun(t *testing.T) run.Record {
	t.Helper()
	runs, err := h.open(t).Runs().List(context.WithoutCancel(t.Context()), run.Filter{Limit: 1})
	if err != nil || len(runs) == 0 {
		t.Fatalf("no run: %v", err)
	}
	return runs[0]
}

// states are the files of the device states that builds restore.
func (h host) states(t *testing.T) (files []string) {
	t.Helper()
	layers, err := h.open(t).Layers().List(context.WithoutCancel(t.Context()), layer.Filter{Kind: layer.Memory})
	if err != nil || len(layers) == 0 {
		t.Fatalf("no saved state: %v", err)
	}
	for _, l := range layers {
		if l.Key != "" {
			files = append(files, filepath.Join(h.data, "layers", l.ID, layer.StateFile))
		}
	}
	return files
}

// baseDisk is the disk of the platform image that most tests build from.
func (h host) baseDisk(t *testing.T) string {
	t.Helper()
	type entry struct{ ImageDigest string }
	return filepath.Join(h.data, "disks", list[entry](t, h, "catalog", "show", "Debian:debian-12:12-gen2:latest").ImageDigest+".raw")
}

// record is a run as the database has it.
func (h host) record(t *testing.T, id string) run.Record {
	t.Helper()
	r, err := h.open(t).Runs().Get(context.WithoutCancel(t.Context()), id)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// checkLayers reports directories of layers that no record has.
func (h host) checkLayers(t *testing.T) {
	t.Helper()
	records, err := h.open(t).Layers().List(context.WithoutCancel(t.Context()), layer.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]bool{}
	for _, r := range records {
		known[r.ID] = true
	}
	entries, err := os.ReadDir(filepath.Join(h.data, "layers"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !known[e.Name()] {
			t.Errorf("layer %s has no record", e.Name())
		}
	}
}

// checkUndone reports what a run that has ended still holds.
func (h host) checkUndone(t *testing.T, id string) {
	t.Helper()
	r := h.record(t, id)
	if !r.State.Ended() || len(r.Undo) > 0 {
		t.Errorf("run %s is %s and holds %v", id, r.State, r.Undo)
	}
	if _, err := os.Lstat(filepath.Join(h.data, "runs", id, "work")); !os.IsNotExist(err) {
		t.Errorf("the scratch directory of run %s is there: %v", id, err)
	}
	if pids := machines(t, id); len(pids) > 0 {
		t.Errorf("the machine of run %s runs on in processes %v", id, pids)
	}
	h.checkLayers(t)
}
