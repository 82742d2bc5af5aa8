// Package upkeep lets commands on other hosts do at a service what they do on a
// data directory: look after its images, templates, catalog, layers, consoles and
// audit. Its requests are actions of the namespace of the extensions, each with a
// permission of its own; they are the command line's, and Azure has none of them.
package upkeep

import (
	"context"
	"io"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/imagebuilder"
	"goldsmith/internal/audit"
	"goldsmith/internal/build"
	"goldsmith/internal/catalog"
	"goldsmith/internal/distribute"
	"goldsmith/internal/event"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

// Engine is what is looked after: *build.Engine.
type Engine interface {
	Images(ctx context.Context) ([]build.Image, error)
	FindImage(ctx context.Context, name string) (build.Image, error)
	Export(ctx context.Context, digest, path string, progress func(done, total int64)) error
	Boot(ctx context.Context, name string, c distribute.Content, o build.BootOptions, sink event.Sink) (exit int, err error)
	Templates(ctx context.Context) ([]resource.Record, error)
	FindTemplate(ctx context.Context, name string) (resource.Record, error)
	StagingGroup(ctx context.Context, template resource.Record) (group string, contents []resource.Record, err error)
	LastRun(ctx context.Context, template string) (run.Record, error)
	Catalog() *catalog.Catalog
	Layers(ctx context.Context) ([]build.CachedLayer, error)
	FindLayer(ctx context.Context, prefix string) (build.CachedLayer, error)
	PruneLayers(ctx context.Context, age time.Duration, bytes int64) (removed int, freed int64, err error)
	VerifyStored(ctx context.Context, sink event.Sink) (build.Verified, error)
	DiffImages(ctx context.Context, a, b build.Image, all bool) (build.ImageDiff, error)
	Capture(ctx context.Context, runID string, w io.Writer) error
	Debug(ctx context.Context, runID string, o build.DebugOptions, sink event.Sink) (exit int, err error)
	DropFailed(ctx context.Context, runID string) error
	VirtualNetworks(ctx context.Context) ([]build.VirtualNetwork, error)
	Reach(ctx context.Context, r build.Reach) (build.Reached, error)
	CollectWithin(ctx context.Context, limits build.GarbageLimits) (build.Collected, error)
	Runs() run.Store
	ConsolePath(runID string) string
	Audit() audit.Store
}

// Input is what the actions are asked with; each reads the members that it is
// about.
type Input struct {
	Name     string              `json:"name,omitempty"`  // of an image, template, layer, run or platform image
	Other    string              `json:"other,omitempty"` // of the image to compare with
	All      bool                `json:"all,omitempty"`
	Reach    *build.Reach        `json:"reach,omitempty"`
	Format   string              `json:"format,omitempty"`
	Command  string              `json:"command,omitempty"`
	Size     string              `json:"size,omitempty"` // of a virtual machine
	From     string              `json:"from,omitempty"` // address of a disk image
	Add      *catalog.AddOptions `json:"add,omitempty"`
	MaxAge   time.Duration       `json:"maxAge,omitempty"`
	MaxBytes int64               `json:"maxBytes,omitempty"`
	Audit    *audit.Query        `json:"audit,omitempty"`
}

// Template is a template with what belongs to it.
type Template struct {
	Record       resource.Record `json:"record"` // without what only the service knows
	StagingGroup string          `json:"stagingGroup"`
	Contents     []string        `json:"contents"` // type and name of what is in the staging group
	LastRun      string          `json:"lastRun"`  // state of the newest run, or "never"
}

// Pruned is what a pruning of layers removed.
type Pruned struct {
	Removed int   `json:"removed"`
	Freed   int64 `json:"freed"` // bytes
}

// upkeep answers the actions.
type upkeep struct {
	engine  Engine
	scratch string
}

// Provider is the actions. Those without a permission of their own show and touch
// only what the caller has rights on. Exported images are put into the directory
// scratch on their way.
func Provider(e Engine, scratch string) armapi.Provider {
	u := upkeep{e, scratch}
	const ns = imagebuilder.Extension
	catalogRead, catalogWrite, cacheRead, cacheDelete := ns+"/catalog/read", ns+"/catalog/write", ns+"/cache/read", ns+"/cache/delete"
	actions := map[string]armapi.Action{
		"images":    {Open: true, Handle: answer(u.images)},
		"image":     {Open: true, Handle: answer(u.image)},
		"export":    {Open: true, Handle: u.export},
		"boot":      {Permission: ns + "/images/boot/action", Handle: u.boot},
		"templates": {Open: true, Handle: answer(u.templates)},
		"template":  {Open: true, Handle: answer(u.template)},
		"console":   {Open: true, Handle: u.console},
		"diff":      {Open: true, Handle: u.diff},
		"capture":   {Permission: ns + "/runs/capture/action", Handle: u.capture},
		"debug":     {Permission: ns + "/runs/debug/action", Handle: u.debug},
		"drop":      {Permission: ns + "/runs/debug/action", Handle: answer(u.drop)},
		"networks":  {Open: true, Handle: answer(u.networks)},
		"reach":     {Open: true, Handle: answer(u.reach)},
		"audit":     {Permission: ns + "/audit/read", Handle: answer(u.audit)},
		"catalog": {Permission: catalogRead, Handle: answer(func(ctx context.Context, _ *armapi.Request, _ Input) ([]catalog.Entry, error) {
			return e.Catalog().List(ctx)
		})},
		"catalogEntry":  {Permission: catalogRead, Handle: answer(u.entry)},
		"catalogAdd":    {Permission: catalogWrite, Handle: work(u.add)},
		"catalogPull":   {Permission: catalogWrite, Handle: work(u.pull)},
		"catalogRemove": {Permission: ns + "/catalog/delete", Handle: answer(u.remove)},
		"layers": {Permission: cacheRead, Handle: answer(func(ctx context.Context, _ *armapi.Request, _ Input) ([]build.CachedLayer, error) {
			return e.Layers(ctx)
		})},
		"layer": {Permission: cacheRead, Handle: answer(func(ctx context.Context, _ *armapi.Request, in Input) (build.CachedLayer, error) {
			return e.FindLayer(ctx, in.Name)
		})},
		"prune": {Permission: cacheDelete, Handle: work(func(ctx context.Context, in Input, _ event.Sink) (Pruned, error) {
			removed, freed, err := e.PruneLayers(ctx, in.MaxAge, in.MaxBytes)
			return Pruned{removed, freed}, err
		})},
		"collect": {Permission: cacheDelete, Handle: work(func(ctx context.Context, in Input, _ event.Sink) (build.Collected, error) {
			return e.CollectWithin(ctx, build.GarbageLimits{MaxAge: in.MaxAge, MaxBytes: in.MaxBytes})
		})},
		"verify": {Permission: cacheRead, Handle: work(func(ctx context.Context, _ Input, sink event.Sink) (build.Verified, error) {
			return e.VerifyStored(ctx, sink)
		})},
	}
	return armapi.Provider{Namespace: ns, Actions: actions}
}

// answer is an action that answers at once.
func answer[T any](do func(context.Context, *armapi.Request, Input) (T, error)) armapi.Handler {
	return func(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
		var in Input
		if err := r.Decode(&in); err != nil {
			return armapi.Response{}, err
		}
		out, err := do(ctx, r, in)
		return armapi.OK(out), err
	}
}

// templates are those that the caller may read.
func (u upkeep) templates(ctx context.Context, r *armapi.Request, _ Input) ([]Template, error) {
	records, err := u.engine.Templates(ctx)
	if err != nil {
		return nil, err
	}
	out := []Template{}
	for _, rec := range records {
		if ok, err := r.Sees(ctx, rec.Type+"/read", rec.ID); err != nil {
			return nil, err
		} else if !ok {
			continue
		}
		t, err := View(ctx, u.engine, rec)
		if err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

func (u upkeep) template(ctx context.Context, r *armapi.Request, in Input) (Template, error) {
	rec, err := u.engine.FindTemplate(ctx, in.Name)
	if err != nil {
		return Template{}, err
	}
	if err := see(ctx, r, rec, in.Name); err != nil {
		return Template{}, err
	}
	return View(ctx, u.engine, rec)
}

// see is CodeNotFound for a record that the caller may not read.
func see(ctx context.Context, r *armapi.Request, rec resource.Record, name string) error {
	ok, err := r.Allowed(ctx, rec.Type+"/read", rec.ID)
	if err == nil && !ok {
		err = arm.Errorf(arm.CodeNotFound, "nothing is called %q", name)
	}
	return err
}

// View gathers what belongs to a template.
func View(ctx context.Context, e interface {
	StagingGroup(ctx context.Context, template resource.Record) (group string, contents []resource.Record, err error)
	LastRun(ctx context.Context, template string) (run.Record, error)
}, rec resource.Record) (Template, error) {
	t := Template{Record: rec, LastRun: "never"}
	t.Record.Internal = nil
	group, contents, err := e.StagingGroup(ctx, rec)
	if err != nil {
		return t, err
	}
	t.StagingGroup = group
	for _, c := range contents {
		t.Contents = append(t.Contents, c.Type+" "+c.Name)
	}
	last, err := e.LastRun(ctx, rec.ID)
	switch {
	case err == nil:
		t.LastRun = string(last.State)
	case !arm.IsCode(err, arm.CodeNotFound):
		return t, err
	}
	return t, nil
}

func (u upkeep) audit(ctx context.Context, _ *armapi.Request, in Input) ([]audit.Record, error) {
	var q audit.Query
	if in.Audit != nil {
		q = *in.Audit
	}
	return u.engine.Audit().List(ctx, q)
}

func (u upkeep) entry(ctx context.Context, _ *armapi.Request, in Input) (catalog.Entry, error) {
	urn, err := catalog.ParseURN(in.Name)
	if err != nil {
		return catalog.Entry{}, err
	}
	return u.engine.Catalog().Get(ctx, urn)
}

func (u upkeep) add(ctx context.Context, in Input, sink event.Sink) (catalog.Entry, error) {
	urn, err := catalog.ParseURN(in.Name)
	if err != nil {
		return catalog.Entry{}, err
	}
	// A path would be one of the service's host, which is not the caller's to read.
	if low := strings.ToLower(in.From); !strings.HasPrefix(low, "https://") && !strings.HasPrefix(low, "http://") {
		return catalog.Entry{}, arm.Errorf(arm.CodeUsage, "a service takes platform images from an address, not from a file: run this command on its host, or give a URL")
	}
	var options catalog.AddOptions
	if in.Add != nil {
		options = *in.Add
	}
	return u.engine.Catalog().Add(ctx, urn, in.From, options, sink)
}

func (u upkeep) pull(ctx context.Context, in Input, sink event.Sink) (catalog.Entry, error) {
	urn, err := catalog.ParseURN(in.Name)
	if err != nil {
		return catalog.Entry{}, err
	}
	return u.engine.Catalog().Pull(ctx, urn, sink)
}

func (u upkeep) remove(ctx context.Context, _ *armapi.Request, in Input) (catalog.Entry, error) {
	urn, err := catalog.ParseURN(in.Name)
	if err != nil {
		return catalog.Entry{}, err
	}
	return u.engine.Catalog().Remove(ctx, urn)
}
