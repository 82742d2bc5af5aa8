package imagetemplate

import "regexp"

// The tables of what an image template may hold, per API version. A field
// without versions is in all of them.

// templateShape is the resource body.
var templateShape = &shape{"ImageTemplate", []field{
	text("location").needed(),
	textMap("tags"),
	object("identity", identityShape).versions(since(v2019May)).neededIn(since(v2020Feb)),
	object("properties", propertiesShape).needed().once(),
	text("name").matching(resourceName),
	text("type"),
	text("id").ignored(),
	newField("systemData", anyKind).versions(since(v2021Oct)).ignored(),
}}

var identityShape = &shape{"ImageTemplateIdentity", []field{
	text("type").needed().choices(choicesOf("UserAssigned", "None")...),
	objectMap("userAssignedIdentities", &shape{"UserAssignedIdentity", []field{
		text("principalId").ignored(),
		text("clientId").ignored(),
	}}),
}}

var propertiesShape = &shape{"ImageTemplateProperties", []field{
	oneOf("source", sourceUnion).needed(),
	manyOf("customize", customizerUnion),
	object("optimize", optimizeShape).versions(since(v2022Jul)),
	object("validate", validateShape).versions(since(v2022Feb)),
	manyOf("distribute", distributorUnion).needed(),
	object("errorHandling", errorHandlingShape).versions(since(v2023Jul)),
	integer("buildTimeoutInMinutes").versions(since(v2019May)).between(0, 960),
	object("vmProfile", vmProfileShape).versions(since(v2019May)).once(),
	object("VirtualNetworkConfig", vnetByNameShape).versions(span{v2019May, v2019May}).once(),
	objects("additionalDataDisks", &shape{"DataDisk", []field{
		integer("sizeGB").atLeast(0),
	}}).versions(since(v2025Oct)),
	text("stagingResourceGroup").versions(since(v2022Feb)),
	object("autoRun", &shape{"ImageTemplateAutoRun", []field{
		text("state").choices(enabledDisabled...),
	}}).versions(since(v2024Feb)),
	textMap("managedResourceTags").versions(since(v2024Feb)),
	text("exactStagingResourceGroup").versions(since(v2022Feb)).ignored(),
	newField("provisioningState", anyKind).ignored(),
	newField("provisioningError", anyKind).ignored(),
	newField("lastRunStatus", anyKind).ignored(),
}}

var enabledDisabled = choicesOf("Enabled", "Disabled")

// Sources.

var sourceUnion = &union{"type", "ImageTemplateSource", []variant{
	{string(PlatformImage), "", always, &shape{"ImageTemplatePlatformImageSource", []field{
		text("publisher").needed(),
		text("offer").needed(),
		text("sku").needed(),
		text("version").needed(),
		text("exactVersion").versions(since(v2021Oct)).ignored(),
		object("planInfo", &shape{"PlatformImagePurchasePlan", []field{
			text("planName").needed(),
			text("planProduct").needed(),
			text("planPublisher").needed(),
		}}).versions(since(v2020Feb)),
	}}},
	{string(ManagedImage), "", since(v2019Feb), &shape{"ImageTemplateManagedImageSource", []field{
		text("imageId").needed(),
	}}},
	{string(SharedImageVersion), "", since(v2019May), &shape{"ImageTemplateSharedImageVersionSource", []field{
		text("imageVersionId").needed(),
		text("exactVersion").versions(since(v2022Jul)).ignored(),
	}}},
	{string(ISO), "", until(v2019May), &shape{"ImageTemplateIsoSource", []field{
		text("sourceURI").as("sourceUri").versions(until(v2019Feb)).needed(),
		text("sourceUri").versions(since(v2019May)).needed(),
		text("sha256Checksum").needed(),
	}}},
}}

// Customizers and validators.

// scriptFields are the two ways to give a script. Before 2019-05-01-preview a
// script's address was "script", without a checksum.
var scriptFields = []field{
	text("script").as("scriptUri").versions(until(v2019Feb)),
	text("scriptUri").versions(since(v2019May)),
	text("sha256Checksum").versions(since(v2019May)),
	texts("inline").versions(since(v2019Feb)),
}

var powerShellFields = []field{
	boolean("runElevated").versions(since(v2019May)),
	boolean("runAsSystem").versions(since(v2020Feb)),
	ints("validExitCodes"),
}

var fileFields = []field{
	text("sourceUri").needed(),
	text("destination").needed(),
	text("sha256Checksum"),
}

var customizerUnion = &union{"type", "ImageTemplateCustomizer", []variant{
	{string(Shell), "shell", always, step("ImageTemplateShellCustomizer", scriptFields)},
	{string(PowerShell), "", since(v2019Feb), step("ImageTemplatePowerShellCustomizer", scriptFields, powerShellFields)},
	{string(File), "", since(v2019May), step("ImageTemplateFileCustomizer", fileFields)},
	{string(WindowsRestart), "", since(v2019Feb), step("ImageTemplateRestartCustomizer", []field{
		text("restartCommand"),
		text("restartCheckCommand"),
		text("restartTimeout"),
	})},
	{string(WindowsUpdate), "", since(v2020Feb), step("ImageTemplateWindowsUpdateCustomizer", []field{
		text("searchCriteria"),
		texts("filters"),
		integer("updateLimit").atLeast(0),
	})},
}}

var validatorUnion = &union{"type", "ImageTemplateInVMValidator", []variant{
	{string(Shell), "", always, step("ImageTemplateShellValidator", scriptFields)},
	{string(PowerShell), "", always, step("ImageTemplatePowerShellValidator", scriptFields, powerShellFields)},
	{string(File), "", since(v2022Jul), step("ImageTemplateFileValidator", fileFields)},
}}

func step(goName string, parts ...[]field) *shape {
	s := &shape{goName, []field{text("name")}}
	for _, p := range parts {
		s.fields = append(s.fields, p...)
	}
	return s
}

var validateShape = &shape{"ImageTemplatePropertiesValidate", []field{
	boolean("continueDistributeOnFailure"),
	boolean("sourceValidationOnly"),
	manyOf("inVMValidations", validatorUnion),
}}

var optimizeShape = &shape{"ImageTemplatePropertiesOptimize", []field{
	object("vmBoot", &shape{"ImageTemplatePropertiesOptimizeVMBoot", []field{
		text("state").choices(enabledDisabled...),
	}}),
	object("workload", &shape{"ImageTemplatePropertiesOptimizeWorkload", []field{
		text("state").choices(enabledDisabled...),
		text("scriptUri"),
		text("sha256Checksum"),
	}}).versions(since(v2025Oct)),
}}

var errorHandlingShape = &shape{"ImageTemplatePropertiesErrorHandling", []field{
	text("onCustomizerError").choices(choicesOf(string(Cleanup), string(Abort))...),
	text("onValidationError").choices(choicesOf(string(Cleanup), string(Abort))...),
}}

// Distributors.

var distributorUnion = &union{"type", "ImageTemplateDistributor", []variant{
	{string(ToManagedImage), "managedImage", always, distributor("ImageTemplateManagedImageDistributor",
		text("imageId").needed(),
		text("location").needed(),
	)},
	{string(ToSharedImage), "sharedImage", always, distributor("ImageTemplateSharedImageDistributor",
		text("galleryImageId").needed(),
		texts("replicationRegions").neededIn(until(v2022Feb)),
		boolean("excludeFromLatest").versions(since(v2020Feb)),
		text("storageAccountType").versions(since(v2020Feb)).choices(storageTypes...),
		objects("targetRegions", &shape{"TargetRegion", []field{
			text("name").needed(),
			integer("replicaCount").atLeast(1),
			text("storageAccountType").choices(storageTypes...),
		}}).versions(since(v2022Jul)),
		oneOf("versioning", versioningUnion).versions(since(v2022Jul)),
		text("replicationMode").versions(since(v2025Oct)).choices(choicesOf("Full", "Shallow")...),
	)},
	{string(ToVHD), "", since(v2019Feb), distributor("ImageTemplateVhdDistributor",
		text("uri").versions(since(v2022Jul)),
	)},
}}

func distributor(goName string, fields ...field) *shape {
	return &shape{goName, append([]field{
		text("runOutputName").needed().matching(resourceName),
		textMap("artifactTags"),
	}, fields...)}
}

var storageTypes = []choice{
	{"Standard_LRS", always},
	{"Standard_ZRS", always},
	{"Premium_LRS", since(v2022Jul)},
}

var versioningUnion = &union{"scheme", "DistributeVersioner", []variant{
	{"Latest", "", always, &shape{"DistributeVersionerLatest", []field{
		integer("major").atLeast(-1),
	}}},
	{"Source", "", always, &shape{"DistributeVersionerSource", nil}},
}}

// The build machine and its network.

var vmProfileShape = &shape{"ImageTemplateVMProfile", []field{
	text("vmSize"),
	integer("osDiskSizeGB").versions(since(v2020Feb)).atLeast(0),
	texts("userAssignedIdentities").versions(since(v2021Oct)),
	object("vnetConfig", vnetByNameShape).versions(span{v2019May, v2019May}).once(),
	object("VirtualNetworkConfig", vnetByNameShape).versions(span{v2019May, v2019May}).once(),
	object("vnetConfig", vnetShape).versions(since(v2020Feb)).once(),
}}

var vnetShape = &shape{"VirtualNetworkConfig", []field{
	text("subnetId"),
	text("containerInstanceSubnetId").versions(since(v2024Feb)),
	text("proxyVmSize").versions(since(v2021Oct)),
}}

// vnetByNameShape is the older way to name the user's network; the service took
// it in 2019-05-01-preview although no published schema has it.
var vnetByNameShape = &shape{"VirtualNetworkConfig", []field{
	text("name"),
	text("subnetName"),
	text("resourceGroupName"),
}}

var (
	nameBefore2019May = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)
	nameSince2019May  = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,64}$`)
)

// resourceName is the pattern of names of templates and run outputs.
func resourceName(v version) *regexp.Regexp {
	if v < v2019May {
		return nameBefore2019May
	}
	return nameSince2019May
}
