package artifact

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
)

// Frozen is the content of a URI as it was at submission.
type Frozen struct {
	URI    string `json:"uri"`    // without secrets
	SHA256 string `json:"sha256"` // lower-case hex
	Size   int64  `json:"size"`   // bytes
	Path   string `json:"-"`      // in the store
	// Revalidated says that the server confirmed stored content instead of
	// sending it again.
	Revalidated bool `json:"revalidated,omitempty"`
}

// Freezer freezes URIs into a Store.
type Freezer struct {
	Fetcher *Fetcher
	Store   *Store
	// Dir is what relative file paths are relative to.
	Dir string
	// Own opens content that this installation keeps itself; it returns nil for a
	// URI of anything else. What it opens is asked for nowhere else. May be nil.
	Own func(ctx context.Context, uri string) (io.ReadCloser, error)
	// Revalidate lets a server confirm what is stored (ETag, Last-Modified)
	// instead of sending it again. Only for a store with one user: the answer
	// 304 is all that proves the right to read.
	Revalidate bool
	// Sink hears of failed attempts; may be nil.
	Sink event.Sink
}

// Freeze fetches uri, checks it against the sha256 want unless that is "", and
// stores it. Errors carry CodeFetchFailed, CodeFetchRefused, CodeTooLarge,
// CodeDigestMismatch, CodeNoSpace or CodeCanceled, with the URI as target.
func (z *Freezer) Freeze(ctx context.Context, uri, want string) (Frozen, error) {
	loc, err := z.Fetcher.locate(uri, z.Dir)
	if err != nil {
		return Frozen{}, err
	}
	if want != "" {
		d, err := ParseDigest(want)
		if err != nil || d.Algorithm != "sha256" {
			return Frozen{}, arm.Errorf(arm.CodeUsage, "%q is not a sha256 of 64 hexadecimal digits", want).At(loc.name)
		}
		want = d.Hex
		ctx = context.WithValue(ctx, pinnedKey{}, true)
	}
	if frozen, ours, err := z.freezeOwn(ctx, uri, want); ours || err != nil {
		return frozen, err
	}
	if loc.web == nil {
		blob, err := z.freezeFile(ctx, loc, want)
		if err != nil {
			return Frozen{}, permanent(loc.name, err)
		}
		return Frozen{URI: Redact(uri), SHA256: blob.SHA256, Size: blob.Size, Path: blob.Path}, nil
	}
	frozen := Frozen{URI: Redact(uri)}
	ctx, cancel := withLimit(ctx, z.Fetcher.cfg.Timeout)
	defer cancel()
	err = z.Fetcher.attempts(ctx, loc.name, z.Sink, func(ctx context.Context, _ func()) error {
		blob, revalidated, err := z.freezeWeb(ctx, loc, want)
		frozen.SHA256, frozen.Size, frozen.Path, frozen.Revalidated = blob.SHA256, blob.Size, blob.Path, revalidated
		return err
	})
	if err != nil {
		return Frozen{}, err
	}
	return frozen, nil
}

// withLimit bounds a fetch in time; the limit is told from the caller's deadline.
func withLimit(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, limit, fmt.Errorf("%w of %s", errSlow, limit))
}

// freezeOwn freezes what Own opens; ours is false when that is nothing.
func (z *Freezer) freezeOwn(ctx context.Context, uri, want string) (f Frozen, ours bool, err error) {
	if z.Own == nil {
		return Frozen{}, false, nil
	}
	r, err := z.Own(ctx, uri)
	if r == nil || err != nil {
		return Frozen{}, false, err
	}
	defer func() { _ = r.Close() }()
	limit := z.Fetcher.cfg.MaxBytes
	blob, err := z.Store.Put(ctx, "the blob", &limited{r: r, left: limit, max: limit}, want)
	if err != nil {
		return Frozen{}, true, permanent(Redact(uri), err)
	}
	return Frozen{URI: Redact(uri), SHA256: blob.SHA256, Size: blob.Size, Path: blob.Path}, true, nil
}

func (z *Freezer) freezeFile(ctx context.Context, loc location, want string) (Blob, error) {
	c, err := openFile(loc, z.Fetcher.cfg.MaxBytes)
	if err != nil {
		return Blob{}, err
	}
	defer c.close()
	return z.Store.Put(ctx, "the file", c, want)
}

func (z *Freezer) freezeWeb(ctx context.Context, loc location, want string) (blob Blob, revalidated bool, err error) {
	file := z.Store.recordPath(loc)
	header := http.Header{}
	known, ok := readRecord(file)
	if ok = ok && z.Revalidate && (want == "" || want == known.SHA256); ok {
		// Damaged or collected content is simply fetched again.
		if blob, err = z.Store.touch(known.SHA256); err == nil {
			known.condition(header)
		}
	}
	c, err := z.Fetcher.get(ctx, loc, http.MethodGet, header, z.Fetcher.cfg.MaxBytes, http.StatusNotModified)
	if err != nil {
		return Blob{}, false, err
	}
	defer c.close()
	if c.resp.StatusCode == http.StatusNotModified {
		if len(header) == 0 {
			return Blob{}, false, arm.Errorf(arm.CodeFetchFailed, "the server answered %s to a request without condition", c.resp.Status)
		}
		return blob, true, nil
	}
	blob, err = z.Store.Put(ctx, "the content", c, want)
	if err != nil {
		return Blob{}, false, err
	}
	r := record{URI: loc.name, SHA256: blob.SHA256, validator: validatorOf(c.resp.Header)}
	return blob, false, r.write(file)
}
