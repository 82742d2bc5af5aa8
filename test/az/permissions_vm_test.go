//go:build vm

package az

import (
	"slices"
	"strings"
	"testing"
)

// The principal that the documents grant roles to.
const builderObject = "ef511139-6170-438e-a6e1-763dc31bdf74"

// TestPermissionsDocument runs every command of the document about permissions,
// as it is printed, but for the names that it leaves to the reader.
func TestPermissionsDocument(t *testing.T) {
	s := start(t)
	s.roles()
	s.sh(`az group create --name distribution --location westus2
az group create --name network --location westus2
az group create --name scripts --location westus2
az identity create --resource-group distribution --name reader
az storage account create --name scriptstore --resource-group scripts --location westus2 --sku Standard_LRS
az storage container-rm create --storage-account scriptstore --resource-group scripts --name customize`)
	identity := strings.TrimSpace(s.sh("az identity show --resource-group distribution --name reader --query clientId --output tsv"))
	// What the document expects to be set when it comes to these commands; it never
	// sets vnetRgName.
	names := `vnetRgName=network
imgBuilderCliId=` + identity + `
subscriptionID=` + s.subscription + `
strResourceGroup=scripts
scriptStorageAcc=scriptstore
scriptStorageAccContainer=customize
`
	commands := azCommands(t, "permissions.md")
	if len(commands) != 4 {
		t.Fatalf("the document has %d blocks with az, not the 4 that this test was written for", len(commands))
	}
	ran := 0
	for _, text := range commands {
		if strings.Contains(text, "role definition update") {
			// The document updates a role that nobody has made: az itself refuses that.
			_, said, err := s.try(names + "sed 's/<subscriptionID>/'$subscriptionID'/; s/<vnetRgName>/'$vnetRgName'/' $HOME/roles/aibRoleNetworking.json > role.json\naz role definition update --role-definition role.json")
			if err == nil || !strings.Contains(said, "No definition was found") {
				t.Errorf("an update of a role that is not there: %v %s", err, said)
			}
			s.sh("az role definition create --role-definition role.json")
		}
		text = strings.NewReplacer("<subID>", s.subscription, "<distributionRG>", "distribution").Replace(text)
		s.sh(fetchRoles + names + text)
		ran += len(azLine.FindAllString(text, -1))
	}
	t.Logf("%d commands of az ran as printed", ran)

	var features struct {
		Properties struct{ State string }
	}
	s.query(&features, "az feature show --namespace Microsoft.VirtualMachineImages --name VirtualMachineTemplatePreview")
	if features.Properties.State != "Registered" {
		t.Errorf("the feature is %s", features.Properties.State)
	}
	var assignments []struct {
		PrincipalID        string `json:"principalId"`
		RoleDefinitionName string `json:"roleDefinitionName"`
		Scope              string `json:"scope"`
	}
	s.query(&assignments, "az role assignment list --all")
	for _, want := range []struct{ principal, role, scope string }{
		{builderObject, "Azure Image Builder Service Image Creation Role", "/resourceGroups/distribution"},
		{builderObject, "Azure Image Builder Service Networking Role", "/resourceGroups/network"},
		{"", "Storage Blob Data Reader", "/containers/customize"},
	} {
		found := slices.ContainsFunc(assignments, func(a struct {
			PrincipalID        string `json:"principalId"`
			RoleDefinitionName string `json:"roleDefinitionName"`
			Scope              string `json:"scope"`
		}) bool {
			return (want.principal == "" || a.PrincipalID == want.principal) && a.RoleDefinitionName == want.role && strings.HasSuffix(a.Scope, want.scope)
		})
		if !found {
			t.Errorf("no assignment of %q at ...%s in %+v", want.role, want.scope, assignments)
		}
	}
	// The same again finds what is there.
	s.sh(`az role assignment create --assignee cf32a0cc-373c-47c9-9156-0db11f6a6dfc --role "Azure Image Builder Service Networking Role" --scope /subscriptions/` + s.subscription + `/resourceGroups/network`)
	s.sh(`az role assignment delete --assignee cf32a0cc-373c-47c9-9156-0db11f6a6dfc --role "Azure Image Builder Service Networking Role" --scope /subscriptions/` + s.subscription + `/resourceGroups/network
az role definition delete --name "Azure Image Builder Service Networking Role"`)

	s.blobs("scriptstore")
	s.powershell()
}

// TestNetworkingDocument runs the commands of the article that the document about
// networking sends its readers to: the document itself has none.
func TestNetworkingDocument(t *testing.T) {
	if n := len(azCommands(t, "networking.md")); n != 0 {
		t.Fatalf("the document has %d blocks with az, and this test runs none of them", n)
	}
	s := start(t)
	s.sh(`az group create --name existingVnetRG --location westus2
az network vnet create --resource-group existingVnetRG --name vnet1 --address-prefix 10.0.0.0/16 --subnet-name subnet01 --subnet-prefix 10.0.0.0/24
az network nsg create --resource-group existingVnetRG --name aibdemoNsg
az network vnet subnet update --resource-group existingVnetRG --vnet-name vnet1 --name subnet01 --network-security-group aibdemoNsg
az network nsg rule create --resource-group existingVnetRG --nsg-name aibdemoNsg --name AzureImageBuilderNsgRule --priority 400 \
  --source-address-prefixes AzureLoadBalancer --destination-address-prefixes VirtualNetwork --destination-port-ranges 60000-60001 \
  --direction inbound --access Allow --protocol Tcp --description "Allow Image Builder Private Link Access to Proxy VM"
az network vnet subnet update --name subnet01 --resource-group existingVnetRG --vnet-name vnet1 --disable-private-link-service-network-policies true`)
	var subnet struct {
		AddressPrefix string
		Group         struct{ ID string } `json:"networkSecurityGroup"`
		Policies      string              `json:"privateLinkServiceNetworkPolicies"`
	}
	s.query(&subnet, "az network vnet subnet show --resource-group existingVnetRG --vnet-name vnet1 --name subnet01")
	if !strings.HasSuffix(subnet.Group.ID, "/aibdemoNsg") || subnet.Policies != "Disabled" || subnet.AddressPrefix != "10.0.0.0/24" {
		t.Errorf("%+v", subnet)
	}
	var rules []struct {
		Name     string
		Priority int
	}
	s.query(&rules, "az network nsg rule list --resource-group existingVnetRG --nsg-name aibdemoNsg")
	if len(rules) != 1 || rules[0].Name != "AzureImageBuilderNsgRule" || rules[0].Priority != 400 {
		t.Errorf("%+v", rules)
	}
	s.sh("az network vnet list --resource-group existingVnetRG --output table\naz group delete --name existingVnetRG --yes")
	if _, said, err := s.try("az network vnet show --resource-group existingVnetRG --name vnet1"); err == nil {
		t.Errorf("the network outlived its group: %s", said)
	}
}
