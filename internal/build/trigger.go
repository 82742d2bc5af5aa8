package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/distribute"
	"goldsmith/internal/event"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

// TypeTrigger is the resource type of triggers.
const TypeTrigger = typeTemplate + "/triggers"

// kindSourceImage is the only kind of trigger: a new version of the source.
const kindSourceImage = "SourceImage"

// Limits of triggers, as the real service has them.
const (
	maxTriggers     = 100 // in a region
	triggerPatience = 3   // failed runs one after the other until it is deactivated
)

// triggerState is what is kept with a trigger beside its properties.
type triggerState struct {
	Seen     string `json:"seen"`              // exact version of the source that needs no run any more
	LastRun  string `json:"lastRun,omitempty"` // last run that the trigger started
	Inactive bool   `json:"inactive,omitempty"`
}

// triggerProperties are a trigger's properties as they are served.
type triggerProperties struct {
	Kind              string         `json:"kind"`
	Status            *triggerStatus `json:"status,omitempty"`
	ProvisioningState string         `json:"provisioningState"`
}

type triggerStatus struct {
	Code    string `json:"code"`
	Message string `json:"message"`
	Time    string `json:"time"`
}

// PutTrigger accepts a trigger of a template; ActivateTrigger makes it work. The
// same trigger again changes nothing. CodeNotAllowed while the template is not
// ready; CodeValidationFailed for a template that no trigger can serve.
func (e *Engine) PutTrigger(ctx context.Context, template, name, kind string) (rec resource.Record, created bool, err error) {
	id, err := arm.ParseID(template + "/triggers/" + name)
	if err != nil {
		return rec, false, err
	}
	if kind != kindSourceImage {
		return rec, false, arm.Errorf(arm.CodeValidationFailed, "Validation failed: the kind of a trigger must be %s, not '%s'", kindSourceImage, kind).At("/properties/kind")
	}
	parent, err := arm.ParseID(template)
	if err != nil {
		return rec, false, err
	}
	defer e.templates.lock(parent)()
	if old, err := e.resources.Get(ctx, id.String()); !arm.IsCode(err, arm.CodeNotFound) {
		return old, false, err
	}
	owner, err := e.resources.Get(ctx, template)
	if err != nil {
		return rec, false, err
	}
	s, err := decodeTemplate(owner)
	if err != nil {
		return rec, false, err
	}
	if s.state() != StateSucceeded {
		return rec, false, notAllowed("triggers/write", s, nil).At(owner.ID)
	}
	res, err := s.parse()
	if err != nil {
		return rec, false, err
	}
	if err := triggerable(res.Template); err != nil {
		return rec, false, err
	}
	all, _, err := e.resources.List(ctx, resource.Query{Scope: "/subscriptions/" + parent.Subscription, Type: TypeTrigger})
	if err != nil {
		return rec, false, err
	}
	for _, other := range all {
		if strings.HasPrefix(resource.Key(other.ID), resource.Key(owner.ID)+"/") {
			return rec, false, arm.Errorf(arm.CodeConflict, "the template has the trigger %s of kind %s already: one is allowed", other.Name, kindSourceImage).At(other.ID)
		}
	}
	if len(all) >= maxTriggers {
		return rec, false, arm.Errorf(arm.CodeConflict, "there are %d triggers already, which is as many as are allowed", len(all))
	}
	rec = resource.Record{ID: id.String(), Type: TypeTrigger, Name: name}
	if err := keepTrigger(&rec, triggerProperties{Kind: kind, ProvisioningState: StateCreating}, triggerState{Seen: s.ExactVersion}); err != nil {
		return rec, false, err
	}
	return e.resources.Put(ctx, rec, resource.Condition{IfNoneMatch: true})
}

// triggerable says why no trigger can serve a template.
func triggerable(t *imagetemplate.Template) error {
	switch {
	case t.Source.Type == imagetemplate.PlatformImage && strings.EqualFold(t.Source.Version, "latest"):
	case t.Source.Type == imagetemplate.SharedImageVersion && strings.EqualFold(lastSegment(t.Source.ImageID), "latest"):
	default:
		return arm.Errorf(arm.CodeValidationFailed, "Validation failed: a %s trigger needs a source whose version is latest: a platform image, or a gallery version /versions/latest", kindSourceImage)
	}
	for _, d := range t.Distribute {
		if d.Type != imagetemplate.ToSharedImage {
			continue
		}
		id, err := arm.ParseID(d.GalleryImageID)
		if err != nil {
			return err
		}
		if id.IsType(distribute.TypeVersion) {
			return arm.Errorf(arm.CodeValidationFailed, "Validation failed: a template with a trigger cannot distribute to one version of a gallery image: leave out /versions/%s", id.Name).At(d.Pointer)
		}
		if strings.EqualFold(id.String()+"/versions/latest", t.Source.ImageID) {
			return arm.Errorf(arm.CodeValidationFailed, "Validation failed: a template with a trigger cannot distribute to the gallery image that it builds from").At(d.Pointer)
		}
	}
	return nil
}

func lastSegment(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

func keepTrigger(r *resource.Record, p triggerProperties, s triggerState) (err error) {
	if r.Properties, err = json.Marshal(p); err != nil {
		return err
	}
	r.Internal, err = json.Marshal(s)
	return err
}

func (e *Engine) changeTrigger(ctx context.Context, id string, change func(*triggerProperties, *triggerState)) error {
	_, err := e.resources.Update(ctx, id, func(r *resource.Record) error {
		var p triggerProperties
		var s triggerState
		if err := errors.Join(json.Unmarshal(r.Properties, &p), json.Unmarshal(r.Internal, &s)); err != nil {
			return arm.Errorf(arm.CodeCorrupt, "the record of %s does not parse: %w", r.ID, err)
		}
		change(&p, &s)
		return keepTrigger(r, p, s)
	})
	return err
}

// ActivateTrigger makes an accepted trigger work.
func (e *Engine) ActivateTrigger(ctx context.Context, id string) error {
	return e.changeTrigger(ctx, id, func(p *triggerProperties, _ *triggerState) {
		if p.ProvisioningState == StateCreating {
			p.ProvisioningState = StateSucceeded
			p.Status = &triggerStatus{Code: "Healthy", Message: "Trigger is active", Time: wireTime(time.Now())}
		}
	})
}

// DeleteTrigger deletes a trigger; one that is not there is deleted.
func (e *Engine) DeleteTrigger(ctx context.Context, id string) error {
	_, err := e.resources.Delete(ctx, id, resource.Condition{})
	return ignoreNotFound(err)
}

// PullTriggers looks at every trigger, and starts a run where the source has a
// version that is newer than the last one seen. Serve does it from time to time.
func (e *Engine) PullTriggers(ctx context.Context) error {
	all, _, err := e.resources.List(ctx, resource.Query{Scope: "/subscriptions/" + e.subscription, Type: TypeTrigger})
	if err != nil {
		return err
	}
	var errs []error
	for _, rec := range all {
		if err := e.pull(ctx, rec); err != nil {
			errs = append(errs, fmt.Errorf("trigger %s: %w", rec.ID, err))
		}
	}
	return errors.Join(errs...)
}

// pull looks at one trigger.
func (e *Engine) pull(ctx context.Context, rec resource.Record) error {
	var s triggerState
	if err := json.Unmarshal(rec.Internal, &s); err != nil {
		return arm.Errorf(arm.CodeCorrupt, "its record does not parse: %w", err)
	}
	if provisioningState(rec) != StateSucceeded {
		return nil
	}
	id, err := arm.ParseID(rec.ID)
	if err != nil {
		return err
	}
	parent, _ := id.Parent()
	template, err := e.resources.Get(ctx, parent.String())
	if err != nil {
		return ignoreNotFound(err)
	}
	if s, err = e.judge(ctx, rec.ID, template.ID, s); err != nil || s.Inactive {
		return err
	}
	state, err := decodeTemplate(template)
	if err != nil || state.state() != StateSucceeded {
		return err
	}
	res, err := state.parse()
	if err != nil {
		return err
	}
	src, err := e.resolveSource(ctx, res.Template, "", event.Discard)
	if err != nil {
		return err
	}
	exact := src.Base.ExactVersion
	if exact == "" || exact == s.Seen {
		return nil
	}
	started, err := e.startRun(ctx, template.ID, "trigger "+rec.Name, nil)
	if arm.IsCode(err, arm.CodeNotAllowed) {
		return nil // a run goes on; the next look starts one
	}
	if err != nil {
		return err
	}
	return e.changeTrigger(ctx, rec.ID, func(_ *triggerProperties, s *triggerState) { s.Seen, s.LastRun = exact, started.ID })
}

// judge deactivates a trigger after several failed runs, and activates it again
// after one that succeeded.
func (e *Engine) judge(ctx context.Context, id, template string, s triggerState) (triggerState, error) {
	runs, err := e.runs.List(ctx, run.Filter{Template: template, States: []run.State{run.Succeeded, run.PartiallySucceeded, run.Failed}, Limit: triggerPatience})
	if err != nil {
		return s, err
	}
	failed := 0
	for _, r := range runs {
		if r.State != run.Failed {
			break
		}
		failed++
	}
	inactive := failed >= triggerPatience
	if inactive == s.Inactive {
		return s, nil
	}
	s.Inactive = inactive
	return s, e.changeTrigger(ctx, id, func(p *triggerProperties, s *triggerState) {
		s.Inactive = inactive
		p.Status = &triggerStatus{Code: "Healthy", Message: "Trigger is active", Time: wireTime(time.Now())}
		if inactive {
			p.Status.Code = "Unhealthy"
			p.Status.Message = fmt.Sprintf("Trigger is not active: the last %d builds failed. A build that succeeds activates it again", triggerPatience)
		}
	})
}
