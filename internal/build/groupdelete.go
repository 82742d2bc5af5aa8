package build

import (
	"context"
	"errors"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
)

// DeleteGroup prepares the deletion of a resource group: the templates in it are
// deleted with their staging groups. The error is CodeNotAllowed while one of
// them is being built, or when the group is the staging group of one that is;
// nothing is deleted then.
func (e *Engine) DeleteGroup(ctx context.Context, group string) error {
	rec, err := e.resources.Get(ctx, group)
	if err != nil {
		return ignoreNotFound(err)
	}
	if err := e.notStaging(ctx, rec); err != nil {
		return err
	}
	templates, _, err := e.resources.List(ctx, resource.Query{Scope: rec.ID, Type: typeTemplate})
	if err != nil {
		return err
	}
	for _, t := range templates {
		if err := e.notBuilding(ctx, rec.ID, t.ID); err != nil {
			return err
		}
	}
	var errs []error
	for _, t := range templates {
		errs = append(errs, ignoreNotFound(e.DeleteTemplate(ctx, t.ID)))
	}
	return errors.Join(errs...)
}

// notStaging refuses the staging group of a template that is being built.
func (e *Engine) notStaging(ctx context.Context, group resource.Record) error {
	name, of := group.Tags[tagTemplate], group.Tags[tagTemplateGroup]
	id, err := arm.ParseID(group.ID)
	if err != nil || name == "" || of == "" {
		return err
	}
	return e.notBuilding(ctx, group.ID, arm.ResourceID(id.Subscription, of, typeTemplate, name))
}

// notBuilding refuses to delete a group for as long as a template is built.
func (e *Engine) notBuilding(ctx context.Context, group, template string) error {
	active, err := e.activeOf(ctx, template)
	if err != nil || active == nil {
		return err
	}
	return arm.Errorf(arm.CodeNotAllowed, "the resource group cannot be deleted while %s is built by run %s, which is %s: cancel it first",
		template, active.ID, active.State).At(group)
}
