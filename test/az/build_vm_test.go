//go:build vm

package az

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// TestBuildAndBoot builds an image with az's own commands and boots it.
func TestBuildAndBoot(t *testing.T) {
	s := start(t)
	group := "/subscriptions/" + s.subscription + "/resourceGroups/images"
	s.file("role.json", strings.NewReplacer("<subscriptionID>", s.subscription, "<rgName>", "images").Replace(imageRole))
	s.file("template.json", fmt.Sprintf(`{
  "type": "Microsoft.VirtualMachineImages/imageTemplates",
  "apiVersion": "2022-07-01",
  "location": "westus2",
  "tags": {},
  "identity": {"type": "UserAssigned", "userAssignedIdentities": {"%[1]s/providers/Microsoft.ManagedIdentity/userAssignedIdentities/builder": {}}},
  "properties": {
    "buildTimeoutInMinutes": 60,
    "vmProfile": {"vmSize": "Standard_B1ms"},
    "source": {"type": "PlatformImage", "publisher": "Debian", "offer": "debian-12", "sku": "12-gen2", "version": "latest"},
    "customize": [{"type": "Shell", "name": "leave a mark", "inline": ["echo made-by-az | sudo tee /etc/golden"]}],
    "distribute": [{
      "type": "ManagedImage", "runOutputName": "golden", "location": "westus2", "artifactTags": {},
      "imageId": "%[1]s/providers/Microsoft.Compute/images/golden"
    }]
  }
}`, group))
	s.sh(`az group create --name images --location westus2
az provider register --namespace Microsoft.VirtualMachineImages --wait
az identity create --resource-group images --name builder
az role definition create --role-definition role.json
az role assignment create --assignee-object-id "$(az identity show --resource-group images --name builder --query principalId --output tsv)" \
  --assignee-principal-type ServicePrincipal --role "Azure Image Builder Service Image Creation Role" --scope ` + group + `
az image builder create --resource-group images --name golden --image-template template.json
az image builder run --resource-group images --name golden`)
	var template struct {
		ProvisioningState string `json:"provisioningState"`
		LastRunStatus     struct {
			RunState string `json:"runState"`
			Message  string `json:"message"`
		} `json:"lastRunStatus"`
	}
	s.query(&template, "az image builder show --resource-group images --name golden")
	if template.ProvisioningState != "Succeeded" || template.LastRunStatus.RunState != "Succeeded" {
		t.Fatalf("%+v", template)
	}
	var outputs []struct {
		ArtifactID string `json:"artifactId"`
	}
	s.query(&outputs, "az image builder show-runs --resource-group images --name golden")
	if len(outputs) != 1 || !strings.HasSuffix(strings.ToLower(outputs[0].ArtifactID), "/images/golden") {
		t.Fatalf("%+v", outputs)
	}
	s.sh("az image show --resource-group images --name golden")

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, "image", "boot", outputs[0].ArtifactID, "--data", s.data, "--boot-timeout", "25m", "--", "cat /etc/golden").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "made-by-az") {
		t.Fatalf("the image in a machine: %v\n%s", err, out)
	}
	s.sh("az image builder delete --resource-group images --name golden\naz group delete --name images --yes")
}
