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

	"goldsmith/internal/arm"
)

const defaultType = "application/octet-stream"

// Properties are what a writer says about a blob beside its content.
type Properties struct {
	ContentType        string            `json:"contentType,omitempty"` // media type; "" is application/octet-stream
	ContentEncoding    string            `json:"contentEncoding,omitempty"`
	ContentLanguage    string            `json:"contentLanguage,omitempty"`
	ContentDisposition string            `json:"contentDisposition,omitempty"`
	CacheControl       string            `json:"cacheControl,omitempty"`
	ContentMD5         []byte            `json:"contentMd5,omitempty"` // nil when not known
	Metadata           map[string]string `json:"metadata,omitempty"`   // by lower-case name
	Copy               *Copy             `json:"copy,omitempty"`       // the last copy to this blob; nil for none
}

// Copy is a finished copy of another blob.
type Copy struct {
	ID       string    `json:"id"`
	Source   string    `json:"source"` // address, without a signature
	Finished time.Time `json:"finished"`
}

// Info describes a blob.
type Info struct {
	Properties
	Name      Name
	Size      int64  // bytes of its content; of a reference, of what is rendered
	ETag      string // quoted; changes with every write
	ModTime   time.Time
	Created   time.Time  // zero when not known
	Blocks    int        // committed blocks; 0 when it was put whole
	Reference *Reference // nil for a blob with content of its own
}

// Check decides about a change to a blob. It is called, perhaps more than once,
// with the blob as it is, nil when there is none; while the change is made nobody
// else writes. Its error ends the change and is returned as it is.
type Check func(current *Info) error

// PutOptions of a write.
type PutOptions struct {
	Properties
	IfNoneMatch bool  // write only if there is no such blob
	Check       Check // may be nil; called when the content has been read
	// Sum, if not nil, is the MD5 of the content after it has been read; nil when
	// it is not known.
	Sum func() []byte
}

// ListOptions of a List.
type ListOptions struct {
	Prefix    string // only blobs whose name starts with it
	Delimiter string // ListPage folds names that have it after Prefix; "" folds none
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
	for last := false; ; last = true {
		rec, err := a.load(ctx, n)
		if err != nil {
			return nil, Info{}, err
		}
		r, err := a.open(ctx, n, rec, offset, length)
		if err == nil {
			return r, rec.info(n), nil
		}
		// The content of a blob that was replaced meanwhile is gone.
		if last || !arm.IsCode(err, arm.CodeNotFound) {
			return nil, Info{}, err
		}
	}
}

func (a *Accounts) open(ctx context.Context, n Name, rec record, offset, length int64) (io.ReadCloser, error) {
	if offset < 0 || offset > rec.Size || length < -1 {
		return nil, arm.Errorf(arm.CodeValidationFailed,
			"the range from %d, length %d, is not within the blob's %d bytes", offset, length, rec.Size).At(n.Blob)
	}
	if length < 0 || length > rec.Size-offset {
		length = rec.Size - offset
	}
	switch {
	case rec.Reference != nil:
		return a.render(ctx, n, *rec.Reference, offset, length)
	case rec.plain:
		r, err := a.bucket.NewRangeReader(ctx, blobKey(n), offset, length, nil)
		return r, fault("open blob", n.Blob, err)
	}
	return a.openSegments(ctx, n, rec.Segments, offset, length)
}

// Put implements Store.
func (a *Accounts) Put(ctx context.Context, n Name, content io.Reader, o PutOptions) (Info, error) {
	if err := n.Check(); err != nil {
		return Info{}, err
	}
	if err := checkType(n, &o.Properties); err != nil {
		return Info{}, err
	}
	if err := a.wantContainer(ctx, n.Account, n.Container); err != nil {
		return Info{}, err
	}
	seg, err := a.writeSegment(ctx, n, wholeSegment, content)
	if err != nil {
		return Info{}, err
	}
	if o.Sum != nil {
		o.ContentMD5 = o.Sum()
	}
	rec := record{Properties: o.Properties}
	if seg.Size > 0 {
		rec.Segments, rec.Size = []segment{seg}, seg.Size
	}
	info, err := a.commit(ctx, n, o, false, func(record, []segment) (record, error) { return rec, nil })
	if err != nil || seg.Size == 0 {
		a.dropSegment(ctx, n, seg)
	}
	return info, err
}

// checkType says why p's content type cannot be a blob's, and fills it in.
func checkType(n Name, p *Properties) error {
	p.ContentType = cmp.Or(p.ContentType, defaultType)
	kind, _, err := mime.ParseMediaType(p.ContentType)
	if err != nil || kind == referenceType || kind == recordType {
		return arm.Errorf(arm.CodeValidationFailed, "%.80q cannot be the content type of a blob", p.ContentType).At(n.Blob)
	}
	return nil
}

// Stat implements Store.
func (a *Accounts) Stat(ctx context.Context, n Name) (Info, error) {
	rec, err := a.load(ctx, n)
	if err != nil {
		return Info{}, err
	}
	return rec.info(n), nil
}

// Delete implements Store.
func (a *Accounts) Delete(ctx context.Context, n Name) error { return a.DeleteIf(ctx, n, nil) }

// DeleteIf removes a blob if check, which may be nil, agrees.
func (a *Accounts) DeleteIf(ctx context.Context, n Name, check Check) error {
	if err := n.Check(); err != nil {
		return err
	}
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	rec, err := a.load(ctx, n)
	if err != nil {
		return err
	}
	if check != nil {
		info := rec.info(n)
		if err := check(&info); err != nil {
			return err
		}
	}
	there, err := a.segments(ctx, n)
	if err != nil {
		return err
	}
	if err := a.bucket.Delete(ctx, blobKey(n)); err != nil {
		return fault("delete blob", n.Blob, err)
	}
	_ = a.drop(context.WithoutCancel(ctx), n, rec, there, record{}, false) // what stays Collect gets
	return nil
}

// List implements Store.
func (a *Accounts) List(ctx context.Context, account, container string, o ListOptions) ([]Info, string, error) {
	o.Delimiter = ""
	entries, next, err := a.ListPage(ctx, account, container, o)
	var infos []Info
	for _, e := range entries {
		infos = append(infos, e.Info)
	}
	return infos, next, err
}

// Entry is a blob of a list, or a prefix that several have in common.
type Entry struct {
	Prefix string // "" for a blob
	Info
}

// ListPage is List with names folded at a delimiter. The bucket's order is that of
// file names, so a page costs a look at every name of the container.
func (a *Accounts) ListPage(ctx context.Context, account, container string, o ListOptions) ([]Entry, string, error) {
	if err := errors.Join(CheckAccount(account), CheckContainer(container)); err != nil {
		return nil, "", err
	}
	raw, err := base64.RawURLEncoding.DecodeString(o.PageToken)
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
	after, folded := strings.CutPrefix(string(raw), foldedToken)
	from, found := slices.BinarySearch(names, after)
	for from < len(names) && (found || folded && strings.HasPrefix(names[from], after)) {
		from, found = from+1, false
	}
	var entries []Entry
	for _, name := range names[from:] {
		fold := ""
		if i := strings.Index(name[len(o.Prefix):], o.Delimiter); i >= 0 && o.Delimiter != "" {
			fold = name[:len(o.Prefix)+i+len(o.Delimiter)]
		}
		if n := len(entries); n > 0 && fold != "" && entries[n-1].Prefix == fold {
			continue
		} else if o.PageSize > 0 && n == o.PageSize {
			return entries, base64.RawURLEncoding.EncodeToString([]byte(entries[n-1].token())), nil
		}
		e := Entry{Prefix: fold}
		if fold == "" {
			e.Info, err = a.Stat(ctx, Name{account, container, name})
			if arm.IsCode(err, arm.CodeNotFound) {
				continue // deleted since
			}
			if err != nil {
				return nil, "", err
			}
		}
		entries = append(entries, e)
	}
	return entries, "", nil
}

// foldedToken starts a page token that names a prefix; no name holds it.
const foldedToken = "\x00"

func (e Entry) token() string {
	if e.Prefix != "" {
		return foldedToken + e.Prefix
	}
	return e.Name.Blob
}

// names are the sorted names of a container's blobs.
func (a *Accounts) names(ctx context.Context, account, container, prefix string) ([]string, error) {
	root := "b/" + account + "/" + container + "/"
	all, err := objects(ctx, a.bucket, root)
	if err != nil {
		return nil, fault("list blobs", container, err)
	}
	var names []string
	for _, o := range all {
		// What does not decode is a temporary file of a writer, living or dead.
		if name, ok := decodeKey(strings.TrimPrefix(o.Key, root)); ok && strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}
