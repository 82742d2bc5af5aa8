package build

import (
	"context"
	"fmt"
	"os"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/catalog"
	"goldsmith/internal/distribute"
	"goldsmith/internal/event"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/plan"
	"goldsmith/internal/resource"
)

// source is what a template's source resolved to, before its bytes are needed.
type source struct {
	Base plan.Base
	// Entry is the catalog entry of a platform image, to be pulled when the run
	// needs it; zero for images of this store.
	Entry *catalog.Entry
	// Version is the number that versioning scheme Source uses.
	Version string
}

// resolveSource finds what t (or override, "" for none) builds from. Nothing is
// downloaded.
func (e *Engine) resolveSource(ctx context.Context, t *imagetemplate.Template, override string, sink event.Sink) (source, error) {
	if override != "" {
		return e.resolveOverride(ctx, override, sink)
	}
	switch t.Source.Type {
	case imagetemplate.PlatformImage:
		return e.resolvePlatform(ctx, catalog.URN{Publisher: t.Source.Publisher, Offer: t.Source.Offer, SKU: t.Source.SKU, Version: t.Source.Version}, sink)
	case imagetemplate.ManagedImage, imagetemplate.SharedImageVersion:
		return e.resolveStored(ctx, t.Source.ImageID)
	}
	return source{}, arm.Errorf(arm.CodeNotSupported, "%s sources cannot be built", t.Source.Type).At("/properties/source")
}

// resolveOverride is --source: a URN of the catalog, a resource id, or a file.
func (e *Engine) resolveOverride(ctx context.Context, s string, sink event.Sink) (source, error) {
	if strings.HasPrefix(strings.ToLower(s), "/subscriptions/") {
		return e.resolveStored(ctx, s)
	}
	if info, err := os.Stat(s); err == nil && info.Mode().IsRegular() {
		return e.importSource(ctx, s, sink)
	}
	urn, err := catalog.ParseURN(s)
	if err != nil {
		return source{}, arm.Errorf(arm.CodeUsage, "--source %q is neither a file nor PUBLISHER:OFFER:SKU:VERSION nor an image id", s)
	}
	return e.resolvePlatform(ctx, urn, sink)
}

// importSource takes a disk image file as the base of one build.
func (e *Engine) importSource(ctx context.Context, file string, sink event.Sink) (source, error) {
	digest, info, err := importer{e.images}.Import(ctx, file, sink)
	if err != nil {
		return source{}, fmt.Errorf("import %s: %w", file, err)
	}
	generation := 1
	if info.HasESP {
		generation = 2
	}
	return source{Base: plan.Base{Image: digest, Origin: file, OS: plan.Linux, Generation: generation, DiskBytes: info.VirtualSize}}, nil
}

// resolvePlatform finds a platform image in the catalog; "latest" becomes an
// exact version.
func (e *Engine) resolvePlatform(ctx context.Context, urn catalog.URN, sink event.Sink) (source, error) {
	entry, err := e.catalog.Resolve(ctx, urn, sink)
	if err != nil {
		return source{}, fmt.Errorf("resolve the source: %w", err)
	}
	return source{Base: entryBase(entry), Entry: &entry, Version: entry.Version}, nil
}

func entryBase(entry catalog.Entry) plan.Base {
	os := plan.Linux
	if entry.OS == catalog.Windows {
		os = plan.Windows
	}
	return plan.Base{
		Image: entry.ImageDigest, Origin: entry.URN.String(), OS: os, Generation: entry.Generation,
		DiskBytes: entry.Size, ExactVersion: entry.Version,
	}
}

// resolveStored finds a managed image or gallery version of this store;
// ".../versions/latest" becomes an exact one.
func (e *Engine) resolveStored(ctx context.Context, imageID string) (source, error) {
	id, err := arm.ParseID(imageID)
	if err != nil {
		return source{}, err
	}
	var rec resource.Record
	if id.IsType(distribute.TypeVersion) && strings.EqualFold(id.Name, "latest") {
		definition, _ := id.Parent()
		rec, err = distribute.LatestVersion(ctx, e.resources, definition.String())
	} else {
		rec, err = e.resources.Get(ctx, id.String())
	}
	if err != nil {
		return source{}, fmt.Errorf("resolve the source: %w", err)
	}
	content, err := distribute.ContentOf(rec)
	if err != nil {
		return source{}, err
	}
	s := source{Base: plan.Base{
		Image: content.Image, Origin: rec.ID, OS: content.OS, Generation: content.Generation, DiskBytes: content.DiskBytes, ExactVersion: rec.ID,
	}}
	if id.IsType(distribute.TypeVersion) {
		s.Version = rec.Name
	}
	return s, nil
}

// fetchSource makes the bytes of a source present: a platform image that was
// never used is downloaded, or made, now.
func (e *Engine) fetchSource(ctx context.Context, s source, sink event.Sink) (plan.Base, error) {
	if s.Entry == nil {
		return s.Base, nil
	}
	entry, err := e.catalog.Ensure(ctx, s.Entry.URN, sink)
	if err != nil {
		return plan.Base{}, fmt.Errorf("fetch %s: %w", s.Base.Origin, err)
	}
	return entryBase(entry), nil
}
