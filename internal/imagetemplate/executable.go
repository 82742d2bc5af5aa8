package imagetemplate

// executable warns about everything a valid body asks for that a build cannot
// carry out yet, so that nothing accepted is silently skipped. autoRun is not
// among them: a local build is the run that it asks for.
func (r *reader) executable(properties *members) {
	r.executableSource(properties.object("source"))
	for _, m := range properties.objects("customize") {
		if t := StepType(m.variant); t.Windows() {
			r.notExecutable(m.at, "a %s customizer needs a Windows machine, and Windows is not built yet", t)
		}
	}
	for _, key := range []string{"vmBoot", "workload"} {
		if m := properties.object("optimize").object(key); m.text("state") == "Enabled" {
			r.notExecutable(m.place("state"), "optimize.%s is not carried out yet", key)
		}
	}
	if m := properties.object("validate"); m.given("inVMValidations") || m.flag("sourceValidationOnly") {
		r.notExecutable(m.at, "the validations of properties.validate are not carried out yet")
	}
	if properties.given("additionalDataDisks") {
		r.notExecutable(properties.place("additionalDataDisks"), "additional data disks are not attached yet")
	}
	if properties.given("stagingResourceGroup") {
		r.notExecutable(properties.place("stagingResourceGroup"), "a staging group of one's own is not used yet")
	}
	for _, key := range []string{"onCustomizerError", "onValidationError"} {
		if m := properties.object("errorHandling"); m.text(key) == string(Abort) {
			r.notExecutable(m.place(key), "errorHandling.%s abort is not carried out yet: machines are always cleaned up", key)
		}
	}
	r.executableNetwork(properties)
	for _, m := range properties.objects("distribute") {
		if m.text("replicationMode") == "Shallow" {
			r.notExecutable(m.place("replicationMode"), "shallow replication is not carried out yet")
		}
		if DistributeType(m.variant) == ToVHD && m.given("uri") {
			r.notExecutable(m.place("uri"), "a VHD is published in the staging storage account only, not at a uri yet")
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
			r.notExecutable(m.place("imageVersionId"), "images of galleries shared by others are not found yet")
		}
	case ISO:
		r.notExecutable(m.at, "a build from an ISO is not carried out yet")
	}
}

func (r *reader) executableNetwork(properties *members) {
	profile := properties.object("vmProfile")
	if profile.given("userAssignedIdentities") {
		r.notExecutable(profile.place("userAssignedIdentities"), "the build machine is not given identities yet")
	}
	for _, v := range []*value{
		profile.get("vnetConfig"), profile.get("VirtualNetworkConfig"), properties.get("VirtualNetworkConfig"),
	} {
		if v != nil && (v.object.given("subnetId") || v.object.given("name")) {
			r.notExecutable(v.at, "a build on a network of one's own (%s) is not carried out yet", v.at.field)
		}
	}
}

func (r *reader) notExecutable(at place, format string, args ...any) {
	r.report.notExecutable(at, format, args...)
}
