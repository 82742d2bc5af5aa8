package buildtest

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"

	"goldsmith/internal/layer"
	"goldsmith/internal/store"
)

// layersOf lists layers of the lab's data directory.
func (l *Lab) layersOf(f layer.Filter) []layer.Record {
	l.Helper()
	db, err := store.Open(l.Context(), filepath.Join(l.Data, "goldsmith.db"))
	if err != nil {
		l.Fatal(err)
	}
	defer db.Close()
	all, err := db.Layers().List(l.Context(), f)
	if err != nil {
		l.Fatal(err)
	}
	return all
}

// MemoryOf is the memory layer that a run saved after the step named step.
func (l *Lab) MemoryOf(runID, step string) layer.Record {
	l.Helper()
	for _, r := range l.layersOf(layer.Filter{Kind: layer.Memory, Run: runID}) {
		if m, err := layer.ManifestOf(r); err == nil && m.Step == step {
			return r
		}
	}
	l.Fatalf("run %s has no memory layer of step %s", runID, step)
	return layer.Record{}
}

// layerFile is a file of a layer.
func (l *Lab) layerFile(id, name string) string { return filepath.Join(l.Data, "layers", id, name) }

// Truncate cuts a layer's file in half.
func (l *Lab) Truncate(id, name string) {
	l.Helper()
	path := l.layerFile(id, name)
	info, err := os.Stat(path)
	if err == nil {
		err = os.Truncate(path, info.Size()/2)
	}
	if err != nil {
		l.Fatal(err)
	}
}

// Corrupt changes the last byte of a layer's file.
func (l *Lab) Corrupt(id, name string) {
	l.Helper()
	path := l.layerFile(id, name)
	content, err := os.ReadFile(path)
	if err != nil {
		l.Fatal(err)
	}
	content[len(content)-1] ^= 0xff
	if err := os.Chmod(path, 0o600); err != nil {
		l.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		l.Fatal(err)
	}
}

// RemoveLayerFile removes a layer's file; with id "" all layers.
func (l *Lab) RemoveLayerFile(id, name string) {
	l.Helper()
	if err := os.RemoveAll(l.layerFile(id, name)); err != nil {
		l.Fatal(err)
	}
}

// CheckNowhere fails the test when a file of the data directory holds text.
func (l *Lab) CheckNowhere(text string) {
	l.Helper()
	err := filepath.WalkDir(l.Data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(text)) {
			l.Errorf("%s holds what it must not", path)
		}
		return err
	})
	if err != nil {
		l.Fatal(err)
	}
}
