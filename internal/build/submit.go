package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

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
	// Cache says what of earlier runs is reused.
	Cache CachePolicy
	// Values are parameters and secrets of this run.
	Values []GivenValue
	// OnError says what becomes of the state in which a step failed; "" is what the
	// template's errorHandling says, and Clean if that says nothing.
	OnError OnError
	// Keep is how long a failed step's state is kept; 0 is an hour.
	Keep time.Duration
	// Create makes the groups, galleries, definitions, identities and grants that
	// the template needs and that do not exist.
	Create bool
	// unpublished keeps the image from every target.
	unpublished bool
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
	Cache      CachePolicy              `json:"cache,omitzero"`
	Values     map[string]plan.Value    `json:"values,omitempty"` // without the content of secrets
	OnError    OnError                  `json:"onError,omitempty"`
	Keep       time.Duration            `json:"keep,omitempty"`
	// Unpublished keeps the image from every target.
	Unpublished bool `json:"unpublished,omitempty"`
	// Service marks a run that the service works, and takes up again when its
	// process dies.
	Service bool `json:"service,omitempty"`
	// Literal is set when placeholders in Body are plain text and artifacts are
	// addresses, as in a request.
	Literal bool `json:"literal,omitempty"`
	// Cause is what started the run, "" for a person's request.
	Cause string `json:"cause,omitempty"`
}

// decodeJob is what a run was asked to do.
func decodeJob(rec run.Record) (job, error) {
	var j job
	if err := json.Unmarshal(rec.Request, &j); err != nil {
		return j, arm.Errorf(arm.CodeCorrupt, "the request of run %s does not parse: %w", rec.ID, err)
	}
	return j, nil
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

func (e *Engine) submit(ctx context.Context, runID string, req Request, sink event.Sink) (_ run.Record, err error) {
	if req.Template.Template == nil {
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
	values, secrets, err := checkValues(req.Values)
	if err != nil {
		return run.Record{}, err
	}
	id, err := arm.ParseID(arm.ResourceID(e.subscription, req.Group, typeTemplate, req.Name))
	if err != nil {
		return run.Record{}, err
	}
	undo, err := e.admit(ctx, accessQuestion{template: req.Template.Template, id: id, other: req.Source != "", run: runID}, req.Create, sink)
	defer func() {
		if err != nil {
			err = errors.Join(err, undo(context.WithoutCancel(ctx)))
		}
	}()
	if err != nil {
		return run.Record{}, err
	}
	l := lookup{dir: req.Dir, source: req.Source, create: req.Create, values: values, sink: sink}
	if err := e.look(ctx, req.Template, &l); err != nil {
		return run.Record{}, err
	}
	state, err := e.putTemplate(ctx, id, req, l.artifacts)
	if err != nil {
		return run.Record{}, err
	}
	if len(secrets) > 0 {
		e.secretsOf.Store(runID, secrets)
	}
	return newRun(runID, id, state, job{
		Body: req.Template.Body, Source: req.Source, Outputs: req.Outputs,
		Cache: req.Cache, Values: values, OnError: req.OnError, Keep: req.Keep, Unpublished: req.unpublished,
	})
}

// newRun is the record of a run of a template, with what j has of its own.
func newRun(runID string, id arm.ID, s templateState, j job) (run.Record, error) {
	j.APIVersion, j.TemplateID, j.Name, j.Artifacts, j.Staging = s.Version, id.String(), id.Name, s.Artifacts, s.Staging
	request, err := json.Marshal(j)
	if err != nil {
		return run.Record{}, fmt.Errorf("encode the run: %w", err)
	}
	return run.Record{ID: runID, Template: id.String(), Request: request}, nil
}

// putTemplate writes the template resource of a build and makes its staging
// group. A template of that name is replaced.
func (e *Engine) putTemplate(ctx context.Context, id arm.ID, req Request, artifacts map[string]plan.Artifact) (templateState, error) {
	t := req.Template.Template
	group, err := e.resources.Get(ctx, id.GroupID())
	if arm.IsCode(err, arm.CodeNotFound) {
		err = e.putResource(ctx, id.GroupID(), distribute.TypeGroup, t.Location, nil, map[string]any{"provisioningState": "Succeeded"})
	}
	if err != nil {
		return templateState{}, fmt.Errorf("make resource group %s: %w", group.Name, err)
	}
	s := templateState{Artifacts: artifacts, Version: t.APIVersion}
	if old, err := e.resources.Get(ctx, id.String()); err == nil {
		have, err := decodeTemplate(old)
		if err != nil {
			return s, err
		}
		s.Staging = have.Staging
	} else if !arm.IsCode(err, arm.CodeNotFound) {
		return s, err
	}
	// The names are recorded with the template before anything has them, so that
	// no group is ever without its template.
	if s.Staging.changed(t.StagingGroup) && s.Staging.Group != "" {
		return s, errStagingChanged(s.Staging)
	}
	if err := s.Staging.name(id, t.StagingGroup); err != nil {
		return s, err
	}
	p, err := split(req.Template.Body, t)
	if err != nil {
		return s, err
	}
	rec, err := s.record(id, p)
	if err != nil {
		return s, err
	}
	if _, _, err = e.resources.Put(ctx, rec, resource.Condition{}); err != nil {
		return s, err
	}
	before := s.Staging
	if err := e.ensureStaging(ctx, id, t, &s.Staging); err != nil {
		return s, fmt.Errorf("make the staging group: %w", err)
	}
	if s.Staging != before {
		_, err = e.changeTemplate(ctx, id.String(), func(_ *resource.Record, now *templateState) error {
			now.Staging = s.Staging
			return nil
		})
	}
	return s, err
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
