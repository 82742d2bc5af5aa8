//go:build vm

package az

import (
	"context"
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// askMetadata is a command in the guest that gets a token of the machine's
// identity, and leaves what is no secret of the answer in the image.
const askMetadata = `ask='import json, urllib.request as u
ask = u.Request("http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=https%3A%2F%2Fstorage.azure.com%2F", headers={"Metadata": "true"})
got = json.load(u.urlopen(ask))
assert len(got["access_token"].split(".")) == 3 and int(got["expires_in"]) > 0, sorted(got)
print(got["token_type"], got["resource"], got["client_id"])'
python3 -c "$ask" | sudo tee /etc/identity`

// TestBuildAndBoot builds an image with az's own commands and boots it. The build
// machine has an identity, whose tokens it gets from inside.
func TestBuildAndBoot(t *testing.T) {
	s := start(t)
	group := "/subscriptions/" + s.subscription + "/resourceGroups/images"
	s.file("role.json", strings.NewReplacer("<subscriptionID>", s.subscription, "<rgName>", "images").Replace(imageRole))
	ask, err := json.Marshal(askMetadata)
	if err != nil {
		t.Fatal(err)
	}
	s.file("template.json", fmt.Sprintf(`{
  "type": "Microsoft.VirtualMachineImages/imageTemplates",
  "apiVersion": "2022-07-01",
  "location": "westus2",
  "tags": {},
  "identity": {"type": "UserAssigned", "userAssignedIdentities": {"%[1]s/providers/Microsoft.ManagedIdentity/userAssignedIdentities/builder": {}}},
  "properties": {
    "buildTimeoutInMinutes": 60,
    "vmProfile": {"vmSize": "Standard_B1ms", "userAssignedIdentities": ["%[1]s/providers/Microsoft.ManagedIdentity/userAssignedIdentities/machine"]},
    "source": {"type": "PlatformImage", "publisher": "Debian", "offer": "debian-12", "sku": "12-gen2", "version": "latest"},
    "customize": [{"type": "Shell", "name": "leave a mark", "inline": ["echo made-by-az | sudo tee /etc/golden"]},
      {"type": "Shell", "name": "ask for a token", "inline": [%[2]s]}],
    "distribute": [{
      "type": "ManagedImage", "runOutputName": "golden", "location": "westus2", "artifactTags": {},
      "imageId": "%[1]s/providers/Microsoft.Compute/images/golden"
    }]
  }
}`, group, ask))
	s.sh(`az group create --name images --location westus2
az provider register --namespace Microsoft.VirtualMachineImages --wait
az identity create --resource-group images --name builder
az identity create --resource-group images --name machine
az role definition create --role-definition role.json
az role assignment create --assignee-object-id "$(az identity show --resource-group images --name builder --query principalId --output tsv)" \
  --assignee-principal-type ServicePrincipal --role "Managed Identity Operator" --scope ` + group + `/providers/Microsoft.ManagedIdentity/userAssignedIdentities/machine
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
	out, err := exec.CommandContext(ctx, binary, "image", "boot", outputs[0].ArtifactID, "--data", s.data, "--boot-timeout", "25m", "--", "cat /etc/golden /etc/identity").CombinedOutput()
	machine := strings.TrimSpace(s.sh("az identity show --resource-group images --name machine --query clientId --output tsv"))
	if err != nil || !strings.Contains(string(out), "made-by-az") || !strings.Contains(string(out), "Bearer https://storage.azure.com/ "+machine) {
		t.Fatalf("the image in a machine: %v\n%s", err, out)
	}
	s.sh("az image builder delete --resource-group images --name golden\naz group delete --name images --yes")
}
