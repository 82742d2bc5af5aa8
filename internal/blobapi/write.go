package blobapi

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc64"
	"io"
	"net/http"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/blob"
	"goldsmith/internal/blob/signature"
)

// Limits of bodies, in bytes, as in the service since 2019-12-12.
const (
	maxPut   = 5000 << 20
	maxBlock = 4000 << 20
	// hashAlways is up to where a blob's MD5 is worked out although nobody asked:
	// beyond it that would be most of the work.
	hashAlways = 32 << 20
)

// crcTable is of the service's polynomial for x-ms-content-crc64.
var crcTable = crc64.MakeTable(0x9A6C9329AC4BC9B5)

// putBlob is Put Blob, Put Blob From URL and Copy Blob.
func (c *call) putBlob() error {
	if c.header("x-ms-copy-source") != "" {
		return c.copyBlob()
	}
	switch kind := c.header("x-ms-blob-type"); kind {
	case "BlockBlob":
	case "":
		return fail(codeMissingHeader, "x-ms-blob-type")
	default:
		return fail(codeInvalidHeader, "x-ms-blob-type: %.20q is not supported, only BlockBlob is (az: --type block)", kind)
	}
	body, err := c.body(maxPut)
	if err != nil {
		return err
	}
	p, err := readProperties(c.r.Header, true)
	if err != nil {
		return err
	}
	if body.md5 == nil && c.r.ContentLength <= hashAlways {
		body.md5 = md5.New()
	}
	o := blob.PutOptions{Properties: p, Check: c.replaceable()}
	// A refusal that is certain already spares the client its upload.
	if err := c.early(o.Check); err != nil {
		return err
	}
	o.Check = func(current *blob.Info) error { return errors.Join(body.verify(), c.replaceable()(current)) }
	if o.ContentMD5 == nil {
		o.Sum = body.sum
	}
	i, err := c.cfg.Blobs.Put(c.ctx(), c.name(), body, o)
	if err != nil {
		return err
	}
	if len(i.ContentMD5) > 0 {
		c.set("Content-MD5", base64.StdEncoding.EncodeToString(i.ContentMD5))
	}
	body.answer(c)
	c.written(http.StatusCreated, i)
	return nil
}

// replaceable decides whether the blob may be written over.
func (c *call) replaceable() blob.Check {
	conditions := readConditions(c.r.Header, "")
	return func(current *blob.Info) error {
		if err := conditions.write(current); err != nil {
			return err
		}
		if c.newOnly && current != nil {
			return fail(signature.CodePermissionMismatch, "the blob exists, and there is only the right to create one")
		}
		return nil
	}
}

// early asks check before any content is read.
func (c *call) early(check blob.Check) error {
	i, err := c.cfg.Blobs.Stat(c.ctx(), c.name())
	switch {
	case err == nil:
		return check(&i)
	case !isNotFound(err):
		return err
	}
	if _, err := c.cfg.Blobs.Container(c.ctx(), c.target.account, c.target.container); err != nil {
		return err
	}
	return check(nil)
}

// body is a request's body with what the client says about it.
type body struct {
	r       io.Reader
	md5     hash.Hash // nil when nobody needs it
	crc     hash.Hash64
	wantMD5 []byte
	wantCRC []byte
}

// body is the request's body, of at most max bytes.
func (c *call) body(max int64) (*body, error) {
	switch {
	case c.r.ContentLength < 0:
		return nil, fail(codeMissingLength, "the length must be known")
	case c.r.ContentLength > max:
		return nil, fail(codeTooLarge, "%d bytes; %d are allowed", c.r.ContentLength, max)
	}
	b := &body{r: c.r.Body}
	var err error
	if b.wantMD5, err = readMD5(c.r.Header, "Content-MD5"); err != nil {
		return nil, err
	}
	if b.wantMD5 != nil {
		b.md5 = md5.New()
	}
	if text := c.header("x-ms-content-crc64"); text != "" {
		if b.wantCRC, err = base64.StdEncoding.DecodeString(text); err != nil || len(b.wantCRC) != 8 {
			return nil, fail(codeInvalidHeader, "x-ms-content-crc64: %.40q is not the base64 form of 8 bytes", text)
		}
		b.crc = crc64.New(crcTable)
	}
	return b, nil
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if b.md5 != nil {
		_, _ = b.md5.Write(p[:n])
	}
	if b.crc != nil {
		_, _ = b.crc.Write(p[:n])
	}
	return n, err
}

// verify says whether the body, read to its end, is what the client said.
func (b *body) verify() error {
	if b.wantMD5 != nil && !bytes.Equal(b.sum(), b.wantMD5) {
		return fail(codeMD5Mismatch, "the MD5 is %s", base64.StdEncoding.EncodeToString(b.sum()))
	}
	if b.crc != nil && !bytes.Equal(b.crcSum(), b.wantCRC) {
		return fail(codeCRC64Mismatch, "the CRC64 is %s", base64.StdEncoding.EncodeToString(b.crcSum()))
	}
	return nil
}

func (b *body) sum() []byte {
	if b.md5 == nil {
		return nil
	}
	return b.md5.Sum(nil)
}

func (b *body) crcSum() []byte { return binary.LittleEndian.AppendUint64(nil, b.crc.Sum64()) }

// answer repeats the CRC that was checked.
func (b *body) answer(c *call) {
	if b.crc != nil {
		c.set("x-ms-content-crc64", base64.StdEncoding.EncodeToString(b.crcSum()))
	}
}

// deleteBlob is Delete Blob.
func (c *call) deleteBlob() error {
	if err := c.cfg.Blobs.DeleteIf(c.ctx(), c.name(), readConditions(c.r.Header, "").write); err != nil {
		return err
	}
	c.set("x-ms-delete-type-permanent", "true")
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

// setMetadata is Set Blob Metadata.
func (c *call) setMetadata() error {
	m, err := readMetadata(c.r.Header)
	if err != nil {
		return err
	}
	return c.update(func(i *blob.Info) { i.Metadata = m })
}

// setProperties is Set Blob Properties: what is not sent is cleared.
func (c *call) setProperties() error {
	for _, name := range []string{"x-ms-blob-content-length", "x-ms-sequence-number-action"} {
		if c.header(name) != "" {
			return fail(codeUnsupportedHeader, "%s is for page blobs", name)
		}
	}
	p, err := readProperties(c.r.Header, false)
	if err != nil {
		return err
	}
	none := true
	for name := range c.r.Header {
		none = none && !strings.HasPrefix(name, "X-Ms-Blob-")
	}
	return c.update(func(i *blob.Info) {
		if none {
			return // nothing is said about any property
		}
		p.Metadata, p.Copy = i.Metadata, i.Copy
		i.Properties = p
	})
}

func (c *call) update(change func(*blob.Info)) error {
	conditions := readConditions(c.r.Header, "")
	i, err := c.cfg.Blobs.Update(c.ctx(), c.name(), func(i *blob.Info) error {
		if err := conditions.write(i); err != nil {
			return err
		}
		change(i)
		return nil
	})
	if arm.IsCode(err, arm.CodeConflict) {
		return fail(codeConditionNotMet, "%w", err)
	}
	if err != nil {
		return err
	}
	c.written(http.StatusOK, i)
	return nil
}
