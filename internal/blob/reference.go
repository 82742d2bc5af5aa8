package blob

import (
	"context"
	"encoding/json"
	"io"

	"goldsmith/internal/arm"
)

// referenceType marked a blob that holds a Reference before there were records.
// Clients cannot set it.
const referenceType = "application/vnd.goldsmith.reference+json"

// maxReference bounds the stored form of a Reference, in bytes.
const maxReference = 4 << 10

// Reference makes a blob a view of an image: nothing is copied, and reading the
// blob renders the image.
type Reference struct {
	Format string `json:"format"` // disk format to render, e.g. "vhd"
	Image  string `json:"image"`  // digest of the image
	Size   int64  `json:"size"`   // bytes of the rendered content
}

// Renderer opens what a reference stands for.
type Renderer interface {
	// Render reads length bytes (-1: to the end) of the rendered image from offset
	// on, which is at most r.Size.
	Render(ctx context.Context, r Reference, offset, length int64) (io.ReadCloser, error)
}

// PutReference writes a reference blob. The image must be kept for as long as the
// blob is there; that is the caller's business.
func (a *Accounts) PutReference(ctx context.Context, n Name, ref Reference, ifNoneMatch bool) (Info, error) {
	return a.CopyReference(ctx, n, ref, PutOptions{IfNoneMatch: ifNoneMatch})
}

// CopyReference is PutReference with properties and a check.
func (a *Accounts) CopyReference(ctx context.Context, n Name, ref Reference, o PutOptions) (Info, error) {
	if ref.Format == "" || ref.Image == "" || ref.Size < 0 || len(ref.Format)+len(ref.Image) > maxReference {
		return Info{}, arm.Errorf(arm.CodeInternal, "a reference blob needs a format, an image and a size").At(n.Blob)
	}
	if err := n.Check(); err != nil {
		return Info{}, err
	}
	if err := checkType(n, &o.Properties); err != nil {
		return Info{}, err
	}
	return a.commit(ctx, n, o, false, func(record, []segment) (record, error) {
		return record{Properties: o.Properties, Size: ref.Size, Reference: &ref}, nil
	})
}

// readReference reads a reference as versions before records wrote it.
func (a *Accounts) readReference(ctx context.Context, n Name) (Reference, error) {
	r, err := a.bucket.NewRangeReader(ctx, blobKey(n), 0, maxReference, nil)
	if err != nil {
		return Reference{}, fault("read reference blob", n.Blob, err)
	}
	defer func() { _ = r.Close() }()
	var ref Reference
	if err := json.NewDecoder(r).Decode(&ref); err != nil {
		return Reference{}, arm.Errorf(arm.CodeCorrupt, "the reference of the blob is damaged: %w", err).At(n.Blob)
	}
	return ref, nil
}

func (a *Accounts) render(ctx context.Context, n Name, ref Reference, offset, length int64) (io.ReadCloser, error) {
	if a.renderer == nil {
		return nil, arm.Errorf(arm.CodeNotSupported, "the blob is a view of an image, and these accounts have no images").At(n.Blob)
	}
	r, err := a.renderer.Render(ctx, ref, offset, length)
	return r, fault("render blob", n.Blob, err)
}
