package build

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
	"goldsmith/internal/distribute"
	"goldsmith/internal/event"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/preflight"
	"goldsmith/internal/resource"
)

// Submission is a template as a client of the service submits it.
type Submission struct {
	ID        arm.ID               // of the template resource
	Template  imagetemplate.Result // as parsed for the service, without errors
	Operation string               // id of the change, a lower-case GUID; "" for a new one
	// Replace changes a template that is there already, which the real service
	// refuses.
	Replace bool
}

// updateRefused is what the real service says to a second PUT.
const updateRefused = "Update/Upgrade of image templates is currently not supported. " +
	"Please change the name of the template you are submitting. " +
	"If you have previously tried to submit a template and it failed to provision, you must delete it first and then resubmit. " +
	"For more information, go to https://aka.ms/azvmimagebuilderts."

// CreateTemplate accepts a submission: the template is there, and Creating, and
// Serve provisions it. The same submission again changes nothing. Another one
// for the same name is CodeConflict unless it says Replace; CodeGroupNotFound
// when the resource group does not exist.
func (e *Engine) CreateTemplate(ctx context.Context, sub Submission) (rec resource.Record, created bool, err error) {
	t := sub.Template.Template
	if t == nil {
		return rec, false, arm.Errorf(arm.CodeValidationFailed, "the template has errors")
	}
	defer e.templates.lock(sub.ID)()
	if err := e.groupExists(ctx, sub.ID); err != nil {
		return rec, false, err
	}
	p, err := split(sub.Template.Body, t)
	if err != nil {
		return rec, false, err
	}
	// The service's own notes on the template may come between the look and the
	// write; the submission is judged again then.
	for range 5 {
		if rec, created, err = e.accept(ctx, sub, p); !arm.IsCode(err, arm.CodePreconditionFailed) {
			break
		}
	}
	return rec, created, err
}

// accept judges a submission by what is stored, and stores it.
// CodePreconditionFailed says that what was judged has changed meanwhile.
func (e *Engine) accept(ctx context.Context, sub Submission, p parts) (rec resource.Record, created bool, err error) {
	t := sub.Template.Template
	s := templateState{Version: t.APIVersion, Service: true, State: StateCreating, Operation: newOperation(sub.Operation)}
	cond := resource.Condition{IfNoneMatch: true}
	old, err := e.resources.Get(ctx, sub.ID.String())
	switch {
	case err == nil:
		have, err := decodeTemplate(old)
		if err != nil {
			return rec, false, err
		}
		if again, err := e.again(old, have, p, sub); again || err != nil {
			return old, false, err
		}
		s.State, s.Staging, s.ExactVersion, s.Artifacts = StateUpdating, have.Staging, have.ExactVersion, have.Artifacts
		cond = resource.Condition{IfMatch: old.ETag}
	case !arm.IsCode(err, arm.CodeNotFound):
		return rec, false, err
	}
	if err := s.Staging.name(sub.ID, t.StagingGroup); err != nil {
		return rec, false, err
	}
	if rec, err = s.record(sub.ID, p); err != nil {
		return rec, false, err
	}
	rec, created, err = e.resources.Put(ctx, rec, cond)
	if err != nil {
		return rec, false, err
	}
	// The group may have gone between the look and the write.
	if err := e.groupExists(context.WithoutCancel(ctx), sub.ID); err != nil {
		_, derr := e.resources.Delete(context.WithoutCancel(ctx), rec.ID, resource.Condition{})
		return rec, false, errors.Join(err, derr)
	}
	e.pending.add(rec.ID)
	return rec, created, nil
}

// again judges a submission for a template that is there: true when it is the
// same one, an error when it must not replace it.
func (e *Engine) again(old resource.Record, have templateState, p parts, sub Submission) (bool, error) {
	if have.state() == StateDeleting {
		return false, notAllowed("write", have, nil).At(old.ID)
	}
	was, err := have.parts()
	if err != nil {
		return false, err
	}
	if have.state() != StateFailed && same(was, p) {
		return true, nil
	}
	switch {
	case !sub.Replace && have.state() == StateFailed:
		return false, arm.Errorf(arm.CodeConflict, "%s The template of this name failed to provision", updateRefused).At(old.ID)
	case !sub.Replace:
		return false, arm.Errorf(arm.CodeConflict, "%s The template of this name has other content", updateRefused).At(old.ID)
	case have.state() == StateCreating || have.state() == StateUpdating:
		return false, notAllowed("write", have, nil).At(old.ID)
	case !distribute.SameLocation(was.Location, p.Location):
		return false, arm.Errorf(arm.CodeConflict, "the location of a template cannot be changed: it is in %s", was.Location).At(old.ID)
	case have.Staging.changed(sub.Template.Template.StagingGroup):
		return false, errStagingChanged(have.Staging)
	}
	return false, nil
}

func newOperation(id string) Operation {
	if id == "" {
		id = uuid.NewString()
	}
	return Operation{ID: id, StartedAt: time.Now()}
}

// groupExists is CodeGroupNotFound when the group of id is not there, and
// CodeConflict while it is being deleted.
func (e *Engine) groupExists(ctx context.Context, id arm.ID) error {
	group, err := e.resources.Get(ctx, id.GroupID())
	if arm.IsCode(err, arm.CodeNotFound) {
		return arm.Errorf(arm.CodeGroupNotFound, "Resource group '%s' could not be found.", id.Group)
	}
	if err != nil {
		return err
	}
	if provisioningState(group) == StateDeleting {
		return arm.Errorf(arm.CodeConflict, "the resource group %s is being deleted", id.Group).At(group.ID)
	}
	return nil
}

// ProvisionTemplate does what a template that is Creating or Updating waits for:
// its staging group is made, its source found, its artifacts frozen. It ends
// Succeeded or Failed, and what it says then is in the record. A template in
// another state is left alone.
func (e *Engine) ProvisionTemplate(ctx context.Context, id string) error {
	rec, err := e.resources.Get(ctx, id)
	if err != nil {
		return err
	}
	s, err := decodeTemplate(rec)
	if err != nil || s.state() != StateCreating && s.state() != StateUpdating {
		return err
	}
	parsed, err := arm.ParseID(rec.ID)
	if err != nil {
		return err
	}
	res, err := s.parse()
	if err != nil {
		return err
	}
	l := lookup{sink: event.Discard}
	failure := e.provision(ctx, parsed, res, &s, &l)
	if cause := context.Cause(ctx); failure != nil && cause != nil {
		return cause // the next start begins again
	}
	identity, ierr := e.identities(ctx, rec.Identity)
	if ierr != nil {
		failure = errors.Join(failure, ierr)
	}
	rec, err = e.changeTemplate(ctx, rec.ID, func(r *resource.Record, now *templateState) error {
		if now.Operation.ID != s.Operation.ID {
			return errOvertaken
		}
		now.Operation.EndedAt = time.Now()
		now.Staging = s.Staging
		now.Problem, now.Code, now.State = nil, "", StateSucceeded
		if l.base.ExactVersion != "" {
			now.ExactVersion = l.base.ExactVersion
		}
		if l.artifacts != nil {
			now.Artifacts = l.artifacts
		}
		if identity != nil {
			r.Identity = identity
		}
		if failure != nil {
			now.State, now.Code = StateFailed, arm.CodeOf(failure)
			now.Problem = provisioningError(failure)
		}
		return nil
	})
	e.bell.ring(resource.Key(id))
	if errors.Is(err, errOvertaken) || arm.IsCode(err, arm.CodeNotFound) {
		return nil
	}
	if err == nil && failure == nil && res.Template.AutoRun {
		_, err = e.startRun(ctx, rec.ID, "autoRun", nil)
	}
	return err
}

// errOvertaken ends the write of a change that another one has followed.
var errOvertaken = errors.New("another change of the template followed")

// provision makes the staging group and looks everything up.
func (e *Engine) provision(ctx context.Context, id arm.ID, res imagetemplate.Result, s *templateState, l *lookup) error {
	t := res.Template
	// A change may take a template's identity away; its runs are refused then.
	if s.State != StateUpdating || t.Identity != nil && len(t.Identity.UserAssigned) > 0 || preflight.ByService(t.APIVersion) {
		if err := e.mustHaveAccess(ctx, accessQuestion{template: t, id: id}); err != nil {
			return err
		}
	}
	if err := e.ensureStaging(ctx, id, t, &s.Staging); err != nil {
		return reject("BadStagingResourceGroup", fmt.Errorf("make the staging group: %w", err))
	}
	return e.look(ctx, res, l)
}

// provisioningError is what a template tells about why it failed.
func provisioningError(err error) *imagetemplate.ProvisioningError {
	code := "Other"
	var r *rejection
	switch {
	case arm.IsCode(err, arm.CodeUnauthorized):
	case errors.As(err, &r):
		code = r.code
	case arm.IsCode(err, arm.CodeInternal), arm.IsCode(err, arm.CodeNoSpace), arm.IsCode(err, arm.CodeCorrupt):
		code = "ServerError"
	}
	return &imagetemplate.ProvisioningError{Code: code, Message: err.Error()}
}
