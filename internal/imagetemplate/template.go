// Package imagetemplate turns the bytes of an image template, of any API
// version, into one typed Template, or into a list of everything wrong with it.
// It is pure: no I/O, no clock.
package imagetemplate

import (
	"time"

	"goldsmith/internal/arm"
)

// Template is an image template after defaults, the same type for every API
// version. Fields that a version does not have are at their zero value.
type Template struct {
	APIVersion string
	Name       string // from the file's "name"; "" when absent
	Location   string
	Tags       map[string]string
	Identity   *Identity

	Source              Source
	Customize           []Customizer
	Optimize            *Optimize
	Validate            *Validate
	Distribute          []Distributor
	ErrorHandling       ErrorHandling
	BuildTimeout        time.Duration // never 0: 4 h when the template says 0 or nothing
	VMProfile           VMProfile
	DataDisks           []DataDisk
	StagingGroup        *arm.ID // nil: made by the service
	AutoRun             bool
	ManagedResourceTags map[string]string
}

// Identity is the template's managed identity.
type Identity struct {
	Type         string // "UserAssigned" or "None"
	UserAssigned []string
}

// SourceType is source.type.
type SourceType string

// Source types, spelled as from 2019-02-01-preview on.
const (
	PlatformImage      SourceType = "PlatformImage"
	ManagedImage       SourceType = "ManagedImage"
	SharedImageVersion SourceType = "SharedImageVersion"
	ISO                SourceType = "ISO" // up to 2019-05-01-preview
)

// Source is what the build starts from.
type Source struct {
	Type SourceType
	// PlatformImage:
	Publisher, Offer, SKU, Version string
	Plan                           *Plan
	// ManagedImage (imageId) and SharedImageVersion (imageVersionId):
	ImageID string
	// ISO:
	URI    string
	SHA256 string
	// ExactVersion as it was sent; the service fills it.
	ExactVersion string
}

// Plan is the marketplace plan of a platform image.
type Plan struct{ Name, Product, Publisher string }

// StepType is the type of a customizer or validator.
type StepType string

// Customizer and validator types, spelled as from 2019-02-01-preview on.
const (
	Shell          StepType = "Shell"
	PowerShell     StepType = "PowerShell"
	File           StepType = "File"
	WindowsRestart StepType = "WindowsRestart"
	WindowsUpdate  StepType = "WindowsUpdate"
)

// Windows reports whether the type runs only on Windows.
func (t StepType) Windows() bool {
	return t == PowerShell || t == WindowsRestart || t == WindowsUpdate
}

// Customizer is one step of customize[] or of validate.inVMValidations[].
type Customizer struct {
	Type    StepType
	Name    string
	Pointer string // JSON pointer of the step in the file
	// Shell, PowerShell:
	Inline    []string
	ScriptURI string
	// File:
	SourceURI   string
	Destination string
	// ScriptURI and SourceURI: lower-case hex, "" unchecked.
	SHA256 string
	// PowerShell:
	RunElevated, RunAsSystem bool
	ValidExitCodes           []int
	// WindowsRestart:
	RestartCommand, RestartCheckCommand string
	RestartTimeout                      time.Duration
	// WindowsUpdate:
	SearchCriteria string
	Filters        []string
	UpdateLimit    int
}

// Optimize is properties.optimize.
type Optimize struct {
	VMBoot         bool
	Workload       bool
	WorkloadScript string
	WorkloadSHA256 string
}

// Validate is properties.validate.
type Validate struct {
	ContinueDistributeOnFailure bool
	SourceValidationOnly        bool
	InVM                        []Customizer
}

// DistributeType is distribute[].type.
type DistributeType string

// Distributor types, spelled as from 2019-02-01-preview on.
const (
	ToManagedImage DistributeType = "ManagedImage"
	ToSharedImage  DistributeType = "SharedImage"
	ToVHD          DistributeType = "VHD"
)

// Distributor is one target of distribute[].
type Distributor struct {
	Type          DistributeType
	Pointer       string // JSON pointer of the target in the file
	RunOutputName string
	ArtifactTags  map[string]string
	// ManagedImage: imageId and location.
	ImageID  string
	Location string
	// SharedImage: an image definition's id, or with /versions/x.y.z.
	GalleryImageID    string
	Regions           []TargetRegion // replicationRegions and targetRegions alike
	ExcludeFromLatest bool
	Versioning        *Versioning
	Shallow           bool // replicationMode Shallow
	// VHD: where to put the blob; "" for the staging account.
	URI string
}

// TargetRegion is where a gallery version is replicated to.
type TargetRegion struct {
	Name        string
	Replicas    int    // at least 1
	StorageType string // Standard_LRS, Standard_ZRS, Premium_LRS
}

// Versioning is distribute[].versioning.
type Versioning struct {
	Scheme string // "Latest" or "Source"
	Major  int    // -1: the highest existing major
}

// OnError is what happens to the build VM after a failure.
type OnError string

// Values of errorHandling.
const (
	Cleanup OnError = "cleanup"
	Abort   OnError = "abort" // keep the VM
)

// ErrorHandling is properties.errorHandling; both default to Cleanup.
type ErrorHandling struct {
	OnCustomizerError OnError
	OnValidationError OnError
}

// VMProfile is properties.vmProfile.
type VMProfile struct {
	Size         string // "" for the service's default
	OSDiskSizeGB int    // 0: as the source
	Identities   []string
	VNet         *VNet
}

// VNet is the user's network to build on. ByName is set from the networking
// document's {name, subnetName, resourceGroupName}; SubnetID otherwise.
type VNet struct {
	SubnetID          string
	ContainerSubnetID string
	ProxyVMSize       string
	ByName            *VNetName
	Pointer           string // JSON pointer of the network in the file
}

// VNetName is a virtual network of the template's subscription, by name
// (2019-05-01-preview only).
type VNetName struct{ Name, Subnet, Group string }

// DataDisk is one of additionalDataDisks[].
type DataDisk struct{ SizeGB int }

// Severity says whether a Problem stops.
type Severity string

// Severities.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Problem is one thing wrong with a template.
type Problem struct {
	Severity Severity `json:"severity"`
	Code     arm.Code `json:"code"`
	Pointer  string   `json:"pointer"`          // JSON pointer (RFC 6901) of the field
	Line     int      `json:"line,omitempty"`   // 1-based; 0 when unknown
	Column   int      `json:"column,omitempty"` // 1-based, in bytes
	Message  string   `json:"message"`          // the real service's words where it has them
	// NotExecutable marks a warning about something valid that the engine cannot
	// execute yet: validate shows it, build stops on it.
	NotExecutable bool `json:"notExecutable,omitempty"`
}

// Options of Parse.
type Options struct {
	// APIVersion overrides the file's apiVersion; needed when it has none.
	APIVersion string
	// Set fills <NAME> placeholders in strings and keys, where NAME is
	// [A-Za-z][A-Za-z0-9_-]*. Names are case-sensitive, as with sed. What is
	// filled in is not searched again. In commands (inline, restartCommand,
	// restartCheckCommand, searchCriteria, filters) angle brackets usually mean
	// something else: there only names of Set are filled, and none is demanded.
	Set map[string]string
	// Defaults fills placeholders that Set does not (the local subscription id),
	// but none in commands.
	Defaults map[string]string
	// AllowPlaceholders leaves an unfilled placeholder a warning (validate)
	// instead of an error (build).
	AllowPlaceholders bool
	// Service parses a body as the ARM front end receives it: the version is
	// APIVersion, from 2024-02-01 on "apiVersion" in the body is an error,
	// artifacts are http(s) addresses only, and placeholders and expressions of
	// deployment templates are plain text.
	Service bool
	// NoIdentity accepts an identity of type None in every version, as that of a
	// template that an update took its identity from.
	NoIdentity bool
}

// Result of Parse.
type Result struct {
	// Template is nil when a Problem of SeverityError was found.
	Template *Template
	// Problems are all findings, in file order.
	Problems []Problem
	// Body is the template with placeholders filled, as compact JSON: members in
	// file order in the file's spelling, without those that a later one of the
	// same name overrides. nil when the file is not a JSON object.
	Body []byte
}
