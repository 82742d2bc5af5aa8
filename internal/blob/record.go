package blob

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"io"
	"strings"
	"time"

	"gocloud.dev/blob"

	"goldsmith/internal/arm"
)

// recordType marks a blob that is a record: what is known about it, and the
// names of the segments that hold its content. Clients cannot set it.
const recordType = "application/vnd.goldsmith.blob+json"

// recordMagic starts every record. A writer that is killed between the two files
// of an object leaves the old content under the new type; this tells them apart.
const recordMagic = `{"goldsmithBlob":1,`

// record is the stored form of a blob.
type record struct {
	Version int `json:"goldsmithBlob"` // first, for recordMagic
	Properties
	ETag      string     `json:"etag"`
	Created   time.Time  `json:"created"`
	Changed   time.Time  `json:"changed"`
	Size      int64      `json:"size"`
	Segments  []segment  `json:"segments,omitempty"`
	Reference *Reference `json:"reference,omitempty"`

	plain bool // content lies in the object itself, as versions before records wrote it
}

func (r record) info(n Name) Info {
	blocks := 0
	for _, s := range r.Segments {
		if !s.whole() {
			blocks++
		}
	}
	return Info{
		Name: n, Properties: r.Properties, Size: r.Size, ETag: r.ETag, ModTime: r.Changed, Created: r.Created, Blocks: blocks, Reference: r.Reference,
	}
}

// load reads the record of a blob.
func (a *Accounts) load(ctx context.Context, n Name) (record, error) {
	if err := n.Check(); err != nil {
		return record{}, err
	}
	attrs, err := a.bucket.Attributes(ctx, blobKey(n))
	if err != nil {
		return record{}, fault("look at blob", n.Blob, err)
	}
	if attrs.ContentType == recordType {
		raw, err := a.bucket.ReadAll(ctx, blobKey(n))
		if err != nil {
			return record{}, fault("look at blob", n.Blob, err)
		}
		if bytes.HasPrefix(raw, []byte(recordMagic)) {
			var rec record
			if err := json.Unmarshal(raw, &rec); err != nil {
				return record{}, arm.Errorf(arm.CodeCorrupt, "the record of the blob is damaged: %w", err).At(n.Blob)
			}
			return rec, nil
		}
		attrs.ContentType = defaultType
	}
	rec := record{
		Properties: Properties{ContentType: attrs.ContentType, ContentMD5: attrs.MD5}, ETag: attrs.ETag,
		Created: attrs.ModTime.UTC(), Changed: attrs.ModTime.UTC(), Size: attrs.Size, plain: true,
	}
	if attrs.ContentType != referenceType {
		return rec, nil
	}
	ref, err := a.readReference(ctx, n)
	if err != nil {
		return record{}, err
	}
	rec.Reference, rec.Size, rec.Properties, rec.plain = &ref, ref.Size, Properties{ContentType: defaultType}, false
	return rec, nil
}

// commit replaces the record of a blob by what make says, under the lock, and
// drops the segments that only the old one named, and the staged blocks unless
// keepStaged. make gets the record as it is (zero when there is none) and the
// segments that lie there.
func (a *Accounts) commit(ctx context.Context, n Name, o PutOptions, keepStaged bool, make func(old record, there []segment) (record, error)) (Info, error) {
	unlock, err := a.lock(ctx)
	if err != nil {
		return Info{}, err
	}
	defer unlock()
	if err := a.wantContainer(ctx, n.Account, n.Container); err != nil {
		return Info{}, err
	}
	old, err := a.load(ctx, n)
	found := err == nil
	if err != nil && !arm.IsCode(err, arm.CodeNotFound) {
		return Info{}, err
	}
	if o.IfNoneMatch && found {
		return Info{}, arm.Errorf(arm.CodePreconditionFailed, "the blob exists already").At(n.Blob)
	}
	if o.Check != nil {
		var current *Info
		if found {
			info := old.info(n)
			current = &info
		}
		if err := o.Check(current); err != nil {
			return Info{}, err
		}
	}
	there, err := a.segments(ctx, n)
	if err != nil {
		return Info{}, err
	}
	rec, err := make(old, there)
	if err != nil {
		return Info{}, err
	}
	if !contains(there, rec.Segments) {
		return Info{}, arm.Errorf(arm.CodeConflict, "the blob's container was deleted while its content was written").At(n.Blob)
	}
	rec.Version, rec.ETag, rec.Changed = 1, newETag(), time.Now().UTC()
	if rec.Created.IsZero() {
		rec.Created = rec.Changed
	}
	raw, err := json.Marshal(rec)
	if err != nil {
		return Info{}, arm.Errorf(arm.CodeInternal, "encode the record of the blob: %w", err).At(n.Blob)
	}
	if err := ctx.Err(); err != nil {
		return Info{}, fault("write blob", n.Blob, err)
	}
	if err := a.bucket.WriteAll(ctx, blobKey(n), raw, &blob.WriterOptions{ContentType: recordType}); err != nil {
		return Info{}, fault("write blob", n.Blob, err)
	}
	// The blob is there; what cannot be dropped now, Collect gets.
	_ = a.drop(context.WithoutCancel(ctx), n, old, there, rec, keepStaged)
	return rec.info(n), nil
}

// Update changes a blob's properties and metadata, not its content. change may
// be called with other fields of Info as they are; what it does to them is
// ignored.
func (a *Accounts) Update(ctx context.Context, n Name, change func(*Info) error) (Info, error) {
	if err := n.Check(); err != nil {
		return Info{}, err
	}
	// Content in the object itself must move out before a record takes its place.
	old, err := a.load(ctx, n)
	if err != nil {
		return Info{}, err
	}
	var moved []segment
	if old.plain {
		r, err := a.open(ctx, n, old, 0, -1)
		if err != nil {
			return Info{}, err
		}
		seg, err := a.writeSegment(ctx, n, wholeSegment, r)
		_ = r.Close()
		if err != nil {
			return Info{}, err
		}
		moved = []segment{seg}
	}
	return a.commit(ctx, n, PutOptions{}, true, func(rec record, _ []segment) (record, error) {
		if rec.ETag == "" {
			return record{}, arm.Errorf(arm.CodeNotFound, "the blob does not exist").At(n.Blob)
		}
		if rec.plain {
			if rec.ETag != old.ETag {
				return record{}, arm.Errorf(arm.CodeConflict, "the blob was replaced meanwhile; try again").At(n.Blob)
			}
			rec.Segments, rec.plain = moved, false
		}
		info := rec.info(n)
		if err := change(&info); err != nil {
			return record{}, err
		}
		if err := checkType(n, &info.Properties); err != nil {
			return record{}, err
		}
		rec.Properties = info.Properties
		return rec, nil
	})
}

// newETag is an entity tag that no write before had.
func newETag() string {
	var b [8]byte
	_, _ = io.ReadFull(rand.Reader, b[:]) // the system's source does not fail
	return `"0x` + strings.ToUpper(hex.EncodeToString(b[:])) + `"`
}
