package blob

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"mime"
	"slices"
	"strings"
	"time"

	"gocloud.dev/blob"

	"goldsmith/internal/arm"
)

const defaultType = "application/octet-stream"

// Info describes a blob.
type Info struct {
	Name        Name
	Size        int64 // bytes of its content; of a reference, of what is rendered
	ContentType string
	ETag        string // changes with every write
	ModTime     time.Time
	Reference   *Reference // nil for a blob with content of its own
}

// PutOptions of a write.
type PutOptions struct {
	ContentType string // media type; "" is application/octet-stream
	IfNoneMatch bool   // write only if there is no such blob
}

// ListOptions of a List.
type ListOptions struct {
	Prefix    string // only blobs whose name starts with it
	PageSize  int    // 0 for all
	PageToken string // from the previous page
}

// Store reads and writes blobs. Every method may be called concurrently. Errors
// are arm.Error: CodeNotFound for a missing blob or container,
// CodeValidationFailed for a name that is none, CodePreconditionFailed.
type Store interface {
	// Open reads length bytes from offset on, with length -1 to the end. A range
	// that starts behind the end is CodeValidationFailed.
	Open(ctx context.Context, n Name, offset, length int64) (io.ReadCloser, Info, error)
	// Put writes a blob whole or, when content fails or ctx ends, not at all.
	Put(ctx context.Context, n Name, content io.Reader, o PutOptions) (Info, error)
	// Stat describes a blob.
	Stat(ctx context.Context, n Name) (Info, error)
	// Delete removes a blob.
	Delete(ctx context.Context, n Name) error
	// List returns blobs of a container ordered by name, and the next page's token
	// ("" at the end).
	List(ctx context.Context, account, container string, o ListOptions) (blobs []Info, next string, err error)
}

var _ Store = (*Accounts)(nil)

// Open implements Store.
func (a *Accounts) Open(ctx context.Context, n Name, offset, length int64) (io.ReadCloser, Info, error) {
	info, err := a.Stat(ctx, n)
	if err != nil {
		return nil, Info{}, err
	}
	if offset < 0 || offset > info.Size || length < -1 {
		return nil, Info{}, arm.Errorf(arm.CodeValidationFailed,
			"the range from %d, length %d, is not within the blob's %d bytes", offset, length, info.Size).At(n.Blob)
	}
	if info.Reference != nil {
		r, err := a.render(ctx, info, offset, length)
		return r, info, err
	}
	r, err := a.bucket.NewRangeReader(ctx, blobKey(n), offset, length, nil)
	if err != nil {
		return nil, Info{}, fault("open blob", n.Blob, err)
	}
	return r, info, nil
}

// Put implements Store.
func (a *Accounts) Put(ctx context.Context, n Name, content io.Reader, o PutOptions) (Info, error) {
	o.ContentType = cmp.Or(o.ContentType, defaultType)
	kind, _, err := mime.ParseMediaType(o.ContentType)
	if err != nil || kind == referenceType {
		return Info{}, arm.Errorf(arm.CodeValidationFailed, "%.80q cannot be the content type of a blob", o.ContentType).At(n.Blob)
	}
	return a.put(ctx, n, content, o)
}

func (a *Accounts) put(ctx context.Context, n Name, content io.Reader, o PutOptions) (Info, error) {
	if err := n.Check(); err != nil {
		return Info{}, err
	}
	if err := a.wantContainer(ctx, n.Account, n.Container); err != nil {
		return Info{}, err
	}
	// Closing a writer whose context has ended drops what was written.
	writeCtx, abort := context.WithCancel(ctx)
	defer abort()
	w, err := a.bucket.NewWriter(writeCtx, blobKey(n), &blob.WriterOptions{ContentType: o.ContentType, IfNotExist: o.IfNoneMatch})
	if err != nil {
		return Info{}, fault("write blob", n.Blob, err)
	}
	if _, err := io.Copy(w, content); err != nil {
		abort()
		_ = w.Close() // reports the abort
		return Info{}, fault("write blob", n.Blob, err)
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		abort()
		_ = w.Close()
		return Info{}, err
	}
	defer unlock()
	if err := a.wantContainer(ctx, n.Account, n.Container); err != nil {
		abort()
		_ = w.Close()
		return Info{}, err
	}
	if err := w.Close(); err != nil {
		return Info{}, fault("write blob", n.Blob, err)
	}
	return a.Stat(ctx, n)
}

// Stat implements Store.
func (a *Accounts) Stat(ctx context.Context, n Name) (Info, error) {
	if err := n.Check(); err != nil {
		return Info{}, err
	}
	attrs, err := a.bucket.Attributes(ctx, blobKey(n))
	if err != nil {
		return Info{}, fault("look at blob", n.Blob, err)
	}
	info := Info{Name: n, Size: attrs.Size, ContentType: attrs.ContentType, ETag: attrs.ETag, ModTime: attrs.ModTime.UTC()}
	if attrs.ContentType != referenceType {
		return info, nil
	}
	ref, err := a.readReference(ctx, n)
	if err != nil {
		return Info{}, err
	}
	info.Reference, info.Size, info.ContentType = &ref, ref.Size, defaultType
	return info, nil
}

// Delete implements Store.
func (a *Accounts) Delete(ctx context.Context, n Name) error {
	if err := n.Check(); err != nil {
		return err
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return fault("delete blob", n.Blob, a.bucket.Delete(ctx, blobKey(n)))
}

// List implements Store. The bucket's order is that of file names, so a page
// costs a look at every name of the container.
func (a *Accounts) List(ctx context.Context, account, container string, o ListOptions) ([]Info, string, error) {
	if err := errors.Join(CheckAccount(account), CheckContainer(container)); err != nil {
		return nil, "", err
	}
	after, err := base64.RawURLEncoding.DecodeString(o.PageToken)
	if err != nil {
		return nil, "", arm.Errorf(arm.CodeValidationFailed, "the page token %.40q was not made by this service; start the list anew", o.PageToken)
	}
	if err := a.wantContainer(ctx, account, container); err != nil {
		return nil, "", err
	}
	names, err := a.names(ctx, account, container, o.Prefix)
	if err != nil {
		return nil, "", err
	}
	from, found := slices.BinarySearch(names, string(after))
	if found {
		from++
	}
	names = names[from:]
	next := ""
	if o.PageSize > 0 && len(names) > o.PageSize {
		names = names[:o.PageSize]
		next = base64.RawURLEncoding.EncodeToString([]byte(names[o.PageSize-1]))
	}
	var infos []Info
	for _, name := range names {
		info, err := a.Stat(ctx, Name{account, container, name})
		if arm.IsCode(err, arm.CodeNotFound) {
			continue // deleted since
		}
		if err != nil {
			return nil, "", err
		}
		infos = append(infos, info)
	}
	return infos, next, nil
}

// names are the sorted names of a container's blobs.
func (a *Accounts) names(ctx context.Context, account, container, prefix string) ([]string, error) {
	root := "b/" + account + "/" + container + "/"
	all := a.bucket.List(&blob.ListOptions{Prefix: root})
	var names []string
	for {
		o, err := all.Next(ctx)
		if errors.Is(err, io.EOF) {
			slices.Sort(names)
			return names, nil
		}
		if err != nil {
			return nil, fault("list blobs", container, err)
		}
		// What does not decode is a temporary file of a writer, living or dead.
		if name, ok := decodeKey(strings.TrimPrefix(o.Key, root)); ok && strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
}
