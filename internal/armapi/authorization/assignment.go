package authorization

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armapi/filter"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
)

// CodeUpdateNotPermitted is the code of a change of an assignment's role,
// principal or scope.
const CodeUpdateNotPermitted arm.Code = "RoleAssignmentUpdateNotPermitted"

// stored is an assignment's properties object. rbac reads the first five.
type stored struct {
	RoleDefinitionID string    `json:"roleDefinitionId"`
	PrincipalID      string    `json:"principalId"`
	PrincipalType    string    `json:"principalType"`
	Scope            string    `json:"scope"`
	Condition        *string   `json:"condition"`
	ConditionVersion *string   `json:"conditionVersion"`
	Description      *string   `json:"description,omitempty"`
	CreatedOn        time.Time `json:"createdOn"`
	UpdatedOn        time.Time `json:"updatedOn"`
	CreatedBy        *string   `json:"createdBy"`
	UpdatedBy        *string   `json:"updatedBy"`
}

func (p *provider) assignments(ctx context.Context) ([]rbac.Assignment, error) {
	var all []rbac.Assignment
	err := p.each(ctx, rbac.TypeAssignment, func(rec resource.Record) error {
		a, err := rbac.ParseAssignment(rec.ID, rec.Properties)
		all = append(all, a)
		return err
	})
	return all, err
}

func assignmentBody(rec resource.Record) map[string]any {
	return map[string]any{"id": rec.ID, "type": rbac.TypeAssignment, "name": rec.Name, "properties": rec.Properties}
}

func (p *provider) getAssignment(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, err := p.Store.Get(ctx, r.ID)
	if arm.IsCode(err, arm.CodeNotFound) {
		err = arm.Errorf("RoleAssignmentNotFound", "the role assignment '%s' is not found.", r.Name())
		return armapi.Response{}, armapi.Status(404, err)
	}
	return armapi.OK(assignmentBody(rec)), err
}

// listAssignments lists what holds at a scope and what is assigned below it;
// atScope() leaves out the latter.
func (p *provider) listAssignments(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	expr, err := filter.Parse(r.Query.Get("$filter"))
	if err != nil {
		return armapi.Response{}, err
	}
	scope := "/" + strings.Trim(r.Scope, "/")
	var list []map[string]any
	err = p.each(ctx, rbac.TypeAssignment, func(rec resource.Record) error {
		a, err := rbac.ParseAssignment(rec.ID, rec.Properties)
		if err != nil {
			return err
		}
		above, below := rbac.Covers(a.Scope, scope), rbac.Covers(scope, a.Scope)
		if !above && !below {
			return nil
		}
		ok, err := expr.Match(func(t filter.Term) (bool, error) {
			switch name := strings.ToLower(t.Name); {
			case t.Call && name == "atscope":
				return above, nil
			case t.Call && name == "atscopeandbelow":
				return true, nil
			case t.Call && name == "assignedto" && len(t.Args) == 1:
				return p.assignedTo(r, a, t.Args[0]), nil
			case !t.Call && name == "principalid":
				return strings.EqualFold(a.Principal, t.Args[0]), nil
			case !t.Call && name == "roledefinitionid":
				return strings.EqualFold(last(a.Role), last(t.Args[0])), nil
			}
			return false, filter.Unknown(t)
		})
		if ok {
			list = append(list, assignmentBody(rec))
		}
		return err
	})
	return armapi.ListOf(r, list, ""), err
}

// assignedTo reports whether a principal has an assignment, itself or, as far as
// the caller's own token tells, by a group.
func (p *provider) assignedTo(r *armapi.Request, a rbac.Assignment, principal string) bool {
	if strings.EqualFold(a.Principal, principal) {
		return true
	}
	return strings.EqualFold(principal, r.Caller.ObjectID) &&
		slices.ContainsFunc(r.Caller.Groups, func(g string) bool { return strings.EqualFold(g, a.Principal) })
}

func last(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

func (p *provider) putAssignment(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	raw, err := propertiesOf(r, "principalId")
	if err != nil {
		return armapi.Response{}, err
	}
	var in stored
	if err := json.Unmarshal(raw, &in); err != nil {
		return armapi.Response{}, arm.Errorf(arm.CodeInvalidJSON, "the properties of the role assignment do not parse: %w", err).At("properties")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	custom, err := p.custom(ctx)
	if err != nil {
		return armapi.Response{}, err
	}
	role, err := rbac.FindRole(in.RoleDefinitionID, custom)
	if err != nil {
		return armapi.Response{}, failure(err)
	}
	if err := p.checkPrincipal(ctx, &in); err != nil {
		return armapi.Response{}, err
	}
	in.Scope = "/" + strings.Trim(r.Scope, "/")
	in.RoleDefinitionID = p.roleBody(in.Scope, role)["id"].(string)
	a := rbac.Assignment{ID: r.ID, Scope: in.Scope, Role: in.RoleDefinitionID, Principal: in.PrincipalID}
	all, err := p.assignments(ctx)
	if err != nil {
		return armapi.Response{}, err
	}
	if err := rbac.CheckAssignment(a, role, all); err != nil {
		return armapi.Response{}, failure(err)
	}
	now := time.Now().UTC()
	in.CreatedOn, in.UpdatedOn, in.CreatedBy, in.UpdatedBy = now, now, &r.Caller.ObjectID, &r.Caller.ObjectID
	if before, err := p.Store.Get(ctx, r.ID); err == nil {
		if err := keep(before, &in); err != nil {
			return armapi.Response{}, err
		}
	} else if !arm.IsCode(err, arm.CodeNotFound) {
		return armapi.Response{}, err
	}
	properties, err := json.Marshal(in)
	if err != nil {
		return armapi.Response{}, err
	}
	rec, _, err := p.Store.Put(ctx, resource.Record{ID: r.ID, Type: rbac.TypeAssignment, Name: r.Name(), Properties: properties}, p.within(in.Scope))
	if arm.IsCode(err, arm.CodeNotFound) {
		err = armapi.ErrGroupNotFound(r.Group)
	}
	return armapi.Created(true, assignmentBody(rec)), err
}

// within asks for the group of the scope to be there. What is below a group need
// not be: containers are no records.
func (p *provider) within(scope string) resource.Condition {
	parts := strings.Split(scope, "/")
	if len(parts) < 5 || !strings.EqualFold(parts[3], "resourceGroups") {
		return resource.Condition{}
	}
	return resource.Condition{Within: strings.Join(parts[:5], "/")}
}

// keep takes from an assignment what a repeated PUT must not change.
func keep(before resource.Record, in *stored) error {
	var old stored
	if err := json.Unmarshal(before.Properties, &old); err != nil {
		return arm.Errorf(arm.CodeCorrupt, "the role assignment does not parse: %w", err).At(before.ID)
	}
	if !strings.EqualFold(old.PrincipalID, in.PrincipalID) || !strings.EqualFold(last(old.RoleDefinitionID), last(in.RoleDefinitionID)) {
		return arm.Errorf(CodeUpdateNotPermitted, "tenant ID, application ID, principal ID, and scope are not allowed to be updated.").At(before.ID)
	}
	in.CreatedOn, in.CreatedBy = old.CreatedOn, old.CreatedBy
	return nil
}

// checkPrincipal refuses principals that the directory does not have, and fills
// in the type of the others.
func (p *provider) checkPrincipal(ctx context.Context, in *stored) error {
	if p.PrincipalType == nil || in.PrincipalID == "" {
		if in.PrincipalType == "" {
			in.PrincipalType = "ServicePrincipal"
		}
		return nil
	}
	typ, found, err := p.PrincipalType(ctx, in.PrincipalID)
	if err != nil {
		return err
	}
	if !found {
		return rbac.ErrPrincipalMissing(in.PrincipalID, p.Tenant)
	}
	if in.PrincipalType != "" && !strings.EqualFold(in.PrincipalType, typ) {
		return arm.Errorf("UnmatchedPrincipalType", "the principalType '%s' is not the type '%s' of principal %s", in.PrincipalType, typ, in.PrincipalID).At("/properties/principalType")
	}
	in.PrincipalType = typ
	return nil
}

func (p *provider) deleteAssignment(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, err := p.Store.Get(ctx, r.ID)
	if err == nil {
		_, err = p.Store.Delete(ctx, r.ID, resource.Condition{})
	}
	if arm.IsCode(err, arm.CodeNotFound) {
		return armapi.NoContent(), nil
	}
	return armapi.OK(assignmentBody(rec)), err
}
