package build

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
	"goldsmith/internal/distribute"
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

// stagingNameRunes is where the real service cuts "{group}_{template}".
const stagingNameRunes = 40

// stagingName is "IT_{group}_{template}" with the middle cut, and a new GUID.
func stagingName(group, template string) string {
	middle := []rune(group + "_" + template)
	if len(middle) > stagingNameRunes {
		middle = middle[:stagingNameRunes]
	}
	return "IT_" + string(middle) + "_" + uuid.NewString()
}

// staging is a template's staging group.
type staging struct {
	Group   string `json:"group"`   // resource id of the group
	Account string `json:"account"` // name of its storage account
}

// nameStaging draws the names of a template's staging group and account.
func nameStaging(template arm.ID) (staging, error) {
	account, err := accountName()
	if err != nil {
		return staging{}, err
	}
	group := arm.GroupID(template.Subscription, stagingName(template.Group, template.Name))
	return staging{Group: group, Account: account}, nil
}

// ensureStaging makes the staging group and its storage account where they are
// missing. Both stay until the template is deleted.
func (e *Engine) ensureStaging(ctx context.Context, template arm.ID, location string, tags map[string]string, s staging) error {
	if err := e.blobs.CreateAccount(ctx, s.Account); err != nil && !arm.IsCode(err, arm.CodeConflict) {
		return fmt.Errorf("create the staging storage account: %w", err)
	}
	if _, err := e.resources.Get(ctx, s.Group); err == nil {
		return nil
	} else if !arm.IsCode(err, arm.CodeNotFound) {
		return err
	}
	group, err := arm.ParseID(s.Group)
	if err != nil {
		return err
	}
	all := map[string]string{
		"createdBy":                      "AzureVMImageBuilder",
		"imageTemplateName":              template.Name,
		"imageTemplateResourceGroupName": template.Group,
	}
	maps.Copy(all, tags)
	if err := e.putResource(ctx, s.Group, distribute.TypeGroup, location, all, map[string]any{"provisioningState": "Succeeded"}); err != nil {
		return err
	}
	id := arm.ResourceID(group.Subscription, group.Name, typeAccount, s.Account)
	return e.putResource(ctx, id, typeAccount, location, tags, map[string]any{
		"provisioningState": "Succeeded",
		"primaryEndpoints":  map[string]any{"blob": blobEndpoint(s.Account)},
	})
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
