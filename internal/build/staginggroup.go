package build

import (
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"math/big"
	"strings"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
	"goldsmith/internal/distribute"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/resource"
)

// Tags that say whose a staging group is.
const (
	tagCreatedBy     = "createdBy" // of a group that the service made
	tagUsedBy        = "usedBy"    // of a group that it was given
	tagTemplate      = "imageTemplateName"
	tagTemplateGroup = "imageTemplateResourceGroupName"
	builderName      = "AzureVMImageBuilder"
)

// stagingNameRunes is where the real service cuts "{group}_{template}".
const stagingNameRunes = 40

// staging is a template's staging group.
type staging struct {
	Group   string `json:"group"`   // resource id of the group
	Account string `json:"account"` // name of its storage account
	// Given is set when the template names the group; Kept when that was there
	// before and therefore stays when the template goes.
	Given bool `json:"given,omitempty"`
	Kept  bool `json:"kept,omitempty"`
}

// stagingName is "IT_{group}_{template}" with the middle cut, and a new GUID.
func stagingName(group, template string) string {
	middle := []rune(group + "_" + template)
	if len(middle) > stagingNameRunes {
		middle = middle[:stagingNameRunes]
	}
	return "IT_" + string(middle) + "_" + uuid.NewString()
}

// name draws the names of a template's staging group and account where s has
// none. given is the group that the template names, nil for none.
func (s *staging) name(template arm.ID, given *arm.ID) (err error) {
	if s.Group == "" {
		s.Group = arm.GroupID(template.Subscription, stagingName(template.Group, template.Name))
		if s.Given = given != nil; s.Given {
			s.Group = given.String()
		}
	}
	if s.Account == "" {
		s.Account, err = accountName()
	}
	return err
}

// changed reports whether a template names another group than s is.
func (s staging) changed(given *arm.ID) bool {
	if given == nil {
		return s.Given
	}
	return !s.Given || !strings.EqualFold(s.Group, given.String())
}

func errStagingChanged(s staging) error {
	return arm.Errorf(arm.CodeConflict, "the staging group of a template cannot be changed: it is %s", s.Group)
}

// ensureStaging makes the staging group and its storage account where they are
// missing. Both stay until the template is deleted. A group that was there
// before must be empty, of the template's region and of no other template. Staging
// groups are made one at a time: it is work for the processor and the disk, which
// answering requests comes before.
func (e *Engine) ensureStaging(ctx context.Context, template arm.ID, t *imagetemplate.Template, s *staging) error {
	group, err := arm.ParseID(s.Group)
	if err != nil {
		return err
	}
	select {
	case e.stager <- struct{}{}:
		defer func() { <-e.stager }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if !strings.EqualFold(group.Subscription, template.Subscription) {
		return arm.Errorf(arm.CodeValidationFailed, "the staging group %s is in another subscription than the template", s.Group)
	}
	own := map[string]string{tagTemplate: template.Name, tagTemplateGroup: template.Group}
	switch have, err := e.resources.Get(ctx, s.Group); {
	case arm.IsCode(err, arm.CodeNotFound):
		if !s.Given {
			if err := e.mayStage(ctx, s.Group); err != nil {
				return err
			}
		}
		own[tagCreatedBy] = builderName
		maps.Copy(own, t.ManagedResourceTags)
		if err := e.putResource(ctx, s.Group, distribute.TypeGroup, t.Location, own, map[string]any{"provisioningState": "Succeeded"}); err != nil {
			return err
		}
	case err != nil:
		return err
	case s.Given && have.Tags[tagCreatedBy] != builderName:
		s.Kept = true
		if err := e.adoptGroup(ctx, have, t, own); err != nil {
			return err
		}
	case s.Given && !ours(have, own):
		return arm.Errorf(arm.CodeConflict, "the staging group %s belongs to the image template %s", s.Group, have.Tags[tagTemplate])
	}
	if err := e.blobs.CreateAccount(ctx, s.Account); err != nil && !arm.IsCode(err, arm.CodeConflict) {
		return fmt.Errorf("create the staging storage account: %w", err)
	}
	id := arm.ResourceID(group.Subscription, group.Name, typeAccount, s.Account)
	if _, err := e.resources.Get(ctx, id); !arm.IsCode(err, arm.CodeNotFound) {
		return err
	}
	return e.putResource(ctx, id, typeAccount, t.Location, t.ManagedResourceTags, map[string]any{
		"provisioningState": "Succeeded",
		"primaryEndpoints":  map[string]any{"blob": blobEndpoint(s.Account)},
	})
}

// adoptGroup takes a group that the template names into use.
func (e *Engine) adoptGroup(ctx context.Context, group resource.Record, t *imagetemplate.Template, own map[string]string) error {
	if ours(group, own) {
		return nil
	}
	if other := group.Tags[tagTemplate]; other != "" {
		return arm.Errorf(arm.CodeConflict, "the staging group %s is used by the image template %s", group.ID, other)
	}
	if !distribute.SameLocation(group.Location, t.Location) {
		return arm.Errorf(arm.CodeValidationFailed, "the staging group %s is in %s and the template in %s: use the same region", group.ID, group.Location, t.Location)
	}
	switch inside, _, err := e.resources.List(ctx, resource.Query{Scope: group.ID, PageSize: 1}); {
	case err != nil:
		return err
	case len(inside) > 0:
		return arm.Errorf(arm.CodeValidationFailed, "the staging group %s is not empty: it holds %s", group.ID, inside[0].ID)
	}
	own[tagUsedBy] = builderName
	maps.Copy(own, t.ManagedResourceTags)
	_, err := e.resources.Update(ctx, group.ID, func(r *resource.Record) error {
		if r.Tags == nil {
			r.Tags = map[string]string{}
		}
		maps.Copy(r.Tags, own)
		return nil
	})
	return err
}

// ours reports whether a group carries the tags of a template.
func ours(group resource.Record, own map[string]string) bool {
	return strings.EqualFold(group.Tags[tagTemplate], own[tagTemplate]) && strings.EqualFold(group.Tags[tagTemplateGroup], own[tagTemplateGroup])
}

// dropStaging deletes a template's staging group with what is in its storage
// account. A group that was there before stays, empty and without the tags.
func (e *Engine) dropStaging(ctx context.Context, s staging) error {
	if s.Account != "" {
		if err := e.blobs.DeleteAccount(ctx, s.Account); err != nil && !arm.IsCode(err, arm.CodeNotFound) {
			return fmt.Errorf("delete the staging storage account: %w", err)
		}
	}
	if s.Group == "" {
		return nil
	}
	if !s.Kept {
		if _, err := e.resources.Delete(ctx, s.Group, resource.Condition{}); err != nil && !arm.IsCode(err, arm.CodeNotFound) {
			return fmt.Errorf("delete the staging group: %w", err)
		}
		return nil
	}
	inside, _, err := e.resources.List(ctx, resource.Query{Scope: s.Group})
	if err != nil {
		return fmt.Errorf("list the staging group: %w", err)
	}
	for _, r := range inside {
		if _, err := e.resources.Delete(ctx, r.ID, resource.Condition{}); err != nil && !arm.IsCode(err, arm.CodeNotFound) {
			return fmt.Errorf("empty the staging group: %w", err)
		}
	}
	_, err = e.resources.Update(ctx, s.Group, func(r *resource.Record) error {
		for _, tag := range []string{tagUsedBy, tagTemplate, tagTemplateGroup} {
			delete(r.Tags, tag)
		}
		return nil
	})
	if arm.IsCode(err, arm.CodeNotFound) {
		return nil
	}
	return err
}

// accountName is a new random storage account name: 24 lower-case letters and digits.
func accountName() (string, error) {
	const alphabet = "abcdefghijklmnopqrstuvwxyz0123456789"
	b := make([]byte, 24)
	for i := range b {
		n, err := rand.Int(rand.Reader, big.NewInt(int64(len(alphabet))))
		if err != nil {
			return "", fmt.Errorf("draw a storage account name: %w", err)
		}
		b[i] = alphabet[n.Int64()]
	}
	return string(b), nil
}
