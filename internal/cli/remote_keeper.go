package cli

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
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

// Versions of the interface that deletions at a service use.
const (
	imageVersion          = "2024-07-01"
	networkVersion        = "2024-05-01"
	templateDeleteVersion = "2024-02-01"
)

// remoteKeeper looks after what a service has.
type remoteKeeper struct{ *remote }

// act asks for an action of the interface's part that Azure does not have.
func (k remoteKeeper) act(ctx context.Context, action string, in upkeep.Input) (*http.Response, error) {
	return k.send(ctx, http.MethodPost, k.below("/providers/Goldsmith.Builds/%s", action), extension, nil, in, "*/*")
}

// ask is the answer of an action.
func ask[T any](ctx context.Context, k remoteKeeper, action string, in upkeep.Input) (out T, err error) {
	resp, err := k.act(ctx, action, in)
	if err != nil {
		return out, err
	}
	return out, decodeAnswer(resp, &out)
}

// await is the result of an action that takes its time; each hears what it says
// meanwhile.
func await[T any](ctx context.Context, k remoteKeeper, action string, in upkeep.Input, each func(upkeep.Frame)) (out T, err error) {
	resp, err := k.act(ctx, action, in)
	if err != nil {
		return out, err
	}
	defer func() { _ = resp.Body.Close() }() // it was read to its end, or is broken
	frames := json.NewDecoder(resp.Body)
	for {
		var f upkeep.Frame
		if err := frames.Decode(&f); err != nil {
			if cause := context.Cause(ctx); cause != nil {
				return out, cause
			}
			return out, arm.Errorf(arm.CodeInternal, "the service's answer broke off: %w", err)
		}
		switch {
		case f.Fault != nil:
			return out, &arm.Error{Code: arm.Code(f.Fault.Code), Message: f.Fault.Message, Target: f.Fault.Target}
		case f.Result != nil:
			if err := json.Unmarshal(f.Result, &out); err != nil {
				return out, arm.Errorf(arm.CodeInternal, "the service's answer does not decode: %w", err)
			}
			return out, nil
		}
		each(f)
	}
}

// hear passes events on.
func hear(sink event.Sink) func(upkeep.Frame) {
	return func(f upkeep.Frame) {
		if f.Event != nil {
			sink.Emit(*f.Event)
		}
	}
}

// Images implements keeper.
func (k remoteKeeper) Images(ctx context.Context) ([]build.Image, error) {
	return ask[[]build.Image](ctx, k, "images", upkeep.Input{})
}

// FindImage implements keeper.
func (k remoteKeeper) FindImage(ctx context.Context, name string) (build.Image, error) {
	return ask[build.Image](ctx, k, "image", upkeep.Input{Name: name})
}

func (k remoteKeeper) deleteImage(ctx context.Context, i build.Image) error {
	return k.delete(ctx, i.ID, imageVersion)
}

// delete deletes a resource and waits until it is gone.
func (k remoteKeeper) delete(ctx context.Context, id, version string) error {
	if err := k.call(ctx, http.MethodDelete, id, version, nil, nil); err != nil {
		return err
	}
	tick := time.NewTicker(pollPause)
	defer tick.Stop()
	for {
		err := k.call(ctx, http.MethodGet, id, version, nil, nil)
		var coded *arm.Error
		switch {
		case errors.As(err, &coded) && (coded.Code == arm.CodeNotFound || coded.Code == "ResourceNotFound"):
			return nil
		case err != nil:
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (k remoteKeeper) export(ctx context.Context, i build.Image, path string, sink event.Sink) (err error) {
	resp, err := k.act(ctx, "export", upkeep.Input{Name: i.ID, Format: filepath.Ext(path)})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }() // it was read to its end, or is broken
	part := path + ".part"
	f, err := os.OpenFile(part, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return arm.Errorf(arm.CodeUsage, "--output %s: %w", path, err)
	}
	w := &sparse{file: f, said: func(done int64) {
		sink.Emit(event.Event{Kind: event.Progress, Text: "write " + filepath.Base(path), Done: done, Total: resp.ContentLength})
	}}
	_, err = io.CopyBuffer(struct{ io.Writer }{w}, resp.Body, make([]byte, sparseBlock))
	if err == nil {
		err = f.Truncate(w.at) // a hole at the end
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(part, path)
	}
	if err != nil {
		return errors.Join(arm.Errorf(arm.CodeInternal, "write %s: %w", path, err), os.Remove(part))
	}
	return nil
}

// sparseBlock is how much is written, or left out as a hole, at once.
const sparseBlock = 256 << 10

// sparse writes a file, and leaves holes where blocks are zero.
type sparse struct {
	file *os.File
	at   int64
	said func(done int64)
}

// Write implements io.Writer.
func (s *sparse) Write(p []byte) (int, error) {
	zero := true
	for _, b := range p {
		if b != 0 {
			zero = false
			break
		}
	}
	if !zero {
		if n, err := s.file.WriteAt(p, s.at); err != nil {
			return n, err
		}
	}
	s.at += int64(len(p))
	s.said(s.at)
	return len(p), nil
}

func (k remoteKeeper) boot(ctx context.Context, i build.Image, o build.BootOptions, sink event.Sink) (int, error) {
	if o.Member != nil {
		return 0, arm.Errorf(arm.CodeUsage, "--vnet is for machines of this host's data directory, not through --server")
	}
	if o.Command == "" {
		return 0, arm.Errorf(arm.CodeUsage, "give a command to run in the machine: its console is shown on the service's host only")
	}
	return k.inGuest(ctx, "boot", upkeep.Input{Name: i.ID, Command: o.Command, Size: o.Size}, o.Stdout, o.Stderr, sink)
}

// inGuest is the exit status of an action that runs a command in a guest.
func (k remoteKeeper) inGuest(ctx context.Context, action string, in upkeep.Input, stdout, stderr io.Writer, sink event.Sink) (int, error) {
	var lost error
	exit, err := await[int](ctx, k, action, in, func(f upkeep.Frame) {
		_, out := stdout.Write(f.Stdout)
		_, serr := stderr.Write(f.Stderr)
		lost = errors.Join(lost, out, serr)
		hear(sink)(f)
	})
	return exit, errors.Join(err, lost)
}

func (k remoteKeeper) templates(ctx context.Context) ([]upkeep.Template, error) {
	return ask[[]upkeep.Template](ctx, k, "templates", upkeep.Input{})
}

func (k remoteKeeper) template(ctx context.Context, name string) (upkeep.Template, error) {
	return ask[upkeep.Template](ctx, k, "template", upkeep.Input{Name: name})
}

func (k remoteKeeper) deleteTemplate(ctx context.Context, t upkeep.Template) error {
	return k.delete(ctx, t.Record.ID, templateDeleteVersion)
}

func (k remoteKeeper) entries(ctx context.Context) ([]catalog.Entry, error) {
	return ask[[]catalog.Entry](ctx, k, "catalog", upkeep.Input{})
}

func (k remoteKeeper) entry(ctx context.Context, urn catalog.URN) (catalog.Entry, error) {
	return ask[catalog.Entry](ctx, k, "catalogEntry", upkeep.Input{Name: urn.String()})
}

func (k remoteKeeper) addEntry(ctx context.Context, urn catalog.URN, from string, o catalog.AddOptions, sink event.Sink) (catalog.Entry, error) {
	return await[catalog.Entry](ctx, k, "catalogAdd", upkeep.Input{Name: urn.String(), From: from, Add: &o}, hear(sink))
}

func (k remoteKeeper) pullEntry(ctx context.Context, urn catalog.URN, sink event.Sink) (catalog.Entry, error) {
	return await[catalog.Entry](ctx, k, "catalogPull", upkeep.Input{Name: urn.String()}, hear(sink))
}

func (k remoteKeeper) removeEntry(ctx context.Context, urn catalog.URN) (catalog.Entry, error) {
	return ask[catalog.Entry](ctx, k, "catalogRemove", upkeep.Input{Name: urn.String()})
}

// Layers implements keeper.
func (k remoteKeeper) Layers(ctx context.Context) ([]build.CachedLayer, error) {
	return ask[[]build.CachedLayer](ctx, k, "layers", upkeep.Input{})
}

// FindLayer implements keeper.
func (k remoteKeeper) FindLayer(ctx context.Context, prefix string) (build.CachedLayer, error) {
	return ask[build.CachedLayer](ctx, k, "layer", upkeep.Input{Name: prefix})
}

// PruneLayers implements keeper.
func (k remoteKeeper) PruneLayers(ctx context.Context, age time.Duration, bytes int64) (int, int64, error) {
	p, err := await[upkeep.Pruned](ctx, k, "prune", upkeep.Input{MaxAge: age, MaxBytes: bytes}, func(upkeep.Frame) {})
	return p.Removed, p.Freed, err
}

// VerifyStored implements keeper.
func (k remoteKeeper) VerifyStored(ctx context.Context, sink event.Sink) (build.Verified, error) {
	return await[build.Verified](ctx, k, "verify", upkeep.Input{}, hear(sink))
}

// CollectWithin implements keeper.
func (k remoteKeeper) CollectWithin(ctx context.Context, limits build.GarbageLimits) (build.Collected, error) {
	return await[build.Collected](ctx, k, "collect", upkeep.Input{MaxAge: limits.MaxAge, MaxBytes: limits.MaxBytes}, func(upkeep.Frame) {})
}

func (k remoteKeeper) console(ctx context.Context, ref string) (io.ReadCloser, error) {
	resp, err := k.act(ctx, "console", upkeep.Input{Name: ref})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func (k remoteKeeper) decisions(ctx context.Context, q audit.Query) ([]audit.Record, error) {
	return ask[[]audit.Record](ctx, k, "audit", upkeep.Input{Audit: &q})
}

// DiffImages implements keeper.
func (k remoteKeeper) DiffImages(ctx context.Context, a, b build.Image, all bool) (build.ImageDiff, error) {
	return await[build.ImageDiff](ctx, k, "diff", upkeep.Input{Name: a.ID, Other: b.ID, All: all}, func(upkeep.Frame) {})
}

func (k remoteKeeper) capture(ctx context.Context, ref string, w io.Writer) error {
	var lost error
	_, err := await[bool](ctx, k, "capture", upkeep.Input{Name: ref}, func(f upkeep.Frame) {
		_, werr := w.Write(f.Stdout)
		lost = errors.Join(lost, werr)
	})
	return errors.Join(err, lost)
}

func (k remoteKeeper) debug(ctx context.Context, ref string, o build.DebugOptions, sink event.Sink) (int, error) {
	if o.Command == "" {
		return 0, arm.Errorf(arm.CodeUsage, "give a command with -c: a shell is opened on the service's host only")
	}
	return k.inGuest(ctx, "debug", upkeep.Input{Name: ref, Command: o.Command}, o.Stdout, o.Stderr, sink)
}

func (k remoteKeeper) dropFailed(ctx context.Context, ref string) error {
	_, err := ask[bool](ctx, k, "drop", upkeep.Input{Name: ref})
	return err
}

// Subscription implements keeper.
func (k remoteKeeper) Subscription() string { return k.subscription }

// VirtualNetworks implements keeper.
func (k remoteKeeper) VirtualNetworks(ctx context.Context) ([]build.VirtualNetwork, error) {
	return ask[[]build.VirtualNetwork](ctx, k, "networks", upkeep.Input{})
}

// Reach implements keeper.
func (k remoteKeeper) Reach(ctx context.Context, r build.Reach) (build.Reached, error) {
	return ask[build.Reached](ctx, k, "reach", upkeep.Input{Reach: &r})
}

// PutNetworkResource implements keeper. The caller needs the rights that az would.
func (k remoteKeeper) PutNetworkResource(ctx context.Context, rec resource.Record) (resource.Record, error) {
	id, err := arm.ParseID(rec.ID)
	if err != nil {
		return rec, err
	}
	if err := k.ensureGroup(ctx, id.Group, rec.Location); err != nil {
		return rec, err
	}
	body := map[string]any{"properties": rec.Properties, "tags": rec.Tags}
	if rec.Location != "" {
		body["location"] = rec.Location
	}
	if err := k.call(ctx, http.MethodPut, rec.ID, networkVersion, body, nil); err != nil {
		return rec, err
	}
	tick := time.NewTicker(pollPause)
	defer tick.Stop()
	for {
		var stored struct {
			ID         string `json:"id"`
			Properties struct {
				State string `json:"provisioningState"`
			} `json:"properties"`
		}
		if err := k.call(ctx, http.MethodGet, rec.ID, networkVersion, nil, &stored); err != nil {
			return rec, err
		}
		switch stored.Properties.State {
		case "", "Succeeded":
			rec.ID = stored.ID
			return rec, nil
		case "Failed", "Canceled":
			return rec, arm.Errorf(arm.CodeConflict, "%s could not be stored: it is %s", rec.ID, stored.Properties.State)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return rec, context.Cause(ctx)
		}
	}
}
