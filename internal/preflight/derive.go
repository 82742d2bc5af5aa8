package preflight

import (
	"fmt"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/plan"
)

// Actions that a template needs.
const (
	imageRead    = "Microsoft.Compute/images/read"
	imageWrite   = "Microsoft.Compute/images/write"
	imageDelete  = "Microsoft.Compute/images/delete"
	galleryRead  = "Microsoft.Compute/galleries/read"
	galleryImage = "Microsoft.Compute/galleries/images/read"
	versionRead  = "Microsoft.Compute/galleries/images/versions/read"
	versionWrite = "Microsoft.Compute/galleries/images/versions/write"
	networkRead  = "Microsoft.Network/virtualNetworks/read"
	subnetJoin   = "Microsoft.Network/virtualNetworks/subnets/join/action"
	diskWrite    = "Microsoft.Compute/disks/write"
	identityUse  = "Microsoft.ManagedIdentity/userAssignedIdentities/assign/action"
	groupWrite   = "Microsoft.Resources/subscriptions/resourceGroups/write"
	templatePut  = "Microsoft.VirtualMachineImages/imageTemplates/write"

	// BlobRead and BlobWrite are data actions on a container or a blob.
	BlobRead      = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read"
	BlobWriteData = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write"
)

// stagingActions stand for Contributor on a staging group that the template
// names.
var stagingActions = []string{
	"Microsoft.Storage/storageAccounts/write", "Microsoft.Compute/virtualMachines/write",
	diskWrite, "Microsoft.Network/networkInterfaces/write",
}

// derivation gathers the needs of one template.
type derivation struct {
	t       *imagetemplate.Template
	env     Env
	service bool      // the service principal does the work
	worker  Principal // who does it
	needs   []Need
}

// Needs is every right that submitting and running t needs besides the staging
// right, in the order of the template. An id that does not parse is left out:
// parsing the template has found it.
func Needs(t *imagetemplate.Template, env Env) []Need {
	d := &derivation{t: t, env: env, service: ByService(t.APIVersion), worker: TemplateIdentity(t, env)}
	if d.service {
		d.worker = ServicePrincipal()
	}
	d.submission()
	if !env.OtherSource {
		d.source()
	}
	d.artifacts()
	d.network()
	d.buildIdentities()
	d.stagingGroup()
	for _, target := range t.Distribute {
		d.target(target, target.Pointer)
	}
	return d.needs
}

func (d *derivation) add(p Principal, purpose Purpose, phase Phase, scope, grant, why, pointer string, actions ...string) {
	for _, a := range actions {
		d.needs = append(d.needs, Need{
			Principal: p, Action: a, Data: a == BlobRead || a == BlobWriteData, Scope: scope, Grant: grant,
			Phase: phase, Purpose: purpose, Why: why, Pointer: pointer,
		})
	}
}

// submission is what the person who submits needs.
func (d *derivation) submission() {
	if d.env.Caller == nil {
		return
	}
	group := arm.GroupID(d.env.Subscription, d.env.Group)
	scope := arm.ResourceID(d.env.Subscription, d.env.Group, "Microsoft.VirtualMachineImages/imageTemplates", d.env.Name)
	d.add(*d.env.Caller, Submit, AtSubmit, scope, group, "submit the template", "", templatePut)
	if id := TemplateIdentity(d.t, d.env).ID; id != "" {
		d.add(*d.env.Caller, Identities, AtSubmit, id, id, "give the template its identity", "/identity/userAssignedIdentities", identityUse)
	}
}

// source is reading what the build starts from. The document's list for a
// managed image names only galleries/read while its prose asks for reader rights
// on the group, so the service principal needs images/read too.
func (d *derivation) source() {
	const pointer = "/properties/source"
	id, err := arm.ParseID(d.t.Source.ImageID)
	if err != nil || id.Group == "" {
		return // a platform image, or a gallery that others share
	}
	group := id.GroupID()
	switch d.t.Source.Type {
	case imagetemplate.ManagedImage:
		const why, at = "read the source image", pointer + "/imageId"
		d.add(d.worker, Source, Always, id.String(), group, why, at, imageRead)
		if d.service {
			d.add(d.worker, Source, Always, group, group, why, at, galleryRead)
		}
	case imagetemplate.SharedImageVersion:
		d.gallery(id, Source, "read the source gallery version", pointer+"/imageVersionId", versionRead)
	}
}

// gallery is reading a gallery and an image definition, and what is done with
// the versions of it.
func (d *derivation) gallery(id arm.ID, purpose Purpose, why, pointer string, versions ...string) {
	definition, version := id, id
	if id.IsType("Microsoft.Compute/galleries/images/versions") {
		definition, _ = id.Parent()
	}
	gallery, ok := definition.Parent()
	if !ok {
		return
	}
	if strings.EqualFold(version.Name, "latest") { // whichever that is
		version = definition
	}
	group := id.GroupID()
	d.add(d.worker, purpose, Always, gallery.String(), group, why, pointer, galleryRead)
	d.add(d.worker, purpose, Always, definition.String(), group, why, pointer, galleryImage)
	d.add(d.worker, purpose, Always, version.String(), group, why, pointer, versions...)
}

// artifacts is reading scripts and files in storage accounts of ours. They are
// frozen at submission.
func (d *derivation) artifacts() {
	if d.env.Blob == nil {
		return
	}
	identity := TemplateIdentity(d.t, d.env)
	seen := map[string]bool{}
	for _, ref := range plan.Artifacts(d.t) {
		b, ours := d.env.Blob(ref.URI)
		if !ours || b.Open {
			continue
		}
		scope := b.Account + "/blobServices/default/containers/" + b.Container
		if seen[strings.ToLower(scope)+ref.Pointer] {
			continue
		}
		seen[strings.ToLower(scope)+ref.Pointer] = true
		d.add(identity, Blobs, AtSubmit, scope, scope, "read "+withoutQuery(ref.URI), ref.Pointer, BlobRead)
	}
}

// withoutQuery is an address without what may be secret in it.
func withoutQuery(uri string) string {
	uri, _, _ = strings.Cut(uri, "?")
	return uri
}

// network is joining the user's own network.
func (d *derivation) network() {
	v := d.t.VMProfile.VNet
	if v == nil {
		return
	}
	pointer, subnet, containers := v.Pointer, v.SubnetID, v.ContainerSubnetID
	if v.ByName != nil {
		if v.ByName.Name == "" {
			return
		}
		group := v.ByName.Group
		if group == "" {
			group = d.env.Group
		}
		subnet = arm.ResourceID(d.env.Subscription, group, "Microsoft.Network/virtualNetworks/subnets", v.ByName.Name, v.ByName.Subnet)
	}
	id, err := arm.ParseID(subnet)
	if err != nil {
		return
	}
	if n, ok := id.Parent(); ok {
		d.add(d.worker, Network, Always, n.String(), id.GroupID(), "look the virtual network up", pointer, networkRead)
	}
	d.add(d.worker, Network, Always, id.String(), id.GroupID(), "put the build machine into the subnet", pointer, subnetJoin)
	if c, err := arm.ParseID(containers); err == nil {
		d.add(d.worker, Network, Always, c.String(), c.GroupID(), "put the builder into the subnet", pointer+"/containerInstanceSubnetId", subnetJoin)
	}
}

// buildIdentities is giving identities to the build machine.
func (d *derivation) buildIdentities() {
	identity := TemplateIdentity(d.t, d.env)
	for i, id := range d.t.VMProfile.Identities {
		d.add(identity, Identities, Always, id, id, "give the build machine an identity",
			fmt.Sprintf("/properties/vmProfile/userAssignedIdentities/%d", i), identityUse)
	}
}

// stagingGroup is working in a staging group that the template names.
func (d *derivation) stagingGroup() {
	if d.t.StagingGroup == nil {
		return
	}
	const pointer = "/properties/stagingResourceGroup"
	group := d.t.StagingGroup.String()
	d.add(d.worker, Staging, Always, group, group, "work in the staging group", pointer, stagingActions...)
	if windows := hasWindowsSteps(d.t); windows && d.t.VMProfile.VNet != nil {
		d.add(ServicePrincipal(), Staging, Always, group, group, "make the proxy machine's disk", pointer, diskWrite)
	}
}

// hasWindowsSteps reports whether a template says that it builds Windows.
func hasWindowsSteps(t *imagetemplate.Template) bool {
	for _, c := range t.Customize {
		if c.Type.Windows() {
			return true
		}
	}
	return false
}

// target is publishing to one target. The document asks for the image actions
// at a gallery's resource group too.
func (d *derivation) target(target imagetemplate.Distributor, pointer string) {
	images := []string{imageWrite, imageRead, imageDelete}
	switch target.Type {
	case imagetemplate.ToManagedImage:
		id, err := arm.ParseID(target.ImageID)
		if err != nil {
			return
		}
		d.add(d.worker, Distribute, Always, id.String(), id.GroupID(), "publish the managed image", pointer+"/imageId", images...)
	case imagetemplate.ToSharedImage:
		id, err := arm.ParseID(target.GalleryImageID)
		if err != nil {
			return
		}
		const why = "publish the gallery version"
		at := pointer + "/galleryImageId"
		d.add(d.worker, Distribute, Always, id.GroupID(), id.GroupID(), why, at, images...)
		d.gallery(id, Distribute, why, at, versionRead, versionWrite)
	case imagetemplate.ToVHD:
		if target.URI == "" || d.env.Blob == nil {
			return
		}
		if b, ours := d.env.Blob(target.URI); ours && !b.Open {
			scope := b.Account + "/blobServices/default/containers/" + b.Container
			d.add(d.worker, BlobWrite, Always, scope, scope, "publish the VHD", pointer+"/uri", BlobWriteData)
		}
	}
}
