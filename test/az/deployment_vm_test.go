//go:build vm

package az

import (
	"strings"
	"testing"
)

// imageDeployment is a deployment template as people write it: with comments and a
// string over two lines, which az sends as they are.
const imageDeployment = `{
  "$schema": "https://schema.management.azure.com/schemas/2019-04-01/deploymentTemplate.json#",
  "contentVersion": "1.0.0.0",
  "parameters": {
    "imageName": {"type": "string"}, // what it is called
    "api-version": {"type": "string", "defaultValue": "2024-02-01"},
    "secret": {"type": "securestring", "defaultValue": "[newGuid()]"}
  },
  "variables": {
    "identity": "[resourceId('Microsoft.ManagedIdentity/userAssignedIdentities', 'builder')]",
    "assignment": "[guid(resourceGroup().id, variables('identity'))]"
  },
  "resources": [
    {
      "type": "Microsoft.VirtualMachineImages/imageTemplates",
      "apiVersion": "[parameters('api-version')]",
      "name": "[parameters('imageName')]",
      "location": "[resourceGroup().location]",
      "dependsOn": ["[variables('assignment')]"],
      "identity": {"type": "UserAssigned", "userAssignedIdentities": {"[variables('identity')]": {}}},
      "properties": {
        "source": {"type": "PlatformImage", "publisher": "Debian", "offer": "debian-12", "sku": "12-gen2", "version": "latest"},
        "customize": [{"type": "Shell", "name": "mark", "inline": ["echo one
echo two"]}],
        "distribute": [{
          "type": "ManagedImage", "runOutputName": "out", "location": "[resourceGroup().location]", "artifactTags": {},
          "imageId": "[resourceId('Microsoft.Compute/images', parameters('imageName'))]"
        }]
      }
    },
    /* the identity that builds */
    {"type": "Microsoft.ManagedIdentity/userAssignedIdentities", "apiVersion": "2023-01-31", "name": "builder", "location": "[resourceGroup().location]"},
    {
      "type": "Microsoft.Authorization/roleAssignments", "apiVersion": "2022-04-01", "name": "[variables('assignment')]",
      "properties": {
        "roleDefinitionId": "[subscriptionResourceId('Microsoft.Authorization/roleDefinitions', 'b24988ac-6180-42a0-ab88-20f7382dd24c')]",
        "principalId": "[reference('builder').principalId]", "principalType": "ServicePrincipal"
      }
    }
  ],
  "outputs": {"client": {"type": "string", "value": "[reference('builder').clientId]"}}
}
`

// TestDeployments runs az's commands for deployments.
func TestDeployments(t *testing.T) {
	s := start(t)
	s.file("image.json", imageDeployment)
	s.file("broken.json", strings.Replace(imageDeployment, "resourceGroup()", "resourceGruop()", 1))
	s.file("sub.json", `{"$schema": "https://schema.management.azure.com/schemas/2018-05-01/subscriptionDeploymentTemplate.json#", "contentVersion": "1.0.0.0",
  "resources": [{"type": "Microsoft.Resources/resourceGroups", "apiVersion": "2021-04-01", "name": "made", "location": "[deployment().location]"}]}`)
	s.sh(`az group create --name g --location westus2
az provider register --namespace Microsoft.VirtualMachineImages --wait`)
	var validated struct {
		Properties struct {
			ValidatedResources []struct {
				ID string `json:"id"`
			} `json:"validatedResources"`
		} `json:"properties"`
	}
	s.query(&validated, "az deployment group validate --resource-group g --template-file image.json --parameters imageName=golden")
	if len(validated.Properties.ValidatedResources) != 3 {
		t.Errorf("%+v", validated)
	}
	if shown := s.sh("az deployment group what-if --resource-group g --template-file image.json --parameters imageName=golden"); !strings.Contains(shown, "3 to create") {
		t.Error(shown)
	}
	var made struct {
		Properties struct {
			ProvisioningState string `json:"provisioningState"`
			Outputs           map[string]struct {
				Value string `json:"value"`
			} `json:"outputs"`
		} `json:"properties"`
	}
	s.query(&made, "az deployment group create --resource-group g --name first --template-file image.json --parameters imageName=golden")
	if made.Properties.ProvisioningState != "Succeeded" || len(made.Properties.Outputs["client"].Value) != 36 {
		t.Errorf("%+v", made)
	}
	var template struct {
		Customize []struct {
			Inline []string `json:"inline"`
		} `json:"customize"`
	}
	s.query(&template, "az image builder show --resource-group g --name golden")
	if len(template.Customize) != 1 || template.Customize[0].Inline[0] != "echo one\necho two" {
		t.Errorf("%+v", template)
	}
	shown := s.sh(`az deployment group what-if --resource-group g --name again --template-file image.json --parameters imageName=golden
az deployment group show --resource-group g --name first --query properties.outputs.client.value --output tsv
az deployment group list --resource-group g --query '[].name' --output tsv
az deployment operation group list --resource-group g --name first --query '[].properties.targetResource.resourceName' --output tsv
az deployment group export --resource-group g --name first | grep contentVersion
az deployment sub create --name all --location westus2 --template-file sub.json --query properties.provisioningState --output tsv
az deployment group delete --resource-group g --name first
az deployment group list --resource-group g --query 'length(@)' --output tsv`)
	for _, want := range []string{"3 no change", made.Properties.Outputs["client"].Value + "\nfirst\n", "builder", "golden", "\"1.0.0.0\"", "\nSucceeded\n0\n"} {
		if !strings.Contains(shown, want) {
			t.Errorf("%q is not in\n%s", want, shown)
		}
	}
	// az 2.74 fails at a refusal and does not show it; az rest does.
	if out, text, err := s.try("az deployment group create --resource-group g --template-file broken.json --parameters imageName=golden"); err == nil {
		t.Errorf("a broken template is deployed:\n%s\n%s", out, text)
	}
	s.file("body.json", `{"properties": {"mode": "Incremental", "parameters": {"imageName": {"value": "x"}}, "template": `+strings.Replace(imageDeployment, "resourceGroup()", "resourceGruop()", 1)+`}}`)
	_, text, err := s.try("az rest --method post --url " + s.url + "/subscriptions/" + s.subscription + "/resourceGroups/g/providers/Microsoft.Resources/deployments/x/validate?api-version=2024-11-01 --resource " + s.url + " --body @body.json")
	if err == nil || !strings.Contains(text, "InvalidTemplate") || !strings.Contains(text, "resourceGruop") || !strings.Contains(text, "variables.assignment") {
		t.Errorf("a broken template: %v\n%s", err, text)
	}
}
