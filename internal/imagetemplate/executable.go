package imagetemplate

import "fmt"

// executable warns about everything a valid body asks for that a build cannot
// carry out yet, so that nothing accepted is silently skipped. autoRun is not
// among them: a local build is the run that it asks for.
func (r *reader) executable(properties *members) {
	r.executableSource(properties.object("source"))
	for _, m := range properties.objects("customize") {
		if t := StepType(m.variant); t.Windows() {
			r.notExecutable(m.at, "%s needs a Windows machine", t)
		}
	}
	for _, key := range []string{"vmBoot", "workload"} {
		if m := properties.object("optimize").object(key); m.text("state") == "Enabled" {
			r.notExecutable(m.place("state"), "the image is not optimized after its customization")
		}
	}
	validate := properties.object("validate")
	if validate.flag("sourceValidationOnly") {
		r.notExecutable(validate.place("sourceValidationOnly"), "only what was built is validated")
	}
	for _, m := range validate.objects("inVMValidations") {
		if t := StepType(m.variant); t.Windows() {
			r.notExecutable(m.at, "%s needs a Windows machine", t)
		}
	}
	if properties.given("additionalDataDisks") {
		r.notExecutable(properties.place("additionalDataDisks"), "data disks are not attached")
	}
	if m := properties.object("errorHandling"); m.text("onValidationError") == string(Abort) && validate.given("inVMValidations") {
		r.notExecutable(m.place("onValidationError"), "the machine of a failed validation is removed")
	}
	for _, m := range properties.objects("distribute") {
		if m.text("replicationMode") == "Shallow" {
			r.notExecutable(m.place("replicationMode"), "images are replicated in full")
		}
		if DistributeType(m.variant) == ToVHD && m.given("uri") {
			r.notExecutable(m.place("uri"), "a VHD is published in the staging storage account only")
		}
	}
}

func (r *reader) executableSource(m *members) {
	if m == nil {
		return
	}
	switch SourceType(m.variant) {
	case PlatformImage:
		if m.given("planInfo") {
			r.report.warn(m.place("planInfo"), "the plan is recorded; nothing is purchased or accepted here")
		}
	case SharedImageVersion:
		if directShared.MatchString(m.text("imageVersionId")) {
			r.notExecutable(m.place("imageVersionId"), "galleries that others share are not searched")
		}
	case ISO:
		r.notExecutable(m.at, "an ISO is not installed from")
	}
}

// notExecutable warns that what stands at a place cannot be built yet.
func (r *reader) notExecutable(at place, format string, args ...any) {
	r.report.notExecutable(at, "'%s' cannot be built yet: %s", at.path(), fmt.Sprintf(format, args...))
}
