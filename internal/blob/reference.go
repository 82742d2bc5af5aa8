package blob

import (
	"bytes"
	"context"
	"encoding/json"
	"io"

	"goldsmith/internal/arm"
)

// referenceType marks a blob that holds a Reference. Clients cannot set it.
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
	if ref.Format == "" || ref.Image == "" || ref.Size < 0 {
		return Info{}, arm.Errorf(arm.CodeInternal, "a reference blob needs a format, an image and a size").At(n.Blob)
	}
	raw, err := json.Marshal(ref)
	if err != nil || len(raw) > maxReference {
		return Info{}, arm.Errorf(arm.CodeInternal, "the reference of a blob cannot be stored").At(n.Blob)
	}
	return a.put(ctx, n, bytes.NewReader(raw), PutOptions{ContentType: referenceType, IfNoneMatch: ifNoneMatch})
}

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

func (a *Accounts) render(ctx context.Context, info Info, offset, length int64) (io.ReadCloser, error) {
	if a.renderer == nil {
		return nil, arm.Errorf(arm.CodeNotSupported, "the blob is a view of an image, and these accounts have no images").At(info.Name.Blob)
	}
	if length < 0 || length > info.Size-offset {
		length = info.Size - offset
	}
	r, err := a.renderer.Render(ctx, *info.Reference, offset, length)
	return r, fault("render blob", info.Name.Blob, err)
}
