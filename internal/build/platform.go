package build

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/catalog"
	"goldsmith/internal/document"
	"goldsmith/internal/event"
	"goldsmith/internal/image"
	"goldsmith/internal/image/format"
	"goldsmith/internal/image/structure"
)

// openCatalog is the catalog of platform images over this data directory.
func (e *Engine) openCatalog() (*catalog.Catalog, error) {
	return catalog.New(catalog.Options{
		Registry: registry{e.db.Documents("catalog")},
		Fetcher:  e.fetcher,
		Importer: importer{e.images},
		Makers:   e.cfg.Makers,
		Dir:      filepath.Join(e.dir, "catalog"),
		Shipped:  e.cfg.Shipped,
	})
}

// registry keeps catalog entries as documents, by URN.
type registry struct{ documents document.Store }

var _ catalog.Registry = registry{}

// Put implements catalog.Registry.
func (r registry) Put(ctx context.Context, entry catalog.Entry) error {
	body, err := json.Marshal(entry)
	if err != nil {
		return arm.Errorf(arm.CodeInternal, "encode catalog entry %s: %w", entry.URN, err)
	}
	_, err = r.documents.Put(ctx, entry.Key(), body, document.Condition{})
	return err
}

// Get implements catalog.Registry.
func (r registry) Get(ctx context.Context, u catalog.URN) (catalog.Entry, error) {
	doc, err := r.documents.Get(ctx, u.Key())
	if err != nil {
		return catalog.Entry{}, err
	}
	return decodeEntry(doc)
}

// List implements catalog.Registry.
func (r registry) List(ctx context.Context) ([]catalog.Entry, error) {
	docs, err := r.documents.List(ctx, "")
	if err != nil {
		return nil, err
	}
	entries := make([]catalog.Entry, 0, len(docs))
	for _, doc := range docs {
		entry, err := decodeEntry(doc)
		if err != nil {
			return nil, err
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// Delete implements catalog.Registry.
func (r registry) Delete(ctx context.Context, u catalog.URN) error {
	return r.documents.Delete(ctx, u.Key(), document.Condition{})
}

func decodeEntry(doc document.Record) (catalog.Entry, error) {
	var entry catalog.Entry
	if err := json.Unmarshal(doc.Body, &entry); err != nil {
		return entry, arm.Errorf(arm.CodeCorrupt, "catalog entry %s does not parse: %w", doc.Key, err)
	}
	return entry, nil
}

// importer brings disk files into the image store.
type importer struct{ images *image.Store }

var _ catalog.Importer = importer{}

// Import implements catalog.Importer.
func (i importer) Import(ctx context.Context, file string, sink event.Sink) (string, catalog.DiskInfo, error) {
	digest, _, info, err := i.images.ImportFile(ctx, file, format.Limits{}, func(done, total int64) {
		sink.Emit(event.Event{Kind: event.Progress, Text: "import " + filepath.Base(file), Done: done, Total: total})
	})
	if err != nil {
		return "", catalog.DiskInfo{}, err
	}
	img, err := i.images.OpenImage(ctx, digest)
	if err != nil {
		return "", catalog.DiskInfo{}, err
	}
	defer img.Close()
	report, err := structure.Check(ctx, img, structure.UEFI)
	if err != nil {
		return "", catalog.DiskInfo{}, err
	}
	esp := slices.ContainsFunc(report.Partitions, func(p structure.Partition) bool { return strings.EqualFold(p.Type, espType) })
	return digest.String(), catalog.DiskInfo{VirtualSize: info.Size, HasESP: esp, Format: info.Format.Driver()}, nil
}

// Has implements catalog.Importer.
func (i importer) Has(ctx context.Context, imageDigest string) (bool, error) {
	digest, err := image.ParseDigest(imageDigest)
	if err != nil {
		return false, nil
	}
	_, err = i.images.Stat(ctx, digest)
	if arm.IsCode(err, arm.CodeNotFound) || arm.IsCode(err, arm.CodeCorrupt) {
		return false, nil
	}
	return err == nil, err
}
