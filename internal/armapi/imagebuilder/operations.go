package imagebuilder

import (
	"context"
	"slices"

	"goldsmith/internal/armapi"
)

// operation is one action that a role can grant.
type operation struct {
	Name    string  `json:"name"`
	Display display `json:"display"`
	Data    *bool   `json:"isDataAction,omitempty"` // false; the first versions do not have it
}

type display struct {
	Provider    string `json:"provider"`
	Operation   string `json:"operation"`
	Resource    string `json:"resource,omitempty"`
	Description string `json:"description"`
}

// The names of what operations work on.
const (
	aTemplate  = "VM Image template"
	anOutput   = "VM Image template run output"
	aTrigger   = "Trigger"
	anAction   = "Operation"
	aLongOne   = "Asynchronous Operation"
	theBuilder = "Virtual Machine Image Builder"
)

// operations are the actions of the namespace, in the order of the real service.
var operations = []operation{
	newOperation("register/action", "", "Register the Virtual Machine Image Builder resource provider"),
	newOperation("unregister/action", "", "Unregister the Virtual Machine Image Builder resource provider"),
	newOperation("imageTemplates/read", aTemplate, "Read a VM image template"),
	newOperation("imageTemplates/write", aTemplate, "Create or update a VM image template"),
	newOperation("imageTemplates/delete", aTemplate, "Delete a VM image template"),
	newOperation("imageTemplates/run/action", aTemplate, "Run a VM image template and produce its outputs"),
	newOperation("imageTemplates/runOutputs/read", anOutput, "Read an output of a VM image template's run"),
	newOperation("operations/read", anAction, "List the operations of the Virtual Machine Image Builder"),
	newOperation("locations/operations/read", aLongOne, "Read the status of an asynchronous operation"),
	newOperation("imageTemplates/cancel/action", aTemplate, "Cancel a running image build"),
	newOperation("imageTemplates/triggers/write", aTrigger, "Create or update a trigger of a VM image template"),
	newOperation("imageTemplates/triggers/read", aTrigger, "Read a trigger of a VM image template"),
	newOperation("imageTemplates/triggers/delete", aTrigger, "Delete a trigger of a VM image template"),
}

func newOperation(action, on, does string) operation {
	return operation{Name: Namespace + "/" + action, Display: display{Provider: theBuilder, Operation: does, Resource: on, Description: does}}
}

func listOperations(_ context.Context, r *armapi.Request) (armapi.Response, error) {
	shown := slices.Clone(operations)
	if known(r.Version) >= "2020" {
		for i := range shown {
			shown[i].Data = new(bool)
		}
	}
	return armapi.ListOf(r, shown, ""), nil
}
