package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"goldsmith/internal/arm"
	"goldsmith/internal/distribute"
	"goldsmith/internal/event"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/plan"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

// Request is a template submitted for one run.
type Request struct {
	Template imagetemplate.Result // as parsed, without errors
	Name     string               // image template name
	Group    string               // resource group of the template
	Dir      string               // relative artifact paths are relative to it
	Source   string               // another base than the template's, "" for none
	Outputs  []string             // files to export the image to, absolute paths
	// Create makes the groups, galleries and definitions that the template names
	// and that do not exist.
	Create bool
}

// templateState is what is kept with a template resource beside its body.
type templateState struct {
	Staging   staging                  `json:"staging"`
	Artifacts map[string]plan.Artifact `json:"artifacts"` // by URI, frozen at submission
	Version   string                   `json:"apiVersion"`
}

// job is what a run's owner needs to work it.
type job struct {
	Body       json.RawMessage          `json:"body"`
	APIVersion string                   `json:"apiVersion"`
	TemplateID string                   `json:"templateId"`
	Name       string                   `json:"name"`
	Source     string                   `json:"source,omitempty"`
	Artifacts  map[string]plan.Artifact `json:"artifacts"`
	Staging    staging                  `json:"staging"`
	Outputs    []string                 `json:"outputs,omitempty"`
}

// CheckExecutable is the error of a valid template that asks for something this
// engine cannot do yet; nil when it can be built as it stands.
func CheckExecutable(res imagetemplate.Result) error {
	var errs []error
	for _, p := range res.Problems {
		if p.NotExecutable {
			errs = append(errs, arm.Errorf(arm.CodeNotSupported, "%s", p.Message).At(p.Pointer))
		}
	}
	return errors.Join(errs...)
}

// Submit validates a request against the store, freezes its artifacts, writes
// the template resource with its staging group, and returns the record of a run
// of it, yet to be created. Progress is reported to sink; nothing is left behind
// on error except content that garbage collection removes.
func (e *Engine) Submit(ctx context.Context, id string, req Request, sink event.Sink) (run.Record, error) {
	var rec run.Record
	err := report(sink, event.PhaseSubmit, 0, func() (err error) {
		rec, err = e.submit(ctx, id, req, sink)
		return err
	})
	return rec, err
}

func (e *Engine) submit(ctx context.Context, runID string, req Request, sink event.Sink) (run.Record, error) {
	t := req.Template.Template
	if t == nil {
		return run.Record{}, arm.Errorf(arm.CodeValidationFailed, "the template has errors")
	}
	if err := CheckExecutable(req.Template); err != nil {
		return run.Record{}, err
	}
	for _, out := range req.Outputs {
		if err := checkOutput(out); err != nil {
			return run.Record{}, err
		}
	}
	src, err := e.resolveSource(ctx, t, req.Source, sink)
	if err != nil {
		return run.Record{}, err
	}
	artifacts, err := e.freeze(ctx, t, req.Dir, sink)
	if err != nil {
		return run.Record{}, err
	}
	// A plan of what is known already finds what cannot be built before anything
	// is created; the run plans again when the source's bytes are there.
	if _, warnings, problems := plan.New(t, e.inputs(src.Base, artifacts)); len(problems) > 0 {
		return run.Record{}, joinProblems(problems)
	} else {
		for _, w := range warnings {
			sink.Emit(event.Event{Kind: event.Warning, Text: w})
		}
	}

	id, err := arm.ParseID(arm.ResourceID(e.subscription, req.Group, typeTemplate, req.Name))
	if err != nil {
		return run.Record{}, err
	}
	created := func(text string) { sink.Emit(event.Event{Kind: event.Info, Text: text}) }
	content := distribute.Content{OS: src.Base.OS, Generation: src.Base.Generation, DiskBytes: src.Base.DiskBytes}
	if err := e.publisher.Prepare(ctx, t.Distribute, content, t.Location, req.Create, created); err != nil {
		return run.Record{}, err
	}
	stage, err := e.putTemplate(ctx, id, req, artifacts)
	if err != nil {
		return run.Record{}, err
	}
	request, err := json.Marshal(job{
		Body: req.Template.Body, APIVersion: t.APIVersion, TemplateID: id.String(), Name: req.Name, Source: req.Source,
		Artifacts: artifacts, Staging: stage, Outputs: req.Outputs,
	})
	if err != nil {
		return run.Record{}, fmt.Errorf("encode the run: %w", err)
	}
	return run.Record{ID: runID, Template: id.String(), Request: request}, nil
}

// freeze fetches and freezes every artifact of t.
func (e *Engine) freeze(ctx context.Context, t *imagetemplate.Template, dir string, sink event.Sink) (map[string]plan.Artifact, error) {
	artifacts := map[string]plan.Artifact{}
	for _, ref := range plan.Artifacts(t) {
		frozen, err := e.freezer(dir, sink).Freeze(ctx, ref.URI, ref.SHA256)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ref.Pointer, err)
		}
		artifacts[ref.URI] = plan.Artifact{URI: ref.URI, SHA256: frozen.SHA256, Size: frozen.Size}
	}
	return artifacts, nil
}

// putTemplate writes the template resource and makes its staging group.
func (e *Engine) putTemplate(ctx context.Context, id arm.ID, req Request, artifacts map[string]plan.Artifact) (staging, error) {
	t := req.Template.Template
	group, err := e.resources.Get(ctx, id.GroupID())
	if arm.IsCode(err, arm.CodeNotFound) {
		err = e.putResource(ctx, id.GroupID(), distribute.TypeGroup, t.Location, nil, map[string]any{"provisioningState": "Succeeded"})
	}
	if err != nil {
		return staging{}, fmt.Errorf("make resource group %s: %w", group.Name, err)
	}
	var have templateState
	if old, err := e.resources.Get(ctx, id.String()); err == nil {
		if have, err = decodeTemplate(old); err != nil {
			return staging{}, err
		}
	} else if !arm.IsCode(err, arm.CodeNotFound) {
		return staging{}, err
	}
	// The names are recorded with the template before anything has them, so that
	// no group is ever without its template.
	stage := have.Staging
	if stage.Group == "" {
		if stage, err = nameStaging(id); err != nil {
			return staging{}, err
		}
	}
	var body struct {
		Identity   json.RawMessage `json:"identity"`
		Properties json.RawMessage `json:"properties"`
	}
	if err := json.Unmarshal(req.Template.Body, &body); err != nil {
		return staging{}, fmt.Errorf("read the template's body: %w", err)
	}
	internal, err := json.Marshal(templateState{Staging: stage, Artifacts: artifacts, Version: t.APIVersion})
	if err != nil {
		return staging{}, fmt.Errorf("encode the template: %w", err)
	}
	_, _, err = e.resources.Put(ctx, resource.Record{
		ID: id.String(), Type: typeTemplate, Name: id.Name, Location: t.Location, Tags: t.Tags,
		Identity: body.Identity, Properties: body.Properties, Internal: internal,
	}, resource.Condition{})
	if err != nil {
		return staging{}, err
	}
	if err := e.ensureStaging(ctx, id, t.Location, t.ManagedResourceTags, stage); err != nil {
		return staging{}, fmt.Errorf("make the staging group: %w", err)
	}
	return stage, nil
}

// DeleteTemplate deletes an image template with its staging group and what is
// in its storage account.
func (e *Engine) DeleteTemplate(ctx context.Context, id string) error {
	rec, err := e.resources.Get(ctx, id)
	if err != nil {
		return err
	}
	active, err := e.runs.List(ctx, run.Filter{Template: rec.ID, States: []run.State{run.Queued, run.Running, run.Canceling}})
	if err != nil {
		return err
	}
	if len(active) > 0 {
		return arm.Errorf(arm.CodeNotAllowed, "Operation %s/delete is not allowed in run state: %s. cancel run %s first", typeTemplate, active[0].State, active[0].ID)
	}
	state, err := decodeTemplate(rec)
	if err != nil {
		return err
	}
	if state.Staging.Account != "" {
		if err := e.blobs.DeleteAccount(ctx, state.Staging.Account); err != nil && !arm.IsCode(err, arm.CodeNotFound) {
			return fmt.Errorf("delete the staging storage account: %w", err)
		}
	}
	if state.Staging.Group != "" {
		if _, err := e.resources.Delete(ctx, state.Staging.Group, resource.Condition{}); err != nil && !arm.IsCode(err, arm.CodeNotFound) {
			return fmt.Errorf("delete the staging group: %w", err)
		}
	}
	_, err = e.resources.Delete(ctx, rec.ID, resource.Condition{})
	return err
}

// joinProblems is several findings as one error.
func joinProblems(problems []*arm.Error) error {
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = p
	}
	return errors.Join(errs...)
}

// checkOutput refuses an export file that could not be written at the end.
func checkOutput(path string) error {
	if !filepath.IsAbs(path) {
		return arm.Errorf(arm.CodeInternal, "output %s is not an absolute path", path)
	}
	return checkWritable(path)
}
