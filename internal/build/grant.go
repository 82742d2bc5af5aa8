package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
	"goldsmith/internal/authorization"
	"goldsmith/internal/distribute"
	"goldsmith/internal/event"
	"goldsmith/internal/preflight"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
)

// granter makes what a template lacks on a machine of one's own: the
// registration, identities and grants. What it makes it says, and undoes when
// the submission fails.
type granter struct {
	*Engine
	sink event.Sink
	made []string // ids of records, in order
}

// grantLocally makes what q lacks. undo takes it back.
func (e *Engine) grantLocally(ctx context.Context, q accessQuestion, sink event.Sink) (undo func(context.Context) error, err error) {
	g := &granter{Engine: e, sink: sink}
	return g.undo, g.grant(ctx, q)
}

func (g *granter) undo(ctx context.Context) error {
	var errs []error
	for _, id := range slices.Backward(g.made) {
		if _, err := g.resources.Delete(ctx, id, resource.Condition{}); err != nil && !arm.IsCode(err, arm.CodeNotFound) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (g *granter) say(format string, args ...any) {
	g.sink.Emit(event.Event{Kind: event.Info, Text: fmt.Sprintf(format, args...)})
}

func (g *granter) grant(ctx context.Context, q accessQuestion) error {
	registered, err := authorization.Register(ctx, g.resources, q.id.Subscription, q.template.APIVersion)
	g.made = append(g.made, registered...)
	if err != nil {
		return err
	}
	if len(registered) > 0 {
		g.say("registered %s", preflight.Namespace)
	}
	ids := slices.Clone(q.template.VMProfile.Identities)
	if q.template.Identity != nil {
		ids = append(ids, q.template.Identity.UserAssigned...)
	}
	for _, id := range ids {
		if err := g.identity(ctx, id, q.template.Location); err != nil {
			return fmt.Errorf("make the identity %s: %w", id, err)
		}
	}
	report, err := g.preflight(ctx, q)
	if err != nil {
		return err
	}
	for _, grant := range preflight.Grants(report.Missing()) {
		if grant.Principal.Object == "" {
			continue // the preflight that follows says what is wrong
		}
		for _, scope := range grant.Scopes {
			if err := g.assign(ctx, grant, scope); err != nil {
				return fmt.Errorf("grant %s at %s: %w", grant.RoleName, scope, err)
			}
		}
	}
	return nil
}

// put writes a record that is not there yet.
func (g *granter) put(ctx context.Context, id, typ, location string, properties any) (made bool, err error) {
	raw, err := json.Marshal(properties)
	if err != nil {
		return false, fmt.Errorf("encode %s: %w", id, err)
	}
	rec := resource.Record{ID: id, Type: typ, Name: id[strings.LastIndexByte(id, '/')+1:], Location: location, Properties: raw}
	_, made, err = g.resources.Put(ctx, rec, resource.Condition{IfNoneMatch: true})
	if arm.IsCode(err, arm.CodePreconditionFailed) {
		return false, nil
	}
	if made {
		g.made = append(g.made, id)
	}
	return made, err
}

// identity makes a user-assigned identity, and its group, where they are missing.
func (g *granter) identity(ctx context.Context, id, location string) error {
	parsed, err := arm.ParseID(id)
	if err != nil {
		return err
	}
	made, err := g.put(ctx, parsed.GroupID(), distribute.TypeGroup, location, map[string]any{"provisioningState": "Succeeded"})
	if err != nil {
		return err
	}
	if made {
		g.say("created resource group %s", parsed.GroupID())
	}
	settings, err := g.db.Settings(ctx)
	if err != nil {
		return err
	}
	made, err = g.put(ctx, parsed.String(), typeIdentity, location, map[string]any{
		"tenantId": settings.TenantID, "principalId": uuid.NewString(), "clientId": uuid.NewString(),
	})
	if made {
		g.say("created identity %s", parsed)
	}
	return err
}

// grantSpace is where the GUIDs of local roles and assignments come from, so that
// two builds that grant the same make one record.
var grantSpace = uuid.NewSHA1(uuid.NameSpaceURL, []byte("goldsmith:grant"))

// assign makes one assignment, and its role where that is a custom one.
func (g *granter) assign(ctx context.Context, grant preflight.Grant, scope string) error {
	parsed, err := arm.ParseID(scope)
	if err != nil {
		return err
	}
	subscription := "/subscriptions/" + parsed.Subscription
	role, ok := rbac.BuiltInRole(grant.RoleName)
	if !ok {
		if role, err = g.role(ctx, grant, subscription); err != nil {
			return err
		}
	}
	roleID := subscription + "/providers/" + rbac.TypeRole + "/" + role.GUID()
	name := uuid.NewSHA1(grantSpace, []byte(strings.ToLower(grant.Principal.Object+"\x00"+roleID+"\x00"+scope))).String()
	made, err := g.put(ctx, scope+"/providers/"+rbac.TypeAssignment+"/"+name, rbac.TypeAssignment, "", map[string]any{
		"roleDefinitionId": roleID, "principalId": grant.Principal.Object, "principalType": "ServicePrincipal", "scope": scope,
	})
	if made {
		g.say("granted %q at %s to %s", role.RoleName, scope, grant.Principal)
	}
	return err
}

// role makes a custom role of the grant's actions for a subscription. A name
// that another role has gets the GUID's beginning.
func (g *granter) role(ctx context.Context, grant preflight.Grant, subscription string) (rbac.Role, error) {
	guid := uuid.NewSHA1(grantSpace, []byte(strings.ToLower(subscription+"\x00"+strings.Join(slices.Sorted(slices.Values(grant.Role.Actions)), "\x00")))).String()
	state, err := g.access.State(ctx)
	if err != nil {
		return rbac.Role{}, err
	}
	r := rbac.Role{
		ID: subscription + "/providers/" + rbac.TypeRole + "/" + guid, RoleName: grant.RoleName, Description: grant.Role.Description,
		AssignableScopes: []string{subscription}, Permissions: []rbac.Permission{{Actions: grant.Role.Actions}},
	}
	for _, have := range state.Roles {
		switch {
		case have.GUID() == guid:
			return have, nil
		case strings.EqualFold(have.RoleName, r.RoleName):
			r.RoleName = grant.RoleName + " " + guid[:8]
		}
	}
	_, err = g.put(ctx, r.ID, rbac.TypeRole, "", r.Properties())
	return r, err
}

// sayNeeds tells what a template needs in a cloud subscription, in one line for
// each grant.
func (e *Engine) sayNeeds(ctx context.Context, q accessQuestion, sink event.Sink) error {
	env, err := e.accessEnv(ctx, q)
	if err != nil {
		return err
	}
	for _, grant := range preflight.Grants(preflight.Needs(q.template, env)) {
		for _, scope := range grant.Scopes {
			sink.Emit(event.Event{Kind: event.Info, Text: fmt.Sprintf("in a cloud subscription %s needs %q at %s", grant.Principal, grant.RoleName, scope)})
		}
	}
	return nil
}

// admit checks a build's access before anything of it is made. With create, what
// is missing is made first. undo takes back what was made.
func (e *Engine) admit(ctx context.Context, q accessQuestion, create bool, sink event.Sink) (undo func(context.Context) error, err error) {
	undo = func(context.Context) error { return nil }
	if create {
		undo, err = e.grantLocally(ctx, q, sink)
	}
	if err == nil {
		err = e.mustHaveAccess(ctx, q)
	}
	if err == nil {
		err = e.sayNeeds(ctx, q, sink)
	}
	return undo, err
}
