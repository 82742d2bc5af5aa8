package build

import (
	"context"
	"encoding/json"
	"fmt"

	"goldsmith/internal/arm"
	"goldsmith/internal/plan"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
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

// stageVM makes the records of the build VM, its disk and its network in the
// staging group; each is undone with the run.
func (e *Engine) stageVM(ctx context.Context, undo undoStack, s staging, runID string, p *plan.Plan, tags map[string]string) error {
	group, err := arm.ParseID(s.Group)
	if err != nil {
		return err
	}
	suffix := runID[:8]
	id := func(typ, prefix string) string {
		return arm.ResourceID(group.Subscription, group.Name, typ, prefix+suffix)
	}
	ref := func(id string) map[string]any { return map[string]any{"id": id} }
	vnet, nsg, ip := id(typeVNet, "pkrvn"), id(typeNSG, "pkrsg"), id(typePublicIP, "pkrip")
	nic, disk, vm := id(typeNIC, "pkrni"), id(typeDisk, "pkros"), id(typeVM, "pkrvm")
	for _, r := range []struct {
		id, typ string
		props   map[string]any
	}{
		{nsg, typeNSG, map[string]any{"securityRules": []any{map[string]any{"name": "builder", "properties": map[string]any{
			"priority": 100, "direction": "Inbound", "access": "Allow", "protocol": "Tcp",
			"sourceAddressPrefix": "AzureCloud", "sourcePortRange": "*", "destinationAddressPrefix": "*", "destinationPortRange": "22",
		}}}}},
		{vnet, typeVNet, map[string]any{
			"addressSpace": map[string]any{"addressPrefixes": []string{"10.0.0.0/24"}},
			"subnets": []any{map[string]any{"name": "pkrsn" + suffix, "properties": map[string]any{
				"addressPrefix": "10.0.0.0/24", "networkSecurityGroup": ref(nsg),
			}}},
		}},
		{ip, typePublicIP, map[string]any{"publicIPAllocationMethod": "Static"}},
		{nic, typeNIC, map[string]any{"ipConfigurations": []any{map[string]any{"name": "ipconfig", "properties": map[string]any{
			"privateIPAddress": "10.0.0.4", "subnet": ref(vnet + "/subnets/pkrsn" + suffix), "publicIPAddress": ref(ip),
		}}}}},
		{disk, typeDisk, map[string]any{"diskSizeGB": p.DiskBytes >> 30, "hyperVGeneration": fmt.Sprintf("V%d", p.Base.Generation)}},
		{vm, typeVM, map[string]any{
			"storageProfile": map[string]any{"osDisk": map[string]any{"osType": p.Base.OS, "managedDisk": ref(disk)}},
			"networkProfile": map[string]any{"networkInterfaces": []any{ref(nic)}},
		}},
	} {
		if err := undo.push(ctx, run.Undo{Kind: undoResource, Target: r.id}); err != nil {
			return err
		}
		r.props["provisioningState"] = "Succeeded"
		if err := e.putResource(ctx, r.id, r.typ, p.Location, tags, r.props); err != nil {
			return fmt.Errorf("stage the build VM: %w", err)
		}
	}
	return nil
}
