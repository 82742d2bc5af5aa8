package imagebuilder

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/build"
	"goldsmith/internal/jsontree"
	"goldsmith/internal/run"
)

// patch changes tags, identity and, in the versions that have it, targets and
// build machine. Everything else of a template never changes.
func (p provider) patch(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	version := known(r.Version)
	u, err := readUpdate(r, version)
	if err != nil {
		return armapi.Response{}, err
	}
	if err := p.checkCondition(ctx, r); err != nil {
		return armapi.Response{}, err
	}
	if err := p.checkAssigned(ctx, r, u.Identity); err != nil {
		return armapi.Response{}, err
	}
	rec, pending, err := p.engine.UpdateTemplate(ctx, r.ID, u)
	if err != nil {
		return armapi.Response{}, absent(r, err)
	}
	if !pending {
		return p.answer(ctx, r, http.StatusOK, rec)
	}
	op, err := r.Begin(context.WithoutCancel(ctx), workWrite, rec.ID, nil)
	if err != nil {
		return armapi.Response{}, err
	}
	return r.Accepted(http.StatusAccepted, nil, op, rec.Location, true), nil
}

// patchable says since when PATCH may change a member of properties.
var patchable = map[string]string{"distribute": "2023-07-01", "vmProfile": "2024-02-01"}

// readUpdate reads the body of a PATCH.
func readUpdate(r *armapi.Request, version string) (build.Update, error) {
	u := build.Update{Version: version, Operation: r.RequestID}
	root, err := r.Tree()
	if err != nil {
		return u, err
	}
	if root.Kind != jsontree.Object {
		return u, arm.Errorf(arm.CodeInvalidJSON, "the request content must be a JSON object, not %s", root.Kind)
	}
	strict := version >= "2024"
	is := func(key, name string) bool { return key == name || !strict && strings.EqualFold(key, name) }
	for _, m := range root.Members {
		switch {
		case m.Overridden || m.Value.Kind == jsontree.Null:
		case is(m.Key, "tags"):
			if u.Tags, err = readTags(m.Value); err != nil {
				return u, err
			}
		case is(m.Key, "identity") && version >= "2019-05":
			u.Identity = m.Value.Append(nil)
		case is(m.Key, "properties"):
			for _, f := range m.Value.Members {
				if f.Overridden {
					continue
				}
				switch {
				case is(f.Key, "distribute") && version >= patchable["distribute"]:
					u.Distribute = f.Value.Append(nil)
				case is(f.Key, "vmProfile") && version >= patchable["vmProfile"]:
					u.VMProfile = f.Value.Append(nil)
				default:
					return u, unchangeable("properties."+f.Key, version)
				}
			}
		default:
			return u, unchangeable(m.Key, version)
		}
	}
	return u, nil
}

func unchangeable(name, version string) error {
	why := "it never changes: delete the template and make it anew, or PUT it with the tag " + TagUpdate + "=" + UpdateInPlace
	for field, since := range patchable {
		if strings.EqualFold(name, "properties."+field) {
			why = "it can be changed from API version " + since + " on"
		}
	}
	return arm.Errorf(arm.CodeValidationFailed, "Validation failed: '%s' of an image template cannot be updated in API version %s: %s", name, version, why).At(name)
}

func readTags(n *jsontree.Node) (map[string]string, error) {
	tags := map[string]string{}
	if n.Kind != jsontree.Object {
		return nil, arm.Errorf(arm.CodeInvalidJSON, "'tags' must be an object of strings, not %s", n.Kind).At("tags")
	}
	for _, m := range n.Members {
		if m.Value.Kind != jsontree.String {
			return nil, arm.Errorf(arm.CodeInvalidJSON, "the tag '%s' must be a string, not %s", m.Key, m.Value.Kind).At("tags")
		}
		if !m.Overridden {
			tags[m.Key] = m.Value.Text
		}
	}
	return tags, nil
}

// checkAssigned is checkIdentities for the identity of a PATCH.
func (p provider) checkAssigned(ctx context.Context, r *armapi.Request, raw json.RawMessage) error {
	if raw == nil {
		return nil
	}
	var identity struct {
		Users map[string]json.RawMessage `json:"userAssignedIdentities"`
	}
	if err := json.Unmarshal(raw, &identity); err != nil {
		return arm.Errorf(arm.CodeInvalidJSON, "the identity of the request does not parse: %w", err).At("identity")
	}
	given := identityOf(identity.Users)
	return p.checkIdentities(ctx, r, given)
}

func (p provider) delete(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	if err := p.checkCondition(ctx, r); err != nil {
		return armapi.Response{}, err
	}
	rec, err := p.engine.BeginDelete(ctx, r.ID)
	if arm.IsCode(err, arm.CodeNotFound) {
		return armapi.NoContent(), nil
	}
	if err != nil {
		return armapi.Response{}, err
	}
	op, err := r.Begin(context.WithoutCancel(ctx), workDelete, rec.ID, nil)
	if err != nil {
		return armapi.Response{}, err
	}
	return r.Accepted(http.StatusAccepted, nil, op, rec.Location, true), nil
}

// runInput is what the operation of a run remembers.
type runInput struct {
	Run string `json:"run"`
}

func (p provider) run(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, err := p.engine.Resources().Get(ctx, r.ID)
	if err != nil {
		return armapi.Response{}, absent(r, err)
	}
	values, err := runValues(r.Body)
	if err != nil {
		return armapi.Response{}, err
	}
	started, err := p.engine.StartRunWith(ctx, r.ID, values)
	if err != nil {
		return armapi.Response{}, absent(r, err)
	}
	op, err := r.Begin(context.WithoutCancel(ctx), workRun, rec.ID, runInput{started.ID})
	if err != nil {
		return armapi.Response{}, err
	}
	return r.Accepted(http.StatusAccepted, nil, op, rec.Location, true), nil
}

// cancel answers at once, as the real service does: what becomes of the run is
// in lastRunStatus.
func (p provider) cancel(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	if known(r.Version) < "2020" {
		return armapi.Response{}, armapi.Status(http.StatusNotFound, arm.Errorf("InvalidResourceType", "there is no action 'cancel' before API version 2020-02-14"))
	}
	if _, err := p.engine.CancelRun(ctx, r.ID); err != nil {
		return armapi.Response{}, absent(r, err)
	}
	return armapi.NoContent(), nil
}

// workWrite waits for the outcome of a create or update.
func (p provider) workWrite(ctx context.Context, op armapi.Operation) error {
	return p.engine.Settled(ctx, op.Resource, op.ID)
}

func (p provider) workDelete(ctx context.Context, op armapi.Operation) error {
	return p.engine.Gone(ctx, op.Resource)
}

// workRun waits for the end of a run.
func (p provider) workRun(ctx context.Context, op armapi.Operation) error {
	var in runInput
	if err := json.Unmarshal(op.Input, &in); err != nil {
		return arm.Errorf(arm.CodeCorrupt, "the input of operation %s does not parse: %w", op.ID, err)
	}
	rec, err := p.engine.Ended(ctx, in.Run)
	if err != nil {
		return err
	}
	switch rec.State {
	case run.Succeeded:
		return nil
	case run.Canceled:
		return arm.Errorf(arm.CodeCanceled, "the build was canceled")
	}
	return arm.Errorf(codeBuildFailed, "%s", rec.Message)
}

// codeBuildFailed is what the real service calls a build that did not succeed.
const codeBuildFailed arm.Code = "PackerBuildFailed"
