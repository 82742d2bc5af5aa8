package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"goldsmith/internal/arm"
	"goldsmith/internal/distribute"
	"goldsmith/internal/event"
	"goldsmith/internal/image"
	"goldsmith/internal/image/format"
	"goldsmith/internal/plan"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

// result is what the run captured, as the distributors need it.
func (b *builder) result() distribute.Result {
	return distribute.Result{
		Content: distribute.Content{
			Image: b.image, OS: b.plan.Base.OS, Generation: b.plan.Base.Generation, DiskBytes: b.plan.DiskBytes, Run: b.active.id(),
		},
		Template:      b.job.TemplateID,
		SourceVersion: b.source.Version,
	}
}

// distribute publishes to every target. One that fails does not stop the others:
// the run is then partially succeeded.
func (b *builder) distribute(ctx context.Context) error {
	b.engine.imageOf.Store(b.active.id(), b.image)
	if b.job.Unpublished {
		return nil
	}
	published := map[string]run.Output{} // by an owner of this run who died
	for _, out := range b.active.snapshot().Outputs {
		if out.Error == "" {
			published[out.Name] = out
		}
	}
	publisher := *b.engine.publisher
	publisher.Locations = replicator{b.engine, b.sink}
	for _, target := range b.plan.Outputs {
		if out, ok := published[target.RunOutputName]; ok {
			b.outputs = append(b.outputs, out)
			b.sink.Emit(event.Event{Kind: event.Result, Text: out.Kind + " " + out.Name, Target: out.ArtifactID + out.ArtifactURI})
			continue
		}
		out, err := b.publish(ctx, &publisher, target)
		if cause := context.Cause(ctx); err != nil && cause != nil {
			return cause
		}
		b.outputs = append(b.outputs, out)
		if err != nil {
			b.sink.Emit(event.Event{Kind: event.Result, Text: out.Kind + " " + out.Name, Target: target.Pointer, Err: event.FailureOf(err)})
			continue
		}
		b.sink.Emit(event.Event{Kind: event.Result, Text: out.Kind + " " + out.Name, Target: out.ArtifactID + out.ArtifactURI})
		// What is published is listed, even if a cancel came meanwhile.
		whole := context.WithoutCancel(ctx)
		if err := b.engine.putRunOutput(whole, b.job.TemplateID, out); err != nil {
			return err
		}
		if err := b.active.update(whole, func(r *run.Record) error { r.Outputs = b.outputs; return nil }); err != nil {
			return err
		}
	}
	return nil
}

// publish publishes to one target, if the builder still may.
func (b *builder) publish(ctx context.Context, publisher *distribute.Publisher, target plan.Output) (run.Output, error) {
	if err := b.touchTarget(ctx, target.Pointer); err != nil {
		return run.Output{Name: target.RunOutputName, Kind: string(target.Type), Error: err.Error()},
			fmt.Errorf("distribute %s %q: %w", target.Type, target.RunOutputName, err)
	}
	return publisher.Publish(ctx, target, b.result(), b.job.Staging.Account)
}

// putRunOutput records a target's result under its template, replacing the one
// of the run before.
func (e *Engine) putRunOutput(ctx context.Context, templateID string, out run.Output) error {
	props := map[string]any{"provisioningState": "Succeeded"}
	if out.ArtifactID != "" {
		props["artifactId"] = out.ArtifactID
	}
	if out.ArtifactURI != "" {
		props["artifactUri"] = out.ArtifactURI
	}
	return e.putResource(ctx, templateID+"/runOutputs/"+out.Name, typeOutput, "", nil, props)
}

// export writes the image to files. Each is an output of its own.
func (b *builder) export(ctx context.Context) error {
	for _, path := range b.job.Outputs {
		out := run.Output{Name: filepath.Base(path), Kind: "File", ArtifactURI: path}
		err := b.engine.Export(ctx, b.image, path, b.progress("write "+filepath.Base(path)))
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
			out.Error = err.Error()
			b.sink.Emit(event.Event{Kind: event.Result, Text: "file", Target: path, Err: event.FailureOf(err)})
		} else {
			b.sink.Emit(event.Event{Kind: event.Result, Text: "file", Target: path})
		}
		b.outputs = append(b.outputs, out)
	}
	return nil
}

// Export writes a stored image to a file in the format of its extension.
func (e *Engine) Export(ctx context.Context, digest, path string, progress func(done, total int64)) error {
	d, err := image.ParseDigest(digest)
	if err != nil {
		return err
	}
	f, err := format.Of(path)
	if err != nil {
		return err
	}
	return e.images.Export(ctx, d, path, f, progress)
}

// checkWritable refuses an output path that could not be written at the end of
// the run: an unknown format, or a directory that is not there or not writable.
func checkWritable(path string) error {
	if _, err := format.Of(path); err != nil {
		return arm.Errorf(arm.CodeUsage, "--output %w", err)
	}
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return arm.Errorf(arm.CodeUsage, "--output %s: it exists and is not a regular file", path)
	}
	probe, err := os.CreateTemp(filepath.Dir(path), ".goldsmith-*")
	if err != nil {
		return arm.Errorf(arm.CodeUsage, "--output %s: its directory cannot be written: %w", path, err)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// recordExactVersion notes in the template what its source resolved to.
func (e *Engine) recordExactVersion(ctx context.Context, templateID, exact string) error {
	if exact == "" {
		return nil
	}
	_, err := e.changeTemplate(ctx, templateID, func(_ *resource.Record, s *templateState) error {
		s.ExactVersion = exact
		return nil
	})
	if err != nil {
		return fmt.Errorf("record the exact version of the source: %w", err)
	}
	return nil
}
