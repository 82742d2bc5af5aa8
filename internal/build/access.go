package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/audit"
	"goldsmith/internal/authorization"
	"goldsmith/internal/blob"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/plan"
	"goldsmith/internal/preflight"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
)

// typeIdentity is the type of user-assigned identities.
const typeIdentity = "Microsoft.ManagedIdentity/userAssignedIdentities"

// accessQuestion is a template whose rights are asked for.
type accessQuestion struct {
	template *imagetemplate.Template
	id       arm.ID // of the template resource
	// other is set when the build starts from something else than the template's
	// source.
	other bool
	run   string // id of the run that is about to work, for the audit
	// running leaves out what is needed at submission only.
	running bool
	caller  *preflight.Principal
}

// Access answers who may do what on this data directory.
func (e *Engine) Access() *authorization.Authorizer { return e.access }

// Preflight reports every right that t needs, as the template of a name in a
// resource group, and what is missing. caller is who would submit it, nil when
// that does not matter. It decides nothing and is not audited.
func (e *Engine) Preflight(ctx context.Context, t *imagetemplate.Template, group, name string, caller *preflight.Principal) (preflight.Report, error) {
	id, err := arm.ParseID(arm.ResourceID(e.subscription, group, typeTemplate, name))
	if err != nil {
		return preflight.Report{}, err
	}
	return e.preflight(ctx, accessQuestion{template: t, id: id, caller: caller})
}

func (e *Engine) preflight(ctx context.Context, q accessQuestion) (preflight.Report, error) {
	env, err := e.accessEnv(ctx, q)
	if err != nil {
		return preflight.Report{}, err
	}
	registered, err := authorization.Registered(ctx, e.resources, q.id.Subscription, q.template.APIVersion)
	if err != nil {
		return preflight.Report{}, err
	}
	policy, err := e.access.Policy(ctx)
	if err != nil {
		return preflight.Report{}, err
	}
	return preflight.Check(q.template, env, policy, preflight.Options{Unregistered: !registered, Run: q.running}), nil
}

// mustHaveAccess is the error of everything that q lacks. Each right is decided,
// and so audited.
func (e *Engine) mustHaveAccess(ctx context.Context, q accessQuestion) error {
	report, err := e.preflight(ctx, q)
	if err != nil {
		return fmt.Errorf("check access: %w", err)
	}
	for _, n := range report.Needs {
		if _, err := e.decideNeed(ctx, n, q.run); err != nil {
			return err
		}
	}
	return report.Err()
}

func (e *Engine) decideNeed(ctx context.Context, n preflight.Need, runID string) (rbac.Decision, error) {
	return e.access.Check(ctx, authorization.Request{
		Principal: n.Principal.Object, Groups: n.Principal.Groups, Action: n.Action, Scope: n.Scope, Data: n.Data, Run: runID, Why: n.Why,
	})
}

// accessEnv looks up what a template does not say itself.
func (e *Engine) accessEnv(ctx context.Context, q accessQuestion) (preflight.Env, error) {
	t := q.template
	env := preflight.Env{
		Subscription: q.id.Subscription, Group: q.id.Group, Name: q.id.Name,
		Identities: map[string]preflight.Account{}, Caller: q.caller, OtherSource: q.other,
	}
	ids := t.VMProfile.Identities
	if t.Identity != nil {
		ids = append(ids[:len(ids):len(ids)], t.Identity.UserAssigned...)
	}
	for _, id := range ids {
		rec, err := e.resources.Get(ctx, id)
		if arm.IsCode(err, arm.CodeNotFound) {
			continue
		}
		if err != nil {
			return env, err
		}
		var p struct {
			PrincipalID string `json:"principalId"`
			ClientID    string `json:"clientId"`
		}
		if err := json.Unmarshal(rec.Properties, &p); err != nil {
			return env, arm.Errorf(arm.CodeCorrupt, "the properties of %s do not parse: %w", rec.ID, err)
		}
		env.Identities[strings.ToLower(id)] = preflight.Account{Object: p.PrincipalID, Client: p.ClientID}
	}
	if !namesBlobs(t) {
		return env, nil // every template has an account: there may be many
	}
	accounts, _, err := e.resources.List(ctx, resource.Query{Type: typeAccount})
	if err != nil {
		return env, err
	}
	if len(accounts) > 0 {
		env.Blob = func(uri string) (preflight.Blob, bool) { return e.ownBlob(ctx, accounts, uri) }
	}
	return env, nil
}

// namesBlobs reports whether a template reads or writes what may be blobs of ours.
func namesBlobs(t *imagetemplate.Template) bool {
	isBlob := func(uri string) bool {
		_, err := blob.ParseURI(blobSuffix, uri)
		return err == nil
	}
	return slices.ContainsFunc(plan.Artifacts(t), func(a plan.ArtifactRef) bool { return isBlob(a.URI) }) ||
		slices.ContainsFunc(t.Distribute, func(d imagetemplate.Distributor) bool { return isBlob(d.URI) })
}

// ownBlob finds the storage account of ours that an address is in.
func (e *Engine) ownBlob(ctx context.Context, accounts []resource.Record, uri string) (preflight.Blob, bool) {
	name, err := blob.ParseURI(blobSuffix, uri)
	if err != nil {
		return preflight.Blob{}, false
	}
	for _, a := range accounts {
		if !strings.EqualFold(a.Name, name.Account) {
			continue
		}
		_, query, _ := strings.Cut(uri, "?")
		b := preflight.Blob{Account: a.ID, Container: name.Container, Open: strings.Contains("&"+query, "&sig=")}
		if c, err := e.blobs.Container(ctx, name.Account, name.Container); err == nil && c.Access != blob.AccessNone {
			b.Open = true
		}
		return b, true
	}
	return preflight.Blob{}, false
}

// mayStage is the error of a staging group that the service principal may not
// make: the service is not registered.
func (e *Engine) mayStage(ctx context.Context, group string) error {
	d, err := e.access.Check(ctx, authorization.Request{
		Principal: rbac.BuilderObject, Action: "Microsoft.Resources/subscriptions/resourceGroups/write", Scope: group, Why: "make the staging group",
	})
	if err != nil || d.Allowed {
		return err
	}
	return authorization.Denied(authorization.Request{
		Principal: rbac.BuilderObject, Action: "Microsoft.Resources/subscriptions/resourceGroups/write", Scope: group,
	}, rbac.BuilderApp)
}

// checkAccess is the run's own preflight, before anything of it is there.
func (b *builder) checkAccess(ctx context.Context) error {
	id, err := arm.ParseID(b.job.TemplateID)
	if err != nil {
		return err
	}
	return b.engine.mustHaveAccess(ctx, accessQuestion{
		template: b.template, id: id, other: b.job.Source != "", run: b.active.id(), running: true,
	})
}

// touch checks once more, right before it happens, that the builder may do what
// a purpose is about. pointer limits that to one field of the template, "" for
// all of the purpose.
func (b *builder) touch(ctx context.Context, purpose preflight.Purpose, pointer string) error {
	id, err := arm.ParseID(b.job.TemplateID)
	if err != nil {
		return err
	}
	env, err := b.engine.accessEnv(ctx, accessQuestion{template: b.template, id: id, other: b.job.Source != ""})
	if err != nil {
		return fmt.Errorf("check access: %w", err)
	}
	var denied []error
	for _, n := range preflight.Needs(b.template, env) {
		if n.Purpose != purpose || n.Phase == preflight.AtSubmit || !strings.HasPrefix(n.Pointer, pointer) {
			continue
		}
		d, err := b.engine.decideNeed(ctx, n, b.active.id())
		if err != nil {
			return err
		}
		if !d.Allowed {
			denied = append(denied, n.Err())
		}
	}
	return errors.Join(denied...)
}

// touchTarget is touch for one target of distribute[].
func (b *builder) touchTarget(ctx context.Context, pointer string) error {
	return errors.Join(b.touch(ctx, preflight.Distribute, pointer+"/"), b.touch(ctx, preflight.BlobWrite, pointer+"/"))
}

// Audit is the record of decisions about access.
func (e *Engine) Audit() audit.Store { return e.access.Journal() }
