// Package distribute publishes the result of a run: managed images, gallery
// versions and VHDs. All are references to one image in the image store; no
// content is copied within a location.
package distribute

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/plan"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

// Resource types that outputs are kept as.
const (
	TypeGroup      = "Microsoft.Resources/resourceGroups"
	TypeImage      = "Microsoft.Compute/images"
	TypeGallery    = "Microsoft.Compute/galleries"
	TypeDefinition = "Microsoft.Compute/galleries/images"
	TypeVersion    = "Microsoft.Compute/galleries/images/versions"
)

// Content is the Internal part of an image resource: where its bytes are.
type Content struct {
	Image      string  `json:"image"` // content id in the image store
	OS         plan.OS `json:"os"`
	Generation int     `json:"generation"`
	DiskBytes  int64   `json:"diskBytes"`
	Run        string  `json:"run,omitempty"` // run that made it
}

// Result is a captured image and where it came from.
type Result struct {
	Content
	Template      string // image template resource id
	SourceVersion string // version of the source, for versioning scheme Source; "" when it has none
}

// Blobs keeps VHD outputs.
type Blobs interface {
	// PutImage makes blob in container of account a view of a stored image as a
	// fixed VHD, and returns its URI.
	PutImage(ctx context.Context, account, container, blob, image string, diskBytes int64) (uri string, err error)
	// Locate splits a blob URI of this service's storage accounts.
	Locate(uri string) (account, container, blob string, err error)
}

// Replicator makes an image present in a location.
type Replicator interface {
	Replicate(ctx context.Context, image, location string) error
}

// Publisher publishes results.
type Publisher struct {
	Resources resource.Store
	Blobs     Blobs
	Locations Replicator
	Now       func() time.Time
}

// Publish publishes res to one target. stagingAccount is the storage account of
// the run's staging group, where a VHD without uri goes. The returned output is
// filled as far as it is known even on error.
func (p *Publisher) Publish(ctx context.Context, target plan.Output, res Result, stagingAccount string) (run.Output, error) {
	out := run.Output{Name: target.RunOutputName, Kind: string(target.Type)}
	var err error
	switch target.Type {
	case imagetemplate.ToManagedImage:
		out.ArtifactID, err = p.managedImage(ctx, target, res)
	case imagetemplate.ToSharedImage:
		out.ArtifactID, err = p.galleryVersion(ctx, target, res)
	case imagetemplate.ToVHD:
		out.ArtifactURI, err = p.vhd(ctx, target, res, stagingAccount)
	default:
		err = arm.Errorf(arm.CodeNotSupported, "%s is not a distributor type", target.Type)
	}
	if err != nil {
		err = fmt.Errorf("distribute %s %q: %w", target.Type, target.RunOutputName, err)
		out.Error = err.Error()
		return out, err
	}
	return out, nil
}

// vhd publishes to a blob.
func (p *Publisher) vhd(ctx context.Context, target plan.Output, res Result, stagingAccount string) (string, error) {
	account, container, blob := stagingAccount, "vhds", res.Run+".vhd"
	if target.URI != "" {
		var err error
		account, container, blob, err = p.Blobs.Locate(target.URI)
		if err != nil {
			return "", err
		}
		if blob == "" {
			blob = res.Run + ".vhd"
		}
	}
	return p.Blobs.PutImage(ctx, account, container, blob, res.Image, res.DiskBytes)
}

// managedImage publishes to a managed image, replacing one of the same id.
func (p *Publisher) managedImage(ctx context.Context, target plan.Output, res Result) (string, error) {
	id, err := arm.ParseID(target.ImageID)
	if err != nil {
		return "", err
	}
	if err := p.Locations.Replicate(ctx, res.Image, target.Location); err != nil {
		return "", err
	}
	props := map[string]any{
		"provisioningState": "Succeeded",
		"hyperVGeneration":  fmt.Sprintf("V%d", res.Generation),
		"storageProfile": map[string]any{
			"osDisk": map[string]any{
				"osType":             res.OS,
				"osState":            "Generalized",
				"diskSizeGB":         ceilGiB(res.DiskBytes),
				"caching":            "ReadWrite",
				"storageAccountType": "Standard_LRS",
			},
			"dataDisks":     []any{},
			"zoneResilient": false,
		},
	}
	return id.String(), p.put(ctx, id, TypeImage, target.Location, target.ArtifactTags, props, res.Content, resource.Condition{})
}

// put writes an image resource.
func (p *Publisher) put(ctx context.Context, id arm.ID, typ, location string, tags map[string]string, props any, content Content, cond resource.Condition) error {
	properties, err := json.Marshal(props)
	if err != nil {
		return fmt.Errorf("encode %s: %w", id, err)
	}
	internal, err := json.Marshal(content)
	if err != nil {
		return fmt.Errorf("encode %s: %w", id, err)
	}
	_, _, err = p.Resources.Put(ctx, resource.Record{
		ID: id.String(), Type: typ, Name: id.Name, Location: location, Tags: tags,
		Properties: properties, Internal: internal,
	}, cond)
	return err
}

// ceilGiB is bytes in GiB, rounded up.
func ceilGiB(bytes int64) int64 { return (bytes + 1<<30 - 1) >> 30 }

// ContentOf reads where the bytes of an image resource are.
func ContentOf(r resource.Record) (Content, error) {
	var c Content
	if err := json.Unmarshal(r.Internal, &c); err != nil || c.Image == "" {
		return c, arm.Errorf(arm.CodeCorrupt, "%s has no image content recorded: publish it again", r.ID)
	}
	return c, nil
}
