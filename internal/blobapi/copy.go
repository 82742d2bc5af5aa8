package blobapi

import (
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"

	"goldsmith/internal/arm"
	"goldsmith/internal/blob"
)

// source is a blob of one of this service's accounts that is copied from.
type source struct {
	name  blob.Name
	info  blob.Info
	shown string // its address without a signature
	r     io.ReadCloser
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) { return s.r.Read(p) }

// Close implements io.Closer.
func (s *source) Close() error { return s.r.Close() }

// findSource finds the blob that x-ms-copy-source names, if the caller may read
// it: by a signature or a token for it, as anybody, or with the right to read it
// that the request itself shows.
func (c *call) findSource() (*source, error) {
	text := c.header("x-ms-copy-source")
	refused := func(format string, args ...any) (*source, error) {
		return nil, fail(codeCannotVerifySource, format, args...)
	}
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return nil, fail(codeInvalidHeader, "x-ms-copy-source is not an https address")
	}
	// Another host's content is not fetched: what it is would depend on the
	// network of this service.
	if _, ok := c.hostAccount(u.Host); !ok && !strings.EqualFold(u.Host, c.r.Host) {
		return refused("only blobs of this service's own accounts can be copied, and %.100s is another host", u.Host)
	}
	t, err := c.locate(u.Host, u)
	if err != nil {
		return nil, err
	}
	if t.blob == "" {
		return nil, fail(codeInvalidHeader, "x-ms-copy-source does not name a blob")
	}
	from := *c // the same request, as if it were for the source
	from.target, from.newOnly = t, false
	if from.account, err = c.find(t.account); err != nil {
		return refused("%v", err)
	}
	if from.query, err = url.ParseQuery(u.RawQuery); err != nil {
		return nil, fail(codeInvalidHeader, "the query of x-ms-copy-source does not parse")
	}
	if from.who, err = from.sourcePrincipal(); err != nil {
		return refused("%v", err)
	}
	if err := from.authorize(from.who, t, readBlob); err != nil {
		return refused("%v", err)
	}
	s := &source{name: from.name(), shown: t.endpoint + t.container + "/" + (&url.URL{Path: t.blob}).EscapedPath()}
	if s.info, err = c.cfg.Blobs.Stat(c.ctx(), s.name); err != nil {
		if isNotFound(err) {
			return nil, missing("the source does not exist")
		}
		return nil, err
	}
	return s, readConditions(c.r.Header, "x-ms-source-").check(true, s.info.ETag, s.info.ModTime, false)
}

// sourcePrincipal is who asks for the source of a copy.
func (c *call) sourcePrincipal() (principal, error) {
	if c.query.Has("sig") {
		return c.signed(c.account, c.target, c.query)
	}
	if token := c.header("x-ms-copy-source-authorization"); token != "" {
		r := c.r.Clone(c.ctx())
		r.Header.Set("Authorization", token)
		return c.bearer(r)
	}
	// A key is for its own account only; a signature is for what it names.
	switch {
	case c.who.caller != nil:
		return c.who, nil
	case c.who.key != "" && strings.HasPrefix(c.header("Authorization"), "SharedKey") && c.signedFor(c.target.account):
		return c.who, nil
	}
	return principal{anonymous: true}, nil
}

// signedFor reports whether the request's shared key is that of account.
func (c *call) signedFor(account string) bool {
	_, rest, _ := strings.Cut(c.header("Authorization"), " ")
	name, _, _ := strings.Cut(rest, ":")
	return strings.TrimSpace(name) == account
}

// openSource opens what x-ms-source-range says of the source of a copy.
func (c *call) openSource() (*source, error) {
	s, err := c.findSource()
	if err != nil {
		return nil, err
	}
	offset, length := int64(0), int64(-1)
	if text := c.header("x-ms-source-range"); text != "" {
		first, last, ok := parseRange(text)
		if !ok {
			return nil, fail(codeInvalidHeader, "x-ms-source-range: %.40q is not a range", text)
		}
		if first >= s.info.Size {
			return nil, fail(codeInvalidRange, "the source has %d bytes", s.info.Size)
		}
		if offset = first; last >= 0 {
			length = last - first + 1
		}
	}
	var now blob.Info
	if s.r, now, err = c.cfg.Blobs.Open(c.ctx(), s.name, offset, length); err != nil {
		return nil, err
	}
	if now.ETag != s.info.ETag {
		_ = s.r.Close()
		return nil, fail(codeSourceCondition, "the source was replaced meanwhile")
	}
	return s, nil
}

// copyBlob is Copy Blob and Put Blob From URL. The copy is finished when it is
// answered.
func (c *call) copyBlob() error {
	if err := c.early(c.replaceable()); err != nil {
		return err
	}
	s, err := c.findSource()
	if err != nil {
		return err
	}
	given, err := readProperties(c.r.Header, false)
	if err != nil {
		return err
	}
	id := uuid.NewString()
	p := s.info.Properties
	// Put Blob From URL sets properties by headers of its own.
	fromURL := c.header("x-ms-blob-type") != ""
	if fromURL && c.header("x-ms-copy-source-blob-properties") == "false" {
		p = given
	}
	if given.Metadata != nil {
		p.Metadata = given.Metadata
	}
	p.Copy = &blob.Copy{ID: id, Source: s.shown, Finished: c.now().UTC()}
	o := blob.PutOptions{Properties: p, Check: c.replaceable()}
	var made blob.Info
	if ref := s.info.Reference; ref != nil {
		made, err = c.cfg.Blobs.CopyReference(c.ctx(), c.name(), *ref, o)
	} else {
		made, err = c.copyContent(s, o)
	}
	if err != nil {
		return err
	}
	if fromURL {
		c.written(http.StatusCreated, made)
		return nil
	}
	c.set("x-ms-copy-id", id)
	c.set("x-ms-copy-status", "success")
	c.written(http.StatusAccepted, made)
	return nil
}

func (c *call) copyContent(s *source, o blob.PutOptions) (blob.Info, error) {
	r, now, err := c.cfg.Blobs.Open(c.ctx(), s.name, 0, -1)
	if err != nil {
		if arm.IsCode(err, arm.CodeNotFound) {
			return blob.Info{}, missing("the source does not exist")
		}
		return blob.Info{}, err
	}
	defer func() { _ = r.Close() }()
	if now.ETag != s.info.ETag {
		return blob.Info{}, fail(codeSourceCondition, "the source was replaced meanwhile")
	}
	return c.cfg.Blobs.Put(c.ctx(), c.name(), r, o)
}
