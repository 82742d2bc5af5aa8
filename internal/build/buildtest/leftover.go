package buildtest

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"goldsmith/internal/image"
	"goldsmith/internal/layer"
	"goldsmith/internal/run"
	"goldsmith/internal/store"
)

// CheckClean fails the test for everything that a run left behind and that is
// not its result: machines, files, pins, staged resources, undo records.
func (l *Lab) CheckClean(rec run.Record) {
	l.Helper()
	if n := l.Fake.Running(); n != 0 {
		l.Errorf("%d machines still run", n)
	}
	for _, what := range l.leftovers(rec.ID) {
		l.Errorf("run %s left %s", rec.ID, what)
	}
	if rec.ID == "" {
		return // it was refused before there was a run
	}
	stored, err := l.Engine.Runs().Get(l.Context(), rec.ID)
	if err != nil {
		l.Fatal(err)
	}
	if !stored.State.Ended() || stored.Owner != "" || stored.EndedAt.IsZero() {
		l.Errorf("run %s is %s, owner %q, ended %v", rec.ID, stored.State, stored.Owner, stored.EndedAt)
	}
	if len(stored.Undo) > 0 {
		l.Errorf("run %s still has to undo %v", rec.ID, stored.Undo)
	}
	template, err := l.Engine.Resources().Get(l.Context(), rec.Template)
	if err != nil {
		l.Fatal(err)
	}
	_, staged, err := l.Engine.StagingGroup(l.Context(), template)
	if err != nil {
		l.Fatal(err)
	}
	for _, r := range staged {
		if !strings.EqualFold(r.Type, "Microsoft.Storage/storageAccounts") && !strings.EqualFold(r.Type, "Microsoft.Resources/resourceGroups") {
			l.Errorf("run %s left %s in the staging group", rec.ID, r.ID)
		}
	}
}

// leftovers lists files and pins that should not be there.
func (l *Lab) leftovers(runID string) []string {
	l.Helper()
	var found []string
	for _, dir := range []string{"images/tmp", "images/pins", "images/trash", "images/corrupt", "catalog/scratch", "catalog/downloads", "artifacts/tmp"} {
		for _, name := range l.names(dir) {
			found = append(found, filepath.Join(dir, name))
		}
	}
	for _, name := range l.names("disks") {
		info, err := os.Stat(filepath.Join(l.Data, "disks", name))
		if err != nil || !strings.HasSuffix(name, ".raw") || strings.HasPrefix(name, ".") || info.Mode().Perm() != 0o444 {
			found = append(found, fmt.Sprintf("disks/%s (%v)", name, err))
		}
	}
	if runID != "" {
		for _, name := range l.names("runs/" + runID) {
			if !slices.Contains([]string{"lock", "events.jsonl", "console.log"}, name) {
				found = append(found, "runs/"+runID+"/"+name)
			}
		}
	}
	db, err := store.Open(l.Context(), filepath.Join(l.Data, "goldsmith.db"))
	if err != nil {
		l.Fatal(err)
	}
	defer db.Close()
	layers, err := db.Layers().List(l.Context(), layer.Filter{})
	if err != nil {
		l.Fatal(err)
	}
	known := map[string]bool{}
	for _, r := range layers {
		known[r.ID] = true
	}
	for _, name := range l.names("layers") {
		if !known[name] {
			found = append(found, "layers/"+name+", which was never committed")
		}
		delete(known, name)
	}
	if len(known) > 0 { // a service may have forgotten a layer in between
		if layers, err = db.Layers().List(l.Context(), layer.Filter{}); err != nil {
			l.Fatal(err)
		}
		for _, r := range layers {
			if known[r.ID] {
				found = append(found, "the record of layer "+r.ID+" without files")
			}
		}
	}
	if runID != "" {
		pins, err := db.Layers().PinsOf(l.Context(), runID)
		if err != nil {
			l.Fatal(err)
		}
		for _, p := range pins {
			found = append(found, "a pin on layer "+p)
		}
	}
	return found
}

// names lists a directory below the data directory.
func (l *Lab) names(dir string) []string {
	l.Helper()
	entries, err := os.ReadDir(filepath.Join(l.Data, dir))
	if err != nil && !os.IsNotExist(err) {
		l.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// Files lists a directory of the test's.
func (l *Lab) Files(dir string) []string {
	l.Helper()
	var all []string
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			all = append(all, e.Name())
		}
		return err
	})
	if err != nil {
		l.Fatal(err)
	}
	return all
}

// Recovered runs what cleans a store after killed writers: temporary files are
// garbage collection's, which owns them once their process is gone.
func (l *Lab) Recovered() {
	l.Helper()
	images, err := image.Open(filepath.Join(l.Data, "images"))
	if err != nil {
		l.Fatal(err)
	}
	live, err := images.List(l.Context())
	if err != nil {
		l.Fatal(err)
	}
	if _, err := images.GC(l.Context(), live, 0); err != nil {
		l.Fatal(err)
	}
}
