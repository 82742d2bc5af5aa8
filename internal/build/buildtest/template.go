package buildtest

import (
	"encoding/json"
	"maps"

	"goldsmith/internal/build"
	"goldsmith/internal/imagetemplate"
)

// Group is the resource group of the lab's templates, and Location their region.
const (
	Group    = "images"
	Location = "westus2"
)

// Object is a JSON object.
type Object = map[string]any

// Template is what of an image template tests vary.
type Template struct {
	Version    string   // API version, "" for 2022-07-01
	Source     Object   // nil for the lab's base
	Customize  []Object // nil for one step that says hello
	Distribute []Object // nil for a managed image
	VMProfile  Object
	Minutes    int    // buildTimeoutInMinutes
	Staging    string // stagingResourceGroup
	More       Object // further properties
}

// Shell is a customizer with inline commands.
func Shell(name string, lines ...string) Object {
	return Object{"type": "Shell", "name": name, "inline": lines}
}

// ShellURI is a customizer with a script to fetch; sha256 may be "".
func ShellURI(name, uri, sha256 string) Object {
	return Object{"type": "Shell", "name": name, "scriptUri": uri, "sha256Checksum": sha256}
}

// ID is the resource id of something in the lab's group.
func (l *Lab) ID(rest string) string {
	return "/subscriptions/" + l.Engine.Subscription() + "/resourceGroups/" + Group + "/providers/" + rest
}

// ToImage distributes to a managed image.
func (l *Lab) ToImage(name string) Object {
	return Object{"type": "ManagedImage", "runOutputName": name + "-out", "imageId": l.ID("Microsoft.Compute/images/" + name), "location": Location, "artifactTags": Object{"made": "here"}}
}

// ToGallery distributes to a gallery; rest follows the image definition's id, as
// "/versions/1.0.0" does, and more are further members.
func (l *Lab) ToGallery(definition, rest string, more Object) Object {
	o := Object{"type": "SharedImage", "runOutputName": definition + "-out", "galleryImageId": l.ID("Microsoft.Compute/galleries/gal/images/" + definition + rest), "replicationRegions": []string{Location}, "artifactTags": Object{}}
	for k, v := range more {
		o[k] = v
	}
	return o
}

// ToVHD distributes to a VHD.
func (l *Lab) ToVHD(name string) Object {
	return Object{"type": "VHD", "runOutputName": name + "-out", "artifactTags": Object{}}
}

// Request makes a request to build t under name.
func (l *Lab) Request(name string, t Template) build.Request {
	l.Helper()
	if t.Source == nil {
		t.Source = Object{"type": "PlatformImage", "publisher": Base.Publisher, "offer": Base.Offer, "sku": Base.SKU, "version": Base.Version}
	}
	if t.Customize == nil {
		t.Customize = []Object{Shell("hello", "echo hello")}
	}
	if t.Distribute == nil {
		t.Distribute = []Object{l.ToImage(name)}
	}
	properties := Object{"source": t.Source, "customize": t.Customize, "distribute": t.Distribute, "buildTimeoutInMinutes": t.Minutes}
	if t.VMProfile != nil {
		properties["vmProfile"] = t.VMProfile
	}
	if t.Staging != "" {
		properties["stagingResourceGroup"] = t.Staging
	}
	maps.Copy(properties, t.More)
	if t.Version == "" {
		t.Version = "2022-07-01"
	}
	body, err := json.Marshal(Object{
		"type":     "Microsoft.VirtualMachineImages/imageTemplates",
		"location": Location,
		"tags":     Object{"purpose": "test"},
		"identity": Object{"type": "UserAssigned", "userAssignedIdentities": Object{
			l.ID("Microsoft.ManagedIdentity/userAssignedIdentities/builder"): Object{},
		}},
		"properties": properties,
	})
	if err != nil {
		l.Fatal(err)
	}
	res := imagetemplate.Parse(body, imagetemplate.Options{APIVersion: t.Version})
	if res.Template == nil {
		l.Fatalf("the template is not valid: %+v", res.Problems)
	}
	return build.Request{Template: res, Name: name, Group: Group, Dir: l.Scratch, Create: true}
}
