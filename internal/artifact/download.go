package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
)

// Download is a big file to fetch, such as a base image. An interrupted download
// continues where it stopped, in this process or a later one.
type Download struct {
	URI string
	// Dir keeps unfinished and finished downloads.
	Dir string
	// Digest is what the content must have; zero takes what comes.
	Digest Digest
	// MaxBytes caps the content; 0 is DefaultMaxDownload.
	MaxBytes int64
	// Sink hears of progress (Done of Total bytes) and failed attempts; nil is
	// event.Discard.
	Sink event.Sink
}

// Downloaded is a complete, verified file. Close it when it is no longer needed.
type Downloaded struct {
	Path string
	Size int64
	part *partial
}

// Close removes the file and lets others download the same URI again.
func (d *Downloaded) Close() error { return errors.Join(d.part.restart(), d.part.unlock()) }

// Download fetches d. Content of another digest is CodeDigestMismatch and leaves
// nothing behind; a cancelled or failed download leaves its part for the next
// attempt, which PruneDownloads collects if it never comes. One process at a
// time downloads a URI; others wait for it.
func (f *Fetcher) Download(ctx context.Context, d Download) (*Downloaded, error) {
	if d.Sink == nil {
		d.Sink = event.Discard
	}
	if d.MaxBytes == 0 {
		d.MaxBytes = DefaultMaxDownload
	}
	loc, err := f.locate(d.URI, "")
	if err != nil {
		return nil, err
	}
	part, err := openPartial(ctx, d, loc)
	if err != nil {
		return nil, err
	}
	size, err := f.fill(ctx, d, loc, part)
	if err != nil {
		return nil, errors.Join(err, part.unlock())
	}
	return &Downloaded{Path: part.path, Size: size, part: part}, nil
}

// fill completes part and verifies it.
func (f *Fetcher) fill(ctx context.Context, d Download, loc location, part *partial) (int64, error) {
	if !d.Digest.IsZero() {
		ctx = context.WithValue(ctx, pinnedKey{}, true)
	}
	resumed := part.size() > 0
	for {
		err := f.transfer(ctx, d, loc, part)
		if err == nil {
			err = part.verify(ctx, d.Digest, loc.name)
		}
		switch {
		case err == nil:
			return part.size(), nil
		case arm.IsCode(err, arm.CodeDigestMismatch) && resumed:
			// The old part may be to blame: once more, from the start.
			resumed = false
			d.Sink.Emit(event.Event{Kind: event.Warning, Target: loc.name,
				Text: "the resumed download does not verify; starting over"})
			if err := part.restart(); err != nil {
				return 0, err
			}
		case arm.IsCode(err, arm.CodeDigestMismatch), arm.IsCode(err, arm.CodeNoSpace), arm.IsCode(err, arm.CodeTooLarge):
			return 0, errors.Join(err, part.restart())
		default:
			return 0, err // the part stays for the next attempt
		}
	}
}

// progressStep is how much one attempt must bring to earn a new set of tries.
const progressStep = 1 << 20

func (f *Fetcher) transfer(ctx context.Context, d Download, loc location, part *partial) error {
	if loc.web == nil {
		c, err := openFile(loc, d.MaxBytes)
		if err != nil {
			return permanent(loc.name, err)
		}
		defer c.close()
		if err := part.restart(); err != nil {
			return err
		}
		if err := part.append(ctx, c, meter(d.Sink, loc.name, 0, c.size)); err != nil {
			return permanent(loc.name, err)
		}
		return nil
	}
	return f.attempts(ctx, loc.name, d.Sink, func(ctx context.Context, progressed func()) error {
		before := part.size()
		err := f.transferOnce(ctx, d, loc, part)
		if part.size()-before >= progressStep {
			progressed()
		}
		return err
	})
}

// transferOnce asks for what part lacks and appends what comes.
func (f *Fetcher) transferOnce(ctx context.Context, d Download, loc location, part *partial) error {
	offset := part.size()
	header := http.Header{}
	if offset > 0 {
		switch v := part.state.ifRange(); {
		case v != "":
			header.Set("If-Range", v)
		case d.Digest.IsZero():
			// Nothing would tell a mixture of two versions from the real thing.
			if err := part.restart(); err != nil {
				return err
			}
			offset = 0
		}
	}
	if offset > 0 {
		if part.state.Total == offset && !d.Digest.IsZero() {
			return nil // complete; the digest decides
		}
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	c, err := f.get(ctx, loc, http.MethodGet, header, d.MaxBytes, http.StatusPartialContent, http.StatusRequestedRangeNotSatisfiable)
	if err != nil {
		return err
	}
	defer c.close()
	now := validatorOf(c.resp.Header)
	switch c.resp.StatusCode {
	case http.StatusRequestedRangeNotSatisfiable:
		if r, ok := parseContentRange(c.resp.Header.Get("Content-Range")); offset > 0 && ok && r.total == offset {
			return nil // nothing was lacking
		}
		return restartLater(part, "the server cannot continue the download")
	case http.StatusPartialContent:
		r, ok := parseContentRange(c.resp.Header.Get("Content-Range"))
		if offset == 0 || !ok || r.first != offset || (part.state.Total > 0 && r.total != part.state.Total) || part.state.differs(now) {
			return restartLater(part, "the server continued with other content")
		}
		if r.total > d.MaxBytes {
			return tooLarge(r.total, d.MaxBytes)
		}
		if err := part.expect(now, r.total); err != nil {
			return err
		}
	default:
		if err := part.restart(); err != nil {
			return err
		}
		offset = 0
		if err := part.expect(now, c.size); err != nil {
			return err
		}
	}
	c.Reader = &limited{r: c.Reader, left: d.MaxBytes - offset, max: d.MaxBytes}
	return part.append(ctx, c, meter(d.Sink, loc.name, offset, part.state.Total))
}

func restartLater(part *partial, why string) error {
	if err := part.restart(); err != nil {
		return err
	}
	return &transient{err: errors.New(why)}
}

// meter reports progress to sink, at most four times a second and at the end.
func meter(sink event.Sink, name string, done, total int64) func(n int) {
	total = max(total, 0)
	var last time.Time
	return func(n int) {
		done += int64(n)
		if now := time.Now(); done == total || now.Sub(last) >= 250*time.Millisecond {
			last = now
			sink.Emit(event.Event{Kind: event.Progress, Target: name, Text: "downloading " + baseName(name), Done: done, Total: total})
		}
	}
}

// baseName is the last path segment of a shown URI.
func baseName(name string) string {
	name, _, _ = strings.Cut(name, " ")
	name, _, _ = strings.Cut(name, "?")
	return name[strings.LastIndexByte(name, '/')+1:]
}

// metered counts what is read.
type metered struct {
	r    io.Reader
	tick func(n int)
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	m.tick(n)
	return n, err
}

// PruneDownloads removes what interrupted downloads left in dir and nobody
// continued within age. Downloads that run now are left alone.
func PruneDownloads(dir string, age time.Duration) error {
	states, err := filepath.Glob(filepath.Join(dir, "*.lock"))
	before := time.Now().Add(-age)
	for _, lockFile := range states {
		part := strings.TrimSuffix(lockFile, ".lock") + ".part"
		newest, statErr := os.Stat(part)
		if errors.Is(statErr, fs.ErrNotExist) {
			newest, statErr = os.Stat(lockFile)
		}
		if statErr != nil || newest.ModTime().After(before) {
			continue
		}
		lock, lockErr := TryLock(lockFile)
		if lock == nil {
			err = errors.Join(err, lockErr)
			continue
		}
		p := &partial{path: part, lock: lock}
		err = errors.Join(err, p.restart(), p.unlock())
	}
	return storageError(dir, err)
}
