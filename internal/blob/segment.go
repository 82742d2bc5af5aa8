package blob

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"gocloud.dev/blob"

	"goldsmith/internal/arm"
)

// The content of a blob lies in segments, one for a blob that was put whole and
// one per block else. A segment is written under a name of its own and never
// changes; it belongs to a blob from the moment a record names it.

// segment is one piece of content.
type segment struct {
	Name string `json:"name"` // KIND.TIME+RANDOM; KIND is the block's id in hex, or wholeSegment
	Size int64  `json:"size"`
}

const wholeSegment = "p" // no hex

func (s segment) kind() string {
	kind, _, _ := strings.Cut(s.Name, ".")
	return kind
}

func (s segment) whole() bool { return s.kind() == wholeSegment }

// segmentPrefix is the directory of a blob's segments. No other part of a key
// ends in segmentDir, so that directories of blobs do not mix.
func segmentPrefix(n Name) string {
	return "s/" + n.Account + "/" + n.Container + "/" + encodeKey(n.Blob) + segmentDir + "/"
}

const segmentDir = "@"

// copyBuffers hold what is on its way from a client to the disk.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// writeSegment writes content whole or not at all. Its error is content's.
func (a *Accounts) writeSegment(ctx context.Context, n Name, kind string, content io.Reader) (segment, error) {
	var random [4]byte
	_, _ = io.ReadFull(rand.Reader, random[:])
	// Names of one kind sort by their age.
	seg := segment{Name: fmt.Sprintf("%s.%016x%s", kind, time.Now().UnixNano(), hex.EncodeToString(random[:]))}
	// Closing a writer whose context has ended drops what was written.
	writeCtx, abort := context.WithCancel(ctx)
	defer abort()
	w, err := a.content.NewWriter(writeCtx, segmentPrefix(n)+seg.Name, &blob.WriterOptions{ContentType: defaultType})
	if err != nil {
		return segment{}, fault("write blob", n.Blob, err)
	}
	buf := copyBuffers.Get().(*[]byte)
	defer copyBuffers.Put(buf)
	for err == nil {
		// A TLS record at a time would cost a system call each. The end must be
		// content's own: io.ReadFull makes io.ErrUnexpectedEOF of it, as which a
		// client that broke off is reported too.
		k := 0
		for k < len(*buf) && err == nil {
			var m int
			m, err = content.Read((*buf)[k:])
			k += m
		}
		if _, failed := w.Write((*buf)[:k]); failed != nil {
			err = failed
		}
		seg.Size += int64(k)
	}
	if !errors.Is(err, io.EOF) {
		abort()
		_ = w.Close() // reports the abort
		return segment{}, fault("write blob", n.Blob, err)
	}
	if err := w.Close(); err != nil {
		return segment{}, fault("write blob", n.Blob, err)
	}
	return seg, nil
}

// segments are all segments of a blob's, named by its record or not, by name.
func (a *Accounts) segments(ctx context.Context, n Name) ([]segment, error) {
	prefix := segmentPrefix(n)
	there, err := objects(ctx, a.content, prefix)
	if err != nil {
		return nil, fault("list the content of blob", n.Blob, err)
	}
	var all []segment
	for _, o := range there {
		if name := strings.TrimPrefix(o.Key, prefix); isSegment(name) {
			all = append(all, segment{Name: name, Size: o.Size})
		}
	}
	slices.SortFunc(all, bySegment)
	return all, nil
}

// isSegment reports whether name is a segment's, not a temporary file's.
func isSegment(name string) bool {
	kind, rest, ok := strings.Cut(name, ".")
	return ok && kind != "" && len(rest) == 24 && !strings.Contains(name, "/")
}

// contains reports whether all of some lie there, which is sorted.
func contains(there, some []segment) bool {
	for _, s := range some {
		if _, ok := slices.BinarySearchFunc(there, s, bySegment); !ok {
			return false
		}
	}
	return true
}

func bySegment(a, b segment) int { return strings.Compare(a.Name, b.Name) }

// drop removes those segments that old names and kept does not, and the staged
// blocks unless keepStaged. Content that is being written stays: its writer has
// yet to commit it.
func (a *Accounts) drop(ctx context.Context, n Name, old record, there []segment, kept record, keepStaged bool) error {
	names := func(r record) map[string]bool {
		m := make(map[string]bool, len(r.Segments))
		for _, s := range r.Segments {
			m[s.Name] = true
		}
		return m
	}
	was, is := names(old), names(kept)
	var errs []error
	for _, s := range there {
		if !is[s.Name] && (was[s.Name] || !s.whole() && !keepStaged) {
			errs = append(errs, a.removeSegment(ctx, n, s))
		}
	}
	return errors.Join(errs...)
}

// dropSegment removes a segment that did not come to be a blob's. What remains
// Collect gets.
func (a *Accounts) dropSegment(ctx context.Context, n Name, s segment) {
	_ = a.removeSegment(context.WithoutCancel(ctx), n, s)
}

func (a *Accounts) removeSegment(ctx context.Context, n Name, s segment) error {
	err := fault("remove content of blob", n.Blob, a.content.Delete(ctx, segmentPrefix(n)+s.Name))
	if arm.IsCode(err, arm.CodeNotFound) {
		return nil
	}
	return err
}

// openSegments reads length bytes from offset on. The first segment is open when
// it returns, so that a blob of one can be read to its end whatever happens to it.
func (a *Accounts) openSegments(ctx context.Context, n Name, segments []segment, offset, length int64) (io.ReadCloser, error) {
	for len(segments) > 0 && offset >= segments[0].Size {
		offset, segments = offset-segments[0].Size, segments[1:]
	}
	r := &segmentReader{ctx: ctx, bucket: a.content, dir: path.Clean(segmentPrefix(n)) + "/", segments: segments, offset: offset, left: length}
	if length == 0 {
		return r, nil
	}
	return r, fault("open blob", n.Blob, r.next())
}

// segmentReader reads segments one after the other; one is open at a time.
type segmentReader struct {
	ctx      context.Context
	bucket   *blob.Bucket
	dir      string
	segments []segment // those not opened yet
	offset   int64     // into the first of them
	left     int64     // bytes to read in all

	current     io.ReadCloser
	currentLeft int64
}

func (r *segmentReader) next() error {
	if len(r.segments) == 0 {
		return io.ErrUnexpectedEOF
	}
	s := r.segments[0]
	size := min(s.Size-r.offset, r.left)
	in, err := r.bucket.NewRangeReader(r.ctx, r.dir+s.Name, r.offset, size, nil)
	if err != nil {
		return err
	}
	r.current, r.currentLeft, r.segments, r.offset = in, size, r.segments[1:], 0
	return nil
}

// Read implements io.Reader.
func (r *segmentReader) Read(p []byte) (int, error) {
	for r.left > 0 && r.currentLeft == 0 {
		if err := errors.Join(r.Close(), r.next()); err != nil {
			return 0, err
		}
	}
	if r.left == 0 {
		return 0, io.EOF
	}
	k, err := r.current.Read(p)
	r.left, r.currentLeft = r.left-int64(k), r.currentLeft-int64(k)
	if errors.Is(err, io.EOF) {
		err = nil
		if r.currentLeft > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	return k, err
}

// Close implements io.Closer.
func (r *segmentReader) Close() error {
	if r.current == nil {
		return nil
	}
	in := r.current
	r.current = nil
	return in.Close()
}
