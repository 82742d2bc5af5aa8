package artifact

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/dustin/go-humanize"
	"github.com/google/renameio/v2"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
)

// partial is a download's file while it is incomplete: KEY.part with what came
// so far, KEY.json with what it is a part of, KEY.lock held by who works on it.
type partial struct {
	path  string
	lock  *Lock
	state partialState
}

// partialState says which version of the resource the part is from.
type partialState struct {
	URI   string `json:"uri"`             // without secrets, for people
	Total int64  `json:"total,omitempty"` // bytes; 0 unknown
	validator
}

// differs reports that now is certainly another version than the part's.
func (s partialState) differs(now validator) bool {
	return (s.ETag != "" && now.ETag != "" && s.ETag != now.ETag) ||
		(s.LastModified != "" && now.LastModified != "" && s.LastModified != now.LastModified)
}

// openPartial takes the part of d, waiting for another process that has it.
func openPartial(ctx context.Context, d Download, loc location) (*partial, error) {
	if err := os.MkdirAll(d.Dir, 0o700); err != nil {
		return nil, storageError(d.Dir, err)
	}
	identity := loc.root + "\x00" + loc.path
	if loc.web != nil {
		identity = withoutSecrets(loc.web)
	}
	sum := sha256.Sum256([]byte(identity + "\x00" + d.Digest.String()))
	stem := filepath.Join(d.Dir, hex.EncodeToString(sum[:16]))
	lock, err := TakeLock(ctx, stem+".lock", func() {
		d.Sink.Emit(event.Event{Kind: event.Info, Target: loc.name, Text: "waiting for another process that downloads " + baseName(loc.name)})
	})
	if ctx.Err() != nil && err != nil {
		return nil, ended(ctx, loc.name, nil)
	}
	if err != nil {
		return nil, storageError(d.Dir, err)
	}
	p := &partial{path: stem + ".part", lock: lock}
	b, err := os.ReadFile(p.statePath())
	if err != nil || json.Unmarshal(b, &p.state) != nil {
		p.state = partialState{}
		if err := p.restart(); err != nil {
			return nil, errors.Join(err, p.unlock())
		}
	}
	p.state.URI = loc.name
	return p, nil
}

func (p *partial) statePath() string { return strings.TrimSuffix(p.path, ".part") + ".json" }

// size is how many bytes are there.
func (p *partial) size() int64 {
	info, err := os.Stat(p.path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// restart forgets what came so far.
func (p *partial) restart() error {
	p.state = partialState{URI: p.state.URI}
	for _, file := range []string{p.path, p.statePath()} {
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return storageError(filepath.Dir(p.path), err)
		}
	}
	return nil
}

// unlock lets others have the download. While a part is left to come back to,
// the lock file stays: PruneDownloads finds the part by it.
func (p *partial) unlock() error {
	if _, err := os.Stat(p.path); err == nil {
		return p.lock.releaseKeeping()
	}
	return p.lock.Release()
}

// expect records what is about to be appended, and that the disk has room.
func (p *partial) expect(v validator, total int64) error {
	if total > 0 {
		p.state.Total = total
		if err := room(filepath.Dir(p.path), total-p.size()); err != nil {
			return err
		}
	}
	if !v.isZero() {
		p.state.validator = v
	}
	b, err := json.Marshal(p.state)
	if err == nil {
		err = renameio.WriteFile(p.statePath(), b, 0o600)
	}
	return storageError(filepath.Dir(p.path), err)
}

// room fails with CodeNoSpace when dir's disk has less than need bytes free.
func room(dir string, need int64) error {
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil {
		return storageError(dir, err)
	}
	free := min(s.Bavail, math.MaxInt64/uint64(s.Bsize)) * uint64(s.Bsize)
	if need > 0 && uint64(need) > free {
		return arm.Errorf(arm.CodeNoSpace, "the download needs %s but the disk has %s free",
			humanize.IBytes(uint64(need)), humanize.IBytes(free)).At(dir)
	}
	return nil
}

// append adds what r brings; what came before an error stays.
func (p *partial) append(ctx context.Context, r io.Reader, tick func(int)) (err error) {
	f, err := os.OpenFile(p.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return storageError(filepath.Dir(p.path), err)
	}
	defer func() {
		if closeErr := f.Close(); err == nil {
			err = storageError(p.path, closeErr)
		}
	}()
	_, err = io.CopyBuffer(&storing{w: f, dir: filepath.Dir(p.path)}, &metered{r: &cancelable{ctx: ctx, r: r}, tick: tick}, make([]byte, 256<<10))
	return err
}

// verify checks that the file is whole and has digest want.
func (p *partial) verify(ctx context.Context, want Digest, name string) error {
	f, err := os.Open(p.path)
	if errors.Is(err, fs.ErrNotExist) {
		return arm.Errorf(arm.CodeFetchFailed, "the server sent no content").At(name)
	}
	if err != nil {
		return storageError(filepath.Dir(p.path), err)
	}
	defer f.Close()
	if want.IsZero() {
		return nil
	}
	if err := want.Check("the download", &cancelable{ctx: ctx, r: f}); err != nil {
		var e *arm.Error
		if errors.As(err, &e) {
			return e.At(name)
		}
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// contentRange is a Content-Range header (RFC 9110, 14.4) in bytes. total is -1
// when unknown; first is -1 in the answer to an unsatisfiable range.
type contentRange struct{ first, last, total int64 }

func parseContentRange(s string) (r contentRange, ok bool) {
	unit, rest, found := strings.Cut(strings.TrimSpace(s), " ")
	if !found || !strings.EqualFold(unit, "bytes") {
		return r, false
	}
	span, total, found := strings.Cut(rest, "/")
	if !found {
		return r, false
	}
	r = contentRange{first: -1, last: -1, total: -1}
	number := func(s string) int64 {
		n, err := strconv.ParseUint(s, 10, 63)
		ok = ok && err == nil
		return int64(n)
	}
	ok = true
	if total != "*" {
		r.total = number(total)
	}
	if span != "*" {
		first, last, _ := strings.Cut(span, "-")
		r.first, r.last = number(first), number(last)
		ok = ok && r.first <= r.last && (r.total < 0 || r.last < r.total)
	}
	return r, ok
}
