package buildtest

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"goldsmith/internal/layer"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
	"goldsmith/internal/store"
)

// Layers lists the committed layers.
func (l *Lab) Layers(f layer.Filter) []layer.Record {
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
	for _, r := range l.Layers(layer.Filter{Kind: layer.Memory, Run: runID}) {
		if m, err := layer.ManifestOf(r); err == nil && m.Step == step {
			return r
		}
	}
	l.Fatalf("run %s has no memory layer of step %s", runID, step)
	return layer.Record{}
}

// Depth is how many layers there are from the highest of a run down to the base.
func (l *Lab) Depth(runID string) (depth int) {
	l.Helper()
	parents := map[string]string{}
	for _, r := range l.Layers(layer.Filter{Kind: layer.Disk}) {
		parents[r.ID] = r.Parent
	}
	for _, r := range l.Layers(layer.Filter{Kind: layer.Disk, Run: runID}) {
		n := 0
		for id := r.ID; id != ""; id = parents[id] {
			n++
		}
		depth = max(depth, n)
	}
	return depth
}

// Keys are the kinds and keys of all layers that have one.
func (l *Lab) Keys() (keys []string) {
	l.Helper()
	for _, r := range l.Layers(layer.Filter{}) {
		if r.Key != "" {
			keys = append(keys, string(r.Kind)+" "+r.Key)
		}
	}
	return keys
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

// CorruptChunk changes the last byte of a chunk that only the image of rec's first
// output has.
func (l *Lab) CorruptChunk(rec run.Record) {
	l.Helper()
	published, err := l.Engine.FindImage(l.Context(), rec.Outputs[0].ArtifactID)
	if err != nil {
		l.Fatal(err)
	}
	newest, at := "", time.Time{}
	err = filepath.WalkDir(filepath.Join(l.Data, "images", "chunks"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.ModTime().After(at) {
			newest, at = path, info.ModTime()
		}
		return err
	})
	if err != nil || newest == "" {
		l.Fatalf("image %.12s has no chunk: %v", published.Content.Image, err)
	}
	content, err := os.ReadFile(newest)
	if err != nil {
		l.Fatal(err)
	}
	content[len(content)-1] ^= 0xff
	if err := os.Chmod(newest, 0o600); err != nil {
		l.Fatal(err)
	}
	if err := os.WriteFile(newest, content, 0o600); err != nil {
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

// Redate makes every layer and finished image look as if its oldest step had run at
// a time.
func (l *Lab) Redate(to time.Time) {
	l.Helper()
	db, err := store.Open(l.Context(), filepath.Join(l.Data, "goldsmith.db"))
	if err != nil {
		l.Fatal(err)
	}
	defer db.Close()
	text := to.UTC().Format(time.RFC3339)
	for _, statement := range []string{
		"update layers set manifest = json_set(manifest, '$.oldest', ?) where kind = 'disk' or json_extract(manifest, '$.saved.whole')",
		"update documents set body = json_set(body, '$.oldest', ?) where collection = 'results'",
	} {
		if _, err := db.Writer().ExecContext(l.Context(), statement, text); err != nil {
			l.Fatal(err)
		}
	}
}

// PutGallery makes a gallery with one image definition.
func (l *Lab) PutGallery(definition string) {
	l.Helper()
	for _, r := range []resource.Record{
		{ID: l.ID("Microsoft.Compute/galleries/gal"), Type: "Microsoft.Compute/galleries", Name: "gal", Properties: []byte(`{"provisioningState":"Succeeded"}`)},
		{
			ID: l.ID("Microsoft.Compute/galleries/gal/images/" + definition), Type: "Microsoft.Compute/galleries/images", Name: definition,
			Properties: []byte(`{"provisioningState":"Succeeded","osType":"Linux","osState":"Generalized","hyperVGeneration":"V2","identifier":{"publisher":"p","offer":"o","sku":"s"}}`),
		},
	} {
		r.Location = Location
		if _, _, err := l.Engine.Resources().Put(l.Context(), r, resource.Condition{}); err != nil {
			l.Fatal(err)
		}
	}
}

// Versions are the names of the published versions of an image definition.
func (l *Lab) Versions(definition string) (names []string) {
	l.Helper()
	all, _, err := l.Engine.Resources().List(l.Context(), resource.Query{
		Scope: l.ID("Microsoft.Compute/galleries/gal/images/" + definition), Type: "Microsoft.Compute/galleries/images/versions",
	})
	if err != nil {
		l.Fatal(err)
	}
	for _, r := range all {
		names = append(names, r.Name)
	}
	return names
}
