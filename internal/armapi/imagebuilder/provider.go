// Package imagebuilder is the resource provider Microsoft.VirtualMachineImages:
// image templates with their runs, outputs and triggers, in all API versions.
// docs/api-coverage.md says where it differs from the real service.
package imagebuilder

import (
	"context"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/build"
	"goldsmith/internal/event"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/network/topology"
	"goldsmith/internal/preflight"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

// Namespaces.
const (
	Namespace = "Microsoft.VirtualMachineImages"
	// Extension is the namespace of what the real service does not have.
	Extension = "Goldsmith.Builds"
)

// Resource types.
const (
	typeTemplate = Namespace + "/imageTemplates"
	typeOutput   = typeTemplate + "/runOutputs"
)

// Kinds of long-running operations.
const (
	workWrite         = "imagebuilder.write"
	workDelete        = "imagebuilder.delete"
	workRun           = "imagebuilder.run"
	workTriggerWrite  = "imagebuilder.trigger.write"
	workTriggerDelete = "imagebuilder.trigger.delete"
)

// Engine is what the provider needs of *build.Engine.
type Engine interface {
	Subscription() string
	Resources() resource.Store
	Runs() run.Store
	CreateTemplate(ctx context.Context, sub build.Submission) (rec resource.Record, created bool, err error)
	UpdateTemplate(ctx context.Context, id string, u build.Update) (rec resource.Record, pending bool, err error)
	BeginDelete(ctx context.Context, id string) (resource.Record, error)
	StartRunWith(ctx context.Context, id string, values []build.GivenValue) (run.Record, error)
	CancelRun(ctx context.Context, id string) (run.Record, error)
	CancelRunID(ctx context.Context, runID string) (run.Record, error)
	Settled(ctx context.Context, id, operation string) error
	Gone(ctx context.Context, id string) error
	Ended(ctx context.Context, runID string) (run.Record, error)
	LastRunStatus(ctx context.Context, template resource.Record) (*imagetemplate.LastRun, error)
	Position(ctx context.Context, rec run.Record) (working, slots, before int, err error)
	Network(runID string) (v topology.View, found bool, err error)
	Events(runID string, from int64, limit int) ([]event.Event, error)
	Follow(ctx context.Context, runID string, from int64, yield func(event.Event) bool) error
	PutTrigger(ctx context.Context, template, name, kind string) (rec resource.Record, created bool, err error)
	ActivateTrigger(ctx context.Context, id string) error
	DeleteTrigger(ctx context.Context, id string) error
	Preflight(ctx context.Context, t *imagetemplate.Template, group, name string, caller *preflight.Principal) (preflight.Report, error)
	CheckNetwork(ctx context.Context, t *imagetemplate.Template) ([]build.NetworkIssue, error)
}

// provider answers requests by asking the engine.
type provider struct{ engine Engine }

// Providers are the image builder's own namespace and that of the extensions.
func Providers(e Engine) []armapi.Provider {
	p := provider{e}
	versions := imagetemplate.Versions()
	slices.Reverse(versions)
	withTriggers := versions[:slices.Index(versions, "2022-07-01")+1]
	const pattern = `^[A-Za-z0-9-_.]{1,64}$`
	return []armapi.Provider{
		{
			Namespace: Namespace, MustRegister: true, Bare: bare, Indent: " ", ContentType: "application/json",
			Types: []armapi.Type{
				{
					Name: "imageTemplates", Versions: versions, Tracked: true, Pattern: pattern, Narrows: true,
					Get: p.get, List: p.list, Put: p.put, Patch: p.patch, Delete: p.delete,
					Actions: map[string]armapi.Action{"run": {Handle: p.run}, "cancel": {Handle: p.cancel}},
				},
				{Name: "imageTemplates/runOutputs", Versions: versions, Pattern: pattern, Get: p.getOutput, List: p.listOutputs},
				{
					Name: "imageTemplates/triggers", Versions: withTriggers, Pattern: pattern,
					Get: p.getTrigger, List: p.listTriggers, Put: p.putTrigger, Delete: p.deleteTrigger,
				},
				{Name: "operations", Versions: versions, Place: armapi.InTenant, Open: true, List: listOperations},
			},
			Works: map[string]armapi.Work{
				workWrite: p.workWrite, workDelete: p.workDelete, workRun: p.workRun,
				workTriggerWrite: p.workTriggerWrite, workTriggerDelete: p.workTriggerDelete,
			},
		},
		{
			Namespace: Extension, Indent: " ",
			Actions: map[string]armapi.Action{"preflight": {Handle: p.preflight, Open: true}},
			Types: []armapi.Type{
				{
					Name: "runs", Versions: []string{"2026-01-01"}, Place: armapi.InSubscription, Open: true,
					Get: p.getRun, List: p.listRuns, Actions: map[string]armapi.Action{"cancel": {Handle: p.cancelRun, Open: true}},
				},
				{Name: "runs/events", Versions: []string{"2026-01-01"}, Place: armapi.InSubscription, Open: true, List: p.events},
				{Name: "runs/network", Versions: []string{"2026-01-01"}, Place: armapi.InSubscription, Open: true, List: p.drawNetwork},
			},
		},
	}
}

// bare says in which versions errors have no "error" member around them.
func bare(version string) bool { return version != "" && known(version) < "2021" }

// known is the API version of the image builder that a request's means: the
// newest that is not younger.
func known(version string) string {
	all := imagetemplate.Versions()
	out := all[0]
	for _, v := range all {
		// A date without "-preview" is younger than the preview of the day.
		if day(v) < day(version) || day(v) == day(version) && (v == version || strings.HasSuffix(v, "-preview")) {
			out = v
		}
	}
	return out
}

func day(version string) string { return strings.TrimSuffix(version, "-preview") }

// served is a resource as clients get it. Ids have "resourcegroups" in lower
// case, as those of the real service.
func servedID(id string) string {
	const canonical, lower = "/resourceGroups/", "/resourcegroups/"
	return strings.Replace(id, canonical, lower, 1)
}

// absent is the error for a resource that is not there, in the words of Azure.
func absent(r *armapi.Request, err error) error {
	if !arm.IsCode(err, arm.CodeNotFound) {
		return err
	}
	return armapi.ErrResourceNotFound(r.Type, strings.Join(r.Names, "/"), r.Group)
}
