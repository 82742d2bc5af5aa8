package deployments

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/resource"
)

// typeOperation is the type of the records of operations. They are below
// "<deployment>/runs/<run>", so that those of an earlier run of the name are not
// taken for its own.
const typeOperation = Type + "/runs/operations"

// operation is what is done with one resource, as it is served.
type operation struct {
	ProvisioningOperation string `json:"provisioningOperation"` // "Create" or "Delete"
	ProvisioningState     string `json:"provisioningState"`
	Timestamp             string `json:"timestamp"`
	Duration              string `json:"duration"`
	TrackingID            string `json:"trackingId"`
	StatusCode            string `json:"statusCode"`
	StatusMessage         any    `json:"statusMessage,omitempty"`
	TargetResource        target `json:"targetResource"`
}

// tracked is what only the service knows of an operation.
type tracked struct {
	Poll  string    `json:"poll,omitempty"` // the link that says how far the provider is
	Start time.Time `json:"start"`
}

// operationID is the same whenever an operation of a run is taken up.
func operationID(run, id string) string {
	sum := sha256.Sum256([]byte(run + strings.ToLower(id)))
	return strings.ToUpper(hex.EncodeToString(sum[:8]))
}

func runID(deployment, run string) string { return deployment + "/runs/" + run }

// saveOperation records what is done with a resource.
func (p *provider) saveOperation(ctx context.Context, deployment, run string, op operation, t tracked) error {
	props, err := json.Marshal(op)
	if err != nil {
		return err
	}
	internal, err := json.Marshal(t)
	if err != nil {
		return err
	}
	name := operationID(run, op.TargetResource.ID)
	_, _, err = p.Store.Put(ctx, resource.Record{
		ID: runID(deployment, run) + "/operations/" + name, Type: typeOperation, Name: name, Properties: props, Internal: internal,
	}, resource.Condition{Within: deployment})
	return err
}

// operation is what is recorded of a resource in a run; found is false for nothing.
func (p *provider) operation(ctx context.Context, deployment, run, id string) (op operation, t tracked, found bool, err error) {
	rec, err := p.Store.Get(ctx, runID(deployment, run)+"/operations/"+operationID(run, id))
	if arm.IsCode(err, arm.CodeNotFound) {
		return op, t, false, nil
	}
	if err == nil {
		err = json.Unmarshal(rec.Properties, &op)
	}
	if err == nil {
		err = json.Unmarshal(rec.Internal, &t)
	}
	return op, t, err == nil, err
}

// dropOperations forgets the operations of a deployment that was replaced. Those
// that stay go with the deployment.
func (p *provider) dropOperations(ctx context.Context, before resource.Record) {
	k, err := keptOf(before)
	if err != nil {
		return
	}
	records, _, err := p.Store.List(ctx, resource.Query{Scope: runID(before.ID, k.Run), Type: typeOperation})
	if err != nil {
		return
	}
	for _, rec := range records {
		// Not found and not deleted are the same to who looks for the new ones.
		_, _ = p.Store.Delete(ctx, rec.ID, resource.Condition{})
	}
}

// wireOperation is an operation's record as its resource.
func wireOperation(deployment string, rec resource.Record) map[string]any {
	return map[string]any{"id": deployment + "/operations/" + rec.Name, "operationId": rec.Name, "properties": rec.Properties}
}

func (p *provider) listOperations(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, k, err := p.deployment(ctx, r)
	if err != nil {
		return armapi.Response{}, err
	}
	size, token, err := r.Page()
	if err != nil {
		return armapi.Response{}, err
	}
	records, next, err := p.Store.List(ctx, resource.Query{Scope: runID(rec.ID, k.Run), Type: typeOperation, PageSize: size, PageToken: token})
	if err != nil {
		return armapi.Response{}, err
	}
	out := []map[string]any{}
	for _, op := range records {
		out = append(out, wireOperation(rec.ID, op))
	}
	return armapi.ListOf(r, out, next), nil
}

func (p *provider) getOperation(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, k, err := p.deployment(ctx, r)
	if err != nil {
		return armapi.Response{}, err
	}
	op, err := p.Store.Get(ctx, runID(rec.ID, k.Run)+"/operations/"+r.Name())
	if arm.IsCode(err, arm.CodeNotFound) {
		return armapi.Response{}, arm.Errorf(arm.CodeNotFound, "the deployment '%s' has no operation '%s'", rec.Name, r.Name())
	}
	return armapi.OK(wireOperation(rec.ID, op)), err
}

func (p *provider) deployment(ctx context.Context, r *armapi.Request) (resource.Record, kept, error) {
	rec, err := p.Store.Get(ctx, idOf(r))
	if err != nil {
		return rec, kept{}, absent(r, err)
	}
	k, err := keptOf(rec)
	return rec, k, err
}
