package imagetemplate

import (
	"strings"
	"time"

	"goldsmith/internal/arm"
)

// defaultBuildTimeout is what buildTimeoutInMinutes 0 means.
const defaultBuildTimeout = 240 * time.Minute

// template makes the Template of a body that the tables were applied to, and
// checks the rules that no table can state.
func (r *reader) template(top *members) *Template {
	if top == nil {
		return nil
	}
	r.resourceType(top)
	properties := top.object("properties")
	t := &Template{
		APIVersion:          r.version.String(),
		Name:                top.text("name"),
		Location:            top.text("location"),
		Tags:                top.textMap("tags"),
		Identity:            r.identity(top),
		Source:              r.source(properties.object("source")),
		Optimize:            r.optimize(properties.object("optimize")),
		Validate:            r.validate(properties.object("validate")),
		Distribute:          r.distributors(properties.objects("distribute")),
		ErrorHandling:       errorHandling(properties.object("errorHandling")),
		BuildTimeout:        r.buildTimeout(properties),
		VMProfile:           r.vmProfile(properties),
		StagingGroup:        r.stagingGroup(properties),
		AutoRun:             properties.object("autoRun").text("state") == "Enabled",
		ManagedResourceTags: properties.textMap("managedResourceTags"),
	}
	for _, m := range properties.objects("customize") {
		t.Customize = append(t.Customize, r.step(m))
	}
	for _, m := range properties.objects("additionalDataDisks") {
		t.DataDisks = append(t.DataDisks, DataDisk{SizeGB: m.number("sizeGB", 0)})
	}
	r.executable(properties)
	return t
}

// resourceType checks the "type" that a file may carry.
func (r *reader) resourceType(top *members) {
	const full, short = "Microsoft.VirtualMachineImages/imageTemplates", "Microsoft.VirtualMachineImages"
	v := top.get("type")
	if v.empty() || v.open || strings.EqualFold(v.text, full) {
		return
	}
	if strings.EqualFold(v.text, short) && !r.version.strict() {
		return
	}
	r.report.bad(v.at, v.text, "the type of an image template is %s", full)
}

func errorHandling(m *members) ErrorHandling {
	return ErrorHandling{
		OnCustomizerError: OnError(m.textOr("onCustomizerError", string(Cleanup))),
		OnValidationError: OnError(m.textOr("onValidationError", string(Cleanup))),
	}
}

// buildTimeout is buildTimeoutInMinutes with its default.
func (r *reader) buildTimeout(properties *members) time.Duration {
	minutes := properties.number("buildTimeoutInMinutes", 0)
	if minutes == 0 {
		return defaultBuildTimeout
	}
	if minutes <= 5 {
		r.report.fail(properties.place("buildTimeoutInMinutes"), arm.CodeValidationFailed,
			"client_jwt will expire within 5 minutes, please use a JWT that is valid for at least 5 minutes.%s",
			because("buildTimeoutInMinutes must be 0 or between 6 and 960"))
	}
	return time.Duration(minutes) * time.Minute
}

// optimize is nil when the template asks for none.
func (r *reader) optimize(m *members) *Optimize {
	if m == nil {
		return nil
	}
	workload := m.object("workload")
	o := &Optimize{
		VMBoot:         m.object("vmBoot").text("state") == "Enabled",
		Workload:       workload.text("state") == "Enabled",
		WorkloadScript: r.artifact(workload, "scriptUri"),
		WorkloadSHA256: r.checksum(workload, "scriptUri"),
	}
	return o
}

// stagingGroup is the group that the template names, with or without its
// leading slash.
func (r *reader) stagingGroup(properties *members) *arm.ID {
	v := properties.get("stagingResourceGroup")
	if v.empty() || v.open {
		return nil
	}
	id, err := arm.ParseID(v.text)
	if err != nil {
		r.report.badCode(v.at, arm.CodeInvalidResourceID, v.text,
			"it must be the id of a resource group, /subscriptions/SUBSCRIPTION/resourceGroups/NAME")
		return nil
	}
	if !id.IsType("Microsoft.Resources/resourceGroups") || strings.HasSuffix(v.text, "/") {
		r.report.bad(v.at, v.text, "it must be the id of a resource group, /subscriptions/SUBSCRIPTION/resourceGroups/NAME")
		return nil
	}
	return &id
}
