package imagetemplate

import "goldsmith/internal/arm"

const identityType = "Microsoft.ManagedIdentity/userAssignedIdentities"

// identity is as whom the template is built; nil when it is absent, which
// versions before 2020-02-14 allow.
func (r *reader) identity(top *members) *Identity {
	m := top.object("identity")
	if m == nil {
		return nil
	}
	out := &Identity{Type: m.text("type")}
	assigned := m.get("userAssignedIdentities")
	switch out.Type {
	case "None":
		if r.version >= v2020Feb && !r.noIdentity {
			r.report.fail(m.place("type"), arm.CodeValidationFailed,
				"Managed identity is required for building this template using current API version")
		}
		if m.given("userAssignedIdentities") {
			r.report.fail(assigned.at, arm.CodeValidationFailed,
				"identity of type None has no userAssignedIdentities: remove them, or make the type UserAssigned")
		}
		return out
	case "UserAssigned":
		if assigned == nil || len(assigned.entries) == 0 {
			r.report.missing(m.at, "userAssignedIdentities", "")
			return out
		}
	}
	if assigned == nil {
		return out
	}
	for i, e := range assigned.entries {
		if i > 0 {
			r.report.fail(e.at, arm.CodeValidationFailed,
				"an image template has at most one user-assigned identity, and this is number %d: remove it", i+1)
		}
		out.UserAssigned = append(out.UserAssigned, e.key)
		if !e.open {
			at := e.at
			at.field = "userAssignedIdentities"
			at.owner = m.at.path()
			r.id(at, e.key, identityType)
		}
	}
	return out
}

// id checks that text is the id of a resource of one of the types.
func (r *reader) id(at place, text string, types ...string) (arm.ID, bool) {
	example := "/subscriptions/SUBSCRIPTION/resourceGroups/GROUP/providers/" + exampleID[types[0]]
	id, err := arm.ParseID(text)
	if err != nil || text[0] != '/' {
		r.report.badCode(at, arm.CodeInvalidResourceID, text, "it must be a resource id, %s", example)
		return arm.ID{}, false
	}
	for _, t := range types {
		if id.IsType(t) && id.Group != "" && id.Name != "" && text[len(text)-1] != '/' {
			return id, true
		}
	}
	r.report.bad(at, text, "it must be the id of a resource of type %s, %s", types[0], example)
	return arm.ID{}, false
}

// exampleID shows the rest of an id, by its type.
var exampleID = map[string]string{
	identityType:       "Microsoft.ManagedIdentity/userAssignedIdentities/NAME",
	imageType:          "Microsoft.Compute/images/NAME",
	galleryImageType:   "Microsoft.Compute/galleries/GALLERY/images/DEFINITION",
	galleryVersionType: "Microsoft.Compute/galleries/GALLERY/images/DEFINITION/versions/1.2.3",
	subnetType:         "Microsoft.Network/virtualNetworks/NETWORK/subnets/SUBNET",
}
