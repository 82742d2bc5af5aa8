package imagetemplate

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
)

func TestBodyRules(t *testing.T) {
	with := func(version, properties string) draft { return draft{version: version, properties: ", " + properties} }
	top := func(version, top string) draft { return draft{version: version, top: ", " + top} }
	const jwt = "client_jwt will expire within 5 minutes, please use a JWT that is valid for at least 5 minutes"
	runRules(t, []ruleCase{
		{"location empty", top("2020-02-14", `"location": ""`), []want{
			failure("", "Validation failed: 'ImageTemplate': Missing field 'location'"),
			warning("/location", "'location' is given twice: this one is ignored, the one on line 7 counts")}},
		{"properties twice", top("2020-02-14", `"Properties": {}`), []want{
			failure("/properties", "'properties' is given twice, here and on line 7: remove one"),
			failure("/Properties", "'source'"), failure("/Properties", "'distribute'")}},
		{"properties null", top("2020-02-14", `"properties": null`), []want{
			failure("", "Missing field 'properties'"), failure("/properties", "given twice")}},
		{"tag twice", top("2020-02-14", `"tags": {"a": "1", "a": "2", "A": "3"}`), []want{warning("/tags/a", "the last one counts")}},
		{"tags as a list", top("2020-02-14", `"tags": ["a"]`), []want{failure("/tags", "an object is expected, not an array")}},
		{"tags as a list, strict", top("2024-02-01", `"tags": ["a"]`), []want{failure("/tags",
			"struct field Tags: json: cannot unmarshal array into Go value of type map[string]*string")}},
		{"name", top("2020-02-14", `"name": "web.1"`), nil},
		{"bad name", top("2020-02-14", `"name": "web 1"`), []want{failure("/name", "it must match")}},
		{"name with a dot before 2019-05", top("2019-02-01-preview", `"name": "web.1"`), []want{failure("/name", "it must match")}},
		{"long type", top("2024-02-01", `"type": "microsoft.virtualmachineimages/IMAGETEMPLATES"`), nil},
		{"short type", top("2023-07-01", `"type": "Microsoft.VirtualMachineImages"`), nil},
		{"short type, strict", top("2024-02-01", `"type": "Microsoft.VirtualMachineImages"`), []want{failure("/type", "the type of an image template is")}},
		{"another type", top("2020-02-14", `"type": "Microsoft.Compute/images"`), []want{failure("/type", "the type of an image template is")}},
		{"read-only", top("2022-07-01", `"id": "/x", "systemData": {"createdBy": "a"}`), []want{warning("/id", "read-only"), warning("/systemData", "read-only")}},
		{"read-only properties", with("2022-07-01", `"provisioningState": "Succeeded", "lastRunStatus": {}, "exactStagingResourceGroup": "x"`), []want{
			warning("/properties/provisioningState", "read-only"), warning("/properties/lastRunStatus", "read-only"),
			warning("/properties/exactStagingResourceGroup", "read-only")}},
		{"timeout", with("2019-05-01-preview", `"buildTimeoutInMinutes": 960`), nil},
		{"timeout before its time", with("2019-02-01-preview", `"buildTimeoutInMinutes": 10`),
			[]want{warning("/properties/buildTimeoutInMinutes", "it came with API version 2019-05-01-preview")}},
		{"timeout too long", with("2020-02-14", `"buildTimeoutInMinutes": 961`), []want{failure("/properties/buildTimeoutInMinutes", "it must be between 0 and 960")}},
		{"timeout negative", with("2020-02-14", `"buildTimeoutInMinutes": -1`), []want{failure("/properties/buildTimeoutInMinutes", "it must be between 0 and 960")}},
		{"timeout too short", with("2020-02-14", `"buildTimeoutInMinutes": 5`), []want{failure("/properties/buildTimeoutInMinutes", jwt)}},
		{"timeout of 6", with("2020-02-14", `"buildTimeoutInMinutes": 6`), nil},
		{"timeout as text", with("2023-07-01", `"buildTimeoutInMinutes": "80"`), []want{warning("/properties/buildTimeoutInMinutes", "is a string and is read as an integer")}},
		{"timeout as words", with("2023-07-01", `"buildTimeoutInMinutes": "long"`), []want{failure("/properties/buildTimeoutInMinutes", "a number is expected, not a string")}},
		{"timeout with a fraction", with("2023-07-01", `"buildTimeoutInMinutes": 80.5`), []want{failure("/properties/buildTimeoutInMinutes", "an integer of 32 bits")}},
		{"timeout with a fraction, strict", with("2024-02-01", `"buildTimeoutInMinutes": 80.0`), []want{failure("/properties/buildTimeoutInMinutes",
			"unmarshalling type *v2024_02_01.ImageTemplateProperties: struct field BuildTimeoutInMinutes: json: cannot unmarshal number 80.0 into Go value of type int32")}},
		{"vmProfile", with("2020-02-14", `"vmProfile": {"vmSize": "Standard_D2s_v3", "osDiskSizeGB": 30}`), nil},
		{"negative disk", with("2020-02-14", `"vmProfile": {"osDiskSizeGB": -1}`), []want{failure("/properties/vmProfile/osDiskSizeGB", "it must be at least 0")}},
		{"disk beyond 32 bits", with("2024-02-01", `"vmProfile": {"osDiskSizeGB": 3000000000}`), []want{failure("/properties/vmProfile/osDiskSizeGB",
			"struct field VMProfile: unmarshalling type *v2024_02_01.ImageTemplateVMProfile: struct field OSDiskSizeGB: json: cannot unmarshal number 3000000000 into Go value of type int32")}},
		{"identities of the machine", with("2021-10-01", `"vmProfile": {"userAssignedIdentities": ["`+identityID+`"]}`), nil},
		{"bad identity of the machine", with("2021-10-01", `"vmProfile": {"userAssignedIdentities": ["x"]}`), []want{
			{SeverityError, arm.CodeInvalidResourceID, "/properties/vmProfile/userAssignedIdentities/0", "it must be a resource id"}}},
		{"optimize disabled", with("2025-10-01", `"optimize": {"vmBoot": {"state": "Disabled"}, "workload": {"state": "Disabled"}}`), nil},
		{"optimize", with("2025-10-01", `"optimize": {"vmBoot": {"state": "Enabled"}, "workload": {"state": "Enabled", "scriptUri": "https://h/x"}}`), []want{
			notYet("/properties/optimize/vmBoot/state", "'ImageTemplate.properties.optimize.vmBoot.state' cannot be built yet"),
			notYet("/properties/optimize/workload/state", "'ImageTemplate.properties.optimize.workload.state' cannot be built yet")}},
		{"workload before its time", with("2024-02-01", `"optimize": {"workload": {}}`), []want{failure("/properties/optimize/workload", `unknown field "workload"`)}},
		{"sum without workload script", with("2025-10-01", `"optimize": {"workload": {"sha256Checksum": "`+sum+`"}}`),
			[]want{failure("/properties/optimize/workload/sha256Checksum", "it goes only with scriptUri")}},
		{"unknown state", with("2022-07-01", `"optimize": {"vmBoot": {"state": "On"}}`), []want{failure("/properties/optimize/vmBoot/state", "one of Enabled, Disabled")}},
		{"abort after a step", with("2023-07-01", `"errorHandling": {"onCustomizerError": "abort", "onValidationError": "Cleanup"}`), nil},
		{"abort after a validation", with("2023-07-01", `"errorHandling": {"onValidationError": "abort"}, "validate": {"inVMValidations": [{"type": "Shell", "inline": ["true"]}]}`),
			[]want{notYet("/properties/errorHandling/onValidationError", "the machine of a failed validation is removed")}},
		{"abort without a validation", with("2023-07-01", `"errorHandling": {"onValidationError": "abort"}`), nil},
		{"unknown error handling", with("2024-02-01", `"errorHandling": {"onCustomizerError": "Cleanup"}`),
			[]want{failure("/properties/errorHandling/onCustomizerError", "write cleanup: from API version 2024-02-01 on case counts")}},
		{"staging group", with("2022-02-14", `"stagingResourceGroup": "subscriptions/s/resourceGroups/mine"`), nil},
		{"staging group by name", with("2022-02-14", `"stagingResourceGroup": "mine"`), []want{
			{SeverityError, arm.CodeInvalidResourceID, "/properties/stagingResourceGroup", "the id of a resource group"}}},
		{"staging group of another type", with("2022-02-14", `"stagingResourceGroup": "`+imageID+`"`), []want{
			failure("/properties/stagingResourceGroup", "the id of a resource group")}},
		{"empty staging group", with("2022-02-14", `"stagingResourceGroup": ""`), nil},
		{"automatic run", with("2024-02-01", `"autoRun": {"state": "Enabled"}, "managedResourceTags": {"a": "b"}`), nil},
		{"automatic run before its time", with("2023-07-01", `"autoRun": {"state": "Enabled"}`), []want{warning("/properties/autoRun", "it came with API version 2024-02-01")}},
		{"data disks", with("2025-10-01", `"additionalDataDisks": [{"sizeGB": 10}]`), []want{notYet("/properties/additionalDataDisks", "data disks are not attached")}},
		{"no data disks", with("2025-10-01", `"additionalDataDisks": []`), nil},
		{"bad data disk", with("2025-10-01", `"additionalDataDisks": [{"sizeGB": -1}]`), []want{
			notYet("/properties/additionalDataDisks", "data disks are not attached"),
			failure("/properties/additionalDataDisks/0/sizeGB", "it must be at least 0")}},
	})
}

func TestIdentityRules(t *testing.T) {
	const at = "/identity"
	with := func(version, identity string) draft { return draft{version: version, identity: identity} }
	user := func(ids string) string {
		return `{"type": "UserAssigned", "userAssignedIdentities": {` + ids + `}}`
	}
	runRules(t, []ruleCase{
		{"optional", with("2019-05-01-preview", "-"), nil},
		{"before its time", with("2019-02-01-preview", user(`"x": {}`)), []want{warning(at, "it came with API version 2019-05-01-preview")}},
		{"required", with("2020-02-14", "-"), []want{failure("", "Validation failed: 'ImageTemplate': Missing field 'identity'. Please review http://aka.ms/azvmimagebuildertmplref for details on fields required in the Image Builder Template.")}},
		{"required, strict", with("2024-02-01", "-"), []want{failure("", "Missing field 'identity'")}},
		{"null", with("2020-02-14", "null"), []want{failure("", "Missing field 'identity'")}},
		{"no type", with("2020-02-14", `{}`), []want{failure(at, "'ImageTemplate.identity': Missing field 'type'")}},
		{"no ids", with("2020-02-14", user("")), []want{failure(at, "Missing field 'userAssignedIdentities'")}},
		{"system", with("2020-02-14", `{"type": "SystemAssigned"}`), []want{failure(at+"/type", "one of UserAssigned, None")}},
		{"none", with("2020-02-14", `{"type": "None"}`), []want{failure(at+"/type", "Managed identity is required for building this template using current API version")}},
		{"none in 2019", with("2019-05-01-preview", `{"type": "None"}`), nil},
		{"none with ids", with("2019-05-01-preview", `{"type": "None", "userAssignedIdentities": {"`+identityID+`": {}}}`),
			[]want{failure(at+"/userAssignedIdentities", "has no userAssignedIdentities")}},
		{"two", with("2022-07-01", user(`"`+identityID+`": {}, "`+identityID+`2": {}`)),
			[]want{failure(at+"/userAssignedIdentities/~1subscriptions~1s~1resourceGroups~1g~1providers~1Microsoft.ManagedIdentity~1userAssignedIdentities~1builder2", "at most one user-assigned identity")}},
		{"not an id", with("2022-07-01", user(`"builder": {}`)), []want{{SeverityError, arm.CodeInvalidResourceID, at + "/userAssignedIdentities/builder",
			"'ImageTemplate.identity': Field 'userAssignedIdentities' has a bad value: 'builder'"}}},
		{"another type", with("2022-07-01", user(`"/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/images/x": null`)), []want{failure(
			at+"/userAssignedIdentities/~1subscriptions~1s~1resourceGroups~1g~1providers~1Microsoft.Compute~1images~1x", "Microsoft.ManagedIdentity/userAssignedIdentities")}},
		{"any case", with("2024-02-01", user(`"/subscriptions/s/resourcegroups/g/providers/microsoft.managedidentity/userassignedidentities/x": {}`)), nil},
		{"filled by the service", with("2024-02-01", user(`"`+identityID+`": {"principalId": "p", "clientId": "c"}`)), []want{
			warning(at+"/userAssignedIdentities/~1subscriptions~1s~1resourceGroups~1g~1providers~1Microsoft.ManagedIdentity~1userAssignedIdentities~1builder/principalId", "read-only"),
			warning(at+"/userAssignedIdentities/~1subscriptions~1s~1resourceGroups~1g~1providers~1Microsoft.ManagedIdentity~1userAssignedIdentities~1builder/clientId", "read-only")}},
	})
}

func TestBodyValues(t *testing.T) {
	group, err := arm.ParseID("/subscriptions/s/resourceGroups/mine")
	if err != nil {
		t.Fatal(err)
	}
	r := draft{version: "2025-10-01", top: `, "name": "web", "tags": {"A": "b"}`, properties: `,
"buildTimeoutInMinutes": 80,
"optimize": {"vmBoot": {"state": "Enabled"}, "workload": {"state": "Enabled", "scriptUri": "x.sh", "sha256Checksum": "` + sum + `"}},
"validate": {"continueDistributeOnFailure": true, "sourceValidationOnly": true, "inVMValidations": [{"type": "Shell", "inline": ["true"]}]},
"errorHandling": {"onValidationError": "abort"},
"vmProfile": {"vmSize": "Standard_D2s_v3", "osDiskSizeGB": 64, "userAssignedIdentities": ["` + identityID + `"],
  "vnetConfig": {"subnetId": "` + subnetID + `", "containerInstanceSubnetId": "` + subnetID + `2"}},
"additionalDataDisks": [{"sizeGB": 10}, {}],
"stagingResourceGroup": "subscriptions/s/resourceGroups/mine",
"autoRun": {"state": "Enabled"},
"managedResourceTags": {"C": "d"}`}.parse()
	if r.Template == nil {
		t.Fatalf("no template:\n%s", brief(r.Problems))
	}
	want := &Template{
		APIVersion: "2025-10-01", Name: "web", Location: "west", Tags: map[string]string{"A": "b"},
		Identity: &Identity{Type: "UserAssigned", UserAssigned: []string{identityID}},
		Source:   Source{Type: PlatformImage, Publisher: "Debian", Offer: "debian-12", SKU: "12-gen2", Version: "latest"},
		Optimize: &Optimize{VMBoot: true, Workload: true, WorkloadScript: "x.sh", WorkloadSHA256: sum},
		Validate: &Validate{ContinueDistributeOnFailure: true, SourceValidationOnly: true,
			InVM: []Customizer{{Type: Shell, Pointer: "/properties/validate/inVMValidations/0", Inline: []string{"true"}}}},
		Distribute:    []Distributor{{Type: ToManagedImage, Pointer: "/properties/distribute/0", RunOutputName: "out", ImageID: imageID, Location: "west"}},
		ErrorHandling: ErrorHandling{OnCustomizerError: Cleanup, OnValidationError: Abort},
		BuildTimeout:  80 * time.Minute,
		VMProfile: VMProfile{Size: "Standard_D2s_v3", OSDiskSizeGB: 64, Identities: []string{identityID},
			VNet: &VNet{SubnetID: subnetID, ContainerSubnetID: subnetID + "2", Pointer: "/properties/vmProfile/vnetConfig"}},
		DataDisks: []DataDisk{{10}, {0}}, StagingGroup: &group, AutoRun: true,
		ManagedResourceTags: map[string]string{"C": "d"},
	}
	if d := cmp.Diff(want, r.Template, sameID); d != "" {
		t.Errorf("template (-want +got):\n%s", d)
	}
}
