package blobapi

import (
	"context"
	"crypto/md5"
	"encoding/base64"
	"io"
	"net/http"
	"strconv"
	"sync"

	"goldsmith/internal/arm"
	"goldsmith/internal/blob"
)

// maxHashedRange is the longest range whose MD5 is sent on request, in bytes.
const maxHashedRange = 4 << 20

// buffers hold what is on its way from the disk to a client.
var buffers = sync.Pool{New: func() any { b := make([]byte, 256<<10); return &b }}

// headBlob is Get Blob Properties.
func (c *call) headBlob() error {
	i, err := c.cfg.Blobs.Stat(c.ctx(), c.name())
	if err := c.readable(i, err); err != nil {
		return err
	}
	c.describe(i)
	c.set("Content-Length", strconv.FormatInt(i.Size, 10))
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// readable says why a blob that was looked at with err cannot be read.
func (c *call) readable(i blob.Info, err error) error {
	if err != nil {
		return err
	}
	err = readConditions(c.r.Header, "").check(true, i.ETag, i.ModTime, true)
	if arm.IsCode(err, codeNotModified) {
		c.set("ETag", i.ETag)
		c.set("Last-Modified", httpTime(i.ModTime))
	}
	return err
}

// getBlob is Get Blob.
func (c *call) getBlob() error {
	i, err := c.cfg.Blobs.Stat(c.ctx(), c.name())
	if err := c.readable(i, err); err != nil {
		return err
	}
	want, err := readRange(c.r.Header, i.Size)
	if err != nil {
		c.set("Content-Range", "bytes */"+strconv.FormatInt(i.Size, 10))
		return err
	}
	hashed := c.header("x-ms-range-get-content-md5") == "true"
	if hashed && (!want.partial || want.length > maxHashedRange) {
		return fail(codeInvalidHeader, "x-ms-range-get-content-md5 needs a range of at most %d bytes", maxHashedRange)
	}
	r, now, err := c.cfg.Blobs.Open(c.ctx(), c.name(), want.offset, want.length)
	if err != nil {
		return err
	}
	defer func() { _ = r.Close() }()
	if now.ETag != i.ETag {
		return fail(codeConditionNotMet, "the blob was replaced meanwhile")
	}
	c.describe(i)
	status := http.StatusOK
	if want.partial {
		status = http.StatusPartialContent
		last := want.offset + want.length - 1
		c.set("Content-Range", "bytes "+strconv.FormatInt(want.offset, 10)+"-"+strconv.FormatInt(last, 10)+"/"+strconv.FormatInt(i.Size, 10))
		if sum := c.w.Header().Get("Content-MD5"); sum != "" {
			c.set("x-ms-blob-content-md5", sum) // Content-MD5 is that of the range
			c.w.Header().Del("Content-MD5")
		}
	}
	c.set("Content-Length", strconv.FormatInt(want.length, 10))
	if hashed {
		part, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		sum := md5.Sum(part)
		c.set("Content-MD5", base64.StdEncoding.EncodeToString(sum[:]))
		c.w.WriteHeader(status)
		_, _ = c.w.Write(part)
		return nil
	}
	c.w.WriteHeader(status)
	return c.stream(r, want.length)
}

// stream sends length bytes of r in constant memory.
func (c *call) stream(r io.Reader, length int64) error {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	// Hidden, so that the buffer is used and not a small one of its own.
	n, err := io.CopyBuffer(struct{ io.Writer }{c.w}, struct{ io.Reader }{r}, *buf)
	if err == nil && n == length {
		return nil
	}
	if c.ctx().Err() == nil && err != nil {
		c.cfg.Log.WarnContext(context.WithoutCancel(c.ctx()), "blob download broke off",
			"account", c.target.account, "container", c.target.container, "blob", c.target.blob, "sent", n, "error", err)
	}
	return errBroken
}

// getMetadata is Get Blob Metadata.
func (c *call) getMetadata() error {
	i, err := c.cfg.Blobs.Stat(c.ctx(), c.name())
	if err := c.readable(i, err); err != nil {
		return err
	}
	c.set("ETag", i.ETag)
	c.set("Last-Modified", httpTime(i.ModTime))
	c.metadata(i.Metadata)
	c.set("Content-Length", "0")
	c.w.WriteHeader(http.StatusOK)
	return nil
}
