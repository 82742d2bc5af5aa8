// Package plan turns a Template and what was resolved for it into an immutable
// Plan of digested steps: everything a run will do, decided before it starts.
// It is pure: no I/O, no clock, no randomness.
package plan

import (
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/machine"
)

// OS is the operating system family of a source.
type OS string

// Operating system families.
const (
	Linux   OS = "Linux"
	Windows OS = "Windows"
)

// Base is the resolved source of a build.
type Base struct {
	Image        string `json:"image"`      // content id in the image store
	Origin       string `json:"origin"`     // URN or resource id, for people
	OS           OS     `json:"os"`         // operating system family
	Generation   int    `json:"generation"` // 1 (BIOS) or 2 (UEFI)
	DiskBytes    int64  `json:"diskBytes"`  // virtual size of its disk
	ExactVersion string `json:"exactVersion"`
}

// Artifact is a script or file as it was frozen at submission.
type Artifact struct {
	URI    string `json:"uri"`
	SHA256 string `json:"sha256"` // lower-case hex of the content
	Size   int64  `json:"size"`   // bytes
}

// NetworkMode says what the build VM can reach; steps of different modes never
// share a layer.
type NetworkMode string

// NetworkPrivate is a network of the build's own with filtered egress.
const NetworkPrivate NetworkMode = "private"

// Inputs is what was resolved for a Template.
type Inputs struct {
	Base      Base
	Artifacts map[string]Artifact // by URI as the template writes it
	Host      Host
	Network   NetworkMode
	// Rules is a digest of what decides what the machine reaches on an existing
	// network; "" without one.
	Rules string
	// Egress is what the machine may reach beyond the policy, in one form; "" for
	// nothing.
	Egress string
	// Identities are those of the machine, in one form and order; nil for none.
	Identities []string
	// Tenant is whose templates may share layers with this one.
	Tenant string
	// Values are the run's parameters and secrets, by name.
	Values map[string]Value
	// Texts are the contents of frozen scripts by digest, as far as they may use
	// Values.
	Texts map[string]string
	// Seed and Settings are digests of what the builder itself puts into the
	// guest: at its first boot (helper, build user), and for one build (proxies,
	// certificates).
	Seed, Settings string
}

// Plan is what a run does, in order.
type Plan struct {
	Name       string        `json:"name"` // template name
	Location   string        `json:"location"`
	Base       Base          `json:"base"`
	Shape      machine.Shape `json:"shape"`
	DiskBytes  int64         `json:"diskBytes"` // virtual size of the result's disk
	Network    NetworkMode   `json:"network"`
	Rules      string        `json:"rules,omitempty"`
	Egress     string        `json:"egress,omitempty"`
	Identities []string      `json:"identities,omitempty"`
	Tenant     string        `json:"tenant,omitempty"`
	Seed       string        `json:"seed"`
	Settings   string        `json:"settings"`
	Steps      []Step        `json:"steps"`
	// Validations run in a machine booted from the finished image; they are in no
	// key.
	Validations []Step        `json:"validations,omitempty"`
	Outputs     []Output      `json:"outputs"`
	Timeout     time.Duration `json:"timeout"`
}

// Step is one customizer or validation with everything it reads fixed.
type Step struct {
	Number      int                    `json:"number"` // 1-based position in customize[] or inVMValidations[]
	Name        string                 `json:"name"`   // the template's, or "Type N"
	Type        imagetemplate.StepType `json:"type"`
	Pointer     string                 `json:"pointer"`
	Inline      []string               `json:"inline,omitempty"`
	Artifact    *Artifact              `json:"artifact,omitempty"`
	Destination string                 `json:"destination,omitempty"` // File only
	// Values are the parameters and secrets that the step is given: those whose
	// names stand in its text.
	Values []Value `json:"values,omitempty"`
	// Reboot marks a boundary after which the guest has restarted, so that a disk
	// layer alone can be resumed.
	Reboot bool `json:"reboot,omitempty"`
}

// Output is one distribution target.
type Output = imagetemplate.Distributor

const gib = int64(1) << 30

// New makes the Plan of t. problems lists everything that stops it (code
// ValidationFailed or NotSupported, target a JSON pointer); warnings are
// sentences for the user. The Plan is nil when there are problems.
func New(t *imagetemplate.Template, in Inputs) (p *Plan, warnings []string, problems []*arm.Error) {
	p = &Plan{
		Name:       t.Name,
		Location:   t.Location,
		Base:       in.Base,
		DiskBytes:  in.Base.DiskBytes,
		Network:    in.Network,
		Rules:      in.Rules,
		Egress:     in.Egress,
		Identities: in.Identities,
		Tenant:     in.Tenant,
		Seed:       in.Seed,
		Settings:   in.Settings,
		Outputs:    t.Distribute,
		Timeout:    t.BuildTimeout,
	}
	fail := func(code arm.Code, pointer, format string, args ...any) {
		problems = append(problems, arm.Errorf(code, format, args...).At(pointer))
	}
	if in.Base.OS == Windows {
		fail(arm.CodeNotSupported, "/properties/source", "windows sources cannot be built yet: %s is a Windows image", in.Base.Origin)
	}

	size, warn, err := in.Host.Size(t.VMProfile.Size, in.Base.Generation)
	if err != nil {
		fail(arm.CodeValidationFailed, "/properties/vmProfile/vmSize", "%w", err)
	}
	if warn != "" {
		warnings = append(warnings, warn)
	}
	p.Shape = machine.Shape{CPUs: size.VCPUs, MemoryMiB: size.MemoryMiB, Firmware: machine.UEFI}
	if in.Base.Generation == 1 {
		p.Shape.Firmware = machine.BIOS
	}

	if want := int64(t.VMProfile.OSDiskSizeGB) * gib; want > 0 {
		if want < in.Base.DiskBytes {
			fail(arm.CodeValidationFailed, "/properties/vmProfile/osDiskSizeGB",
				"a disk can only grow: osDiskSizeGB is %d and the source's disk has %.1f GiB", t.VMProfile.OSDiskSizeGB, float64(in.Base.DiskBytes)/float64(gib))
		} else {
			p.DiskBytes = want
		}
	}

	for i, c := range t.Customize {
		step, errs := newStep(i+1, c, in)
		problems = append(problems, errs...)
		p.Steps = append(p.Steps, step)
	}
	if t.Validate != nil {
		for i, c := range t.Validate.InVM {
			step, errs := newStep(i+1, c, in)
			problems = append(problems, errs...)
			p.Validations = append(p.Validations, step)
		}
	}
	if len(problems) > 0 {
		return nil, warnings, problems
	}
	return p, warnings, nil
}
