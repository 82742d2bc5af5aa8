package cli

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi/upkeep"
	"goldsmith/internal/audit"
	"goldsmith/internal/build"
	"goldsmith/internal/catalog"
	"goldsmith/internal/event"
	"goldsmith/internal/resource"
)

// keeper is what commands that look after things look after: a data directory, or
// a service.
type keeper interface {
	Images(ctx context.Context) ([]build.Image, error)
	FindImage(ctx context.Context, name string) (build.Image, error)
	deleteImage(ctx context.Context, i build.Image) error
	export(ctx context.Context, i build.Image, path string, sink event.Sink) error
	boot(ctx context.Context, i build.Image, o build.BootOptions, sink event.Sink) (exit int, err error)
	templates(ctx context.Context) ([]upkeep.Template, error)
	template(ctx context.Context, name string) (upkeep.Template, error)
	deleteTemplate(ctx context.Context, t upkeep.Template) error
	entries(ctx context.Context) ([]catalog.Entry, error)
	entry(ctx context.Context, urn catalog.URN) (catalog.Entry, error)
	addEntry(ctx context.Context, urn catalog.URN, from string, o catalog.AddOptions, sink event.Sink) (catalog.Entry, error)
	pullEntry(ctx context.Context, urn catalog.URN, sink event.Sink) (catalog.Entry, error)
	removeEntry(ctx context.Context, urn catalog.URN) (catalog.Entry, error)
	Layers(ctx context.Context) ([]build.CachedLayer, error)
	FindLayer(ctx context.Context, prefix string) (build.CachedLayer, error)
	PruneLayers(ctx context.Context, age time.Duration, bytes int64) (removed int, freed int64, err error)
	VerifyStored(ctx context.Context, sink event.Sink) (build.Verified, error)
	CollectWithin(ctx context.Context, limits build.GarbageLimits) (build.Collected, error)
	DiffImages(ctx context.Context, a, b build.Image, all bool) (build.ImageDiff, error)
	console(ctx context.Context, ref string) (io.ReadCloser, error)
	// capture writes the traffic of a run to w until the run ends.
	capture(ctx context.Context, ref string, w io.Writer) error
	// debug runs a command, or the shell of o, in the guest of a failed step.
	debug(ctx context.Context, ref string, o build.DebugOptions, sink event.Sink) (exit int, err error)
	dropFailed(ctx context.Context, ref string) error
	Subscription() string
	VirtualNetworks(ctx context.Context) ([]build.VirtualNetwork, error)
	Reach(ctx context.Context, r build.Reach) (build.Reached, error)
	PutNetworkResource(ctx context.Context, rec resource.Record) (resource.Record, error)
	decisions(ctx context.Context, q audit.Query) ([]audit.Record, error)
}

// withKeeper runs f on the service or data directory that the user named.
func (a *app) withKeeper(ctx context.Context, f func(keeper) error) error {
	r, err := a.remote(ctx)
	if err != nil {
		return err
	}
	if r != nil {
		return f(remoteKeeper{r})
	}
	return a.withEngine(ctx, func(e *build.Engine) error { return f(localKeeper{e}) })
}

// localKeeper looks after a data directory.
type localKeeper struct{ *build.Engine }

func (k localKeeper) deleteImage(ctx context.Context, i build.Image) error {
	return k.DeleteImage(ctx, i.ID)
}

func (k localKeeper) export(ctx context.Context, i build.Image, path string, sink event.Sink) error {
	return k.Export(ctx, i.Content.Image, path, func(done, total int64) {
		sink.Emit(event.Event{Kind: event.Progress, Text: "write " + filepath.Base(path), Done: done, Total: total})
	})
}

func (k localKeeper) boot(ctx context.Context, i build.Image, o build.BootOptions, sink event.Sink) (int, error) {
	if o.Member != nil {
		id, err := vnetID(k.Engine, o.Member.VNet)
		if err != nil {
			return 0, err
		}
		o.Member.VNet = id
	}
	return k.Boot(ctx, i.ShortName(), i.Content, o, sink)
}

func (k localKeeper) templates(ctx context.Context) ([]upkeep.Template, error) {
	records, err := k.Templates(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]upkeep.Template, len(records))
	for i, rec := range records {
		if out[i], err = upkeep.View(ctx, k, rec); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (k localKeeper) template(ctx context.Context, name string) (upkeep.Template, error) {
	rec, err := k.FindTemplate(ctx, name)
	if err != nil {
		return upkeep.Template{}, err
	}
	return upkeep.View(ctx, k, rec)
}

func (k localKeeper) deleteTemplate(ctx context.Context, t upkeep.Template) error {
	return k.DeleteTemplate(ctx, t.Record.ID)
}

func (k localKeeper) entries(ctx context.Context) ([]catalog.Entry, error) {
	return k.Catalog().List(ctx)
}

func (k localKeeper) entry(ctx context.Context, urn catalog.URN) (catalog.Entry, error) {
	return k.Catalog().Get(ctx, urn)
}

func (k localKeeper) addEntry(ctx context.Context, urn catalog.URN, from string, o catalog.AddOptions, sink event.Sink) (catalog.Entry, error) {
	return k.Catalog().Add(ctx, urn, from, o, sink)
}

func (k localKeeper) pullEntry(ctx context.Context, urn catalog.URN, sink event.Sink) (catalog.Entry, error) {
	return k.Catalog().Pull(ctx, urn, sink)
}

func (k localKeeper) removeEntry(ctx context.Context, urn catalog.URN) (catalog.Entry, error) {
	return k.Catalog().Remove(ctx, urn)
}

func (k localKeeper) console(ctx context.Context, ref string) (io.ReadCloser, error) {
	r, err := k.Runs().Find(ctx, ref)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(k.ConsolePath(r.ID))
	if os.IsNotExist(err) {
		return nil, arm.Errorf(arm.CodeNotFound, "run %s has no console yet: its machine was never started", r.ID)
	}
	return f, err
}

func (k localKeeper) capture(ctx context.Context, ref string, w io.Writer) error {
	r, err := k.Runs().Find(ctx, ref)
	if err != nil {
		return err
	}
	return k.Capture(ctx, r.ID, w)
}

func (k localKeeper) debug(ctx context.Context, ref string, o build.DebugOptions, sink event.Sink) (int, error) {
	r, err := k.Runs().Find(ctx, ref)
	if err != nil {
		return 0, err
	}
	return k.Debug(ctx, r.ID, o, sink)
}

func (k localKeeper) dropFailed(ctx context.Context, ref string) error {
	r, err := k.Runs().Find(ctx, ref)
	if err != nil {
		return err
	}
	return k.DropFailed(ctx, r.ID)
}

func (k localKeeper) decisions(ctx context.Context, q audit.Query) ([]audit.Record, error) {
	return k.Audit().List(ctx, q)
}
