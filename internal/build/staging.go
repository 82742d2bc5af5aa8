package build

import (
	"context"
	"encoding/json"
	"fmt"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
)

// Resource types of the staging group and what a run puts into it.
const (
	typeTemplate = "Microsoft.VirtualMachineImages/imageTemplates"
	typeOutput   = "Microsoft.VirtualMachineImages/imageTemplates/runOutputs"
	typeAccount  = "Microsoft.Storage/storageAccounts"
	typeVM       = "Microsoft.Compute/virtualMachines"
	typeDisk     = "Microsoft.Compute/disks"
	typeNIC      = "Microsoft.Network/networkInterfaces"
	typeVNet     = "Microsoft.Network/virtualNetworks"
	typeNSG      = "Microsoft.Network/networkSecurityGroups"
	typePublicIP = "Microsoft.Network/publicIPAddresses"

	typeContainers = "Microsoft.ContainerInstance/containerGroups"
)

// putResource writes a resource record.
func (e *Engine) putResource(ctx context.Context, id, typ, location string, tags map[string]string, props map[string]any) error {
	parsed, err := arm.ParseID(id)
	if err != nil {
		return err
	}
	properties, err := json.Marshal(props)
	if err != nil {
		return fmt.Errorf("encode %s: %w", id, err)
	}
	_, _, err = e.resources.Put(ctx, resource.Record{ID: id, Type: typ, Name: parsed.Name, Location: location, Tags: tags, Properties: properties}, resource.Condition{})
	return err
}
