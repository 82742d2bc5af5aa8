package blobapi

import (
	"encoding/base64"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"goldsmith/internal/blob"
)

// maxMetadata bounds names and values together, in bytes.
const maxMetadata = 8 << 10

// metadataName is what a name of metadata may be: an identifier of C#, here of
// ASCII, as headers are.
var metadataName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

const metadataPrefix = "X-Ms-Meta-"

// readMetadata reads the x-ms-meta- headers. Names are kept in lower case: headers
// lose theirs on the way.
func readMetadata(h http.Header) (map[string]string, error) {
	var m map[string]string
	size := 0
	for header, values := range h {
		name, ok := strings.CutPrefix(header, metadataPrefix)
		if !ok {
			continue
		}
		if !metadataName.MatchString(name) {
			return nil, fail(codeInvalidMetadata, "%.60q is not a name of metadata", name)
		}
		if m == nil {
			m = map[string]string{}
		}
		value := strings.Join(values, ",")
		m[strings.ToLower(name)] = value
		if size += len(name) + len(value); size > maxMetadata {
			return nil, fail(codeMetadataTooLarge, "it has more than %d bytes", maxMetadata)
		}
	}
	return m, nil
}

// readProperties reads the properties of a blob that is written whole; plain also
// takes them from the headers that describe the body.
func readProperties(h http.Header, plain bool) (blob.Properties, error) {
	get := func(name string) string {
		if v := h.Get("x-ms-blob-" + name); v != "" || !plain {
			return v
		}
		return h.Get(name)
	}
	p := blob.Properties{
		ContentType: get("Content-Type"), ContentEncoding: get("Content-Encoding"), ContentLanguage: get("Content-Language"),
		CacheControl: get("Cache-Control"), ContentDisposition: h.Get("x-ms-blob-content-disposition"),
	}
	var err error
	if p.ContentMD5, err = readMD5(h, "x-ms-blob-content-md5"); err != nil {
		return blob.Properties{}, err
	}
	p.Metadata, err = readMetadata(h)
	return p, err
}

func readMD5(h http.Header, name string) ([]byte, error) {
	text := h.Get(name)
	if text == "" {
		return nil, nil
	}
	sum, err := base64.StdEncoding.DecodeString(text)
	if err != nil || len(sum) != 16 {
		return nil, fail(codeInvalidHeader, "%s: %.40q is not the base64 form of 16 bytes", name, text)
	}
	return sum, nil
}

// describe sets the headers that say what is known about a blob.
func (c *call) describe(i blob.Info) {
	c.set("ETag", i.ETag)
	c.set("Last-Modified", httpTime(i.ModTime))
	if !i.Created.IsZero() {
		c.set("x-ms-creation-time", httpTime(i.Created))
	}
	c.set("Accept-Ranges", "bytes")
	c.set("Content-Type", i.ContentType)
	c.set("Content-Encoding", i.ContentEncoding)
	c.set("Content-Language", i.ContentLanguage)
	c.set("Content-Disposition", i.ContentDisposition)
	c.set("Cache-Control", i.CacheControl)
	if len(i.ContentMD5) > 0 {
		c.set("Content-MD5", base64.StdEncoding.EncodeToString(i.ContentMD5))
	}
	c.set("x-ms-blob-type", "BlockBlob")
	c.set("x-ms-lease-status", "unlocked")
	c.set("x-ms-lease-state", "available")
	c.set("x-ms-server-encrypted", "true")
	c.set("x-ms-access-tier", "Hot")
	c.set("x-ms-access-tier-inferred", "true")
	c.metadata(i.Metadata)
	if cp := i.Copy; cp != nil {
		size := strconv.FormatInt(i.Size, 10)
		c.set("x-ms-copy-id", cp.ID)
		c.set("x-ms-copy-source", cp.Source)
		c.set("x-ms-copy-status", "success")
		c.set("x-ms-copy-progress", size+"/"+size)
		c.set("x-ms-copy-completion-time", httpTime(cp.Finished))
	}
	if c.who.grant != nil {
		for name, value := range c.who.grant.Override {
			c.set(name, value)
		}
	}
}

func (c *call) metadata(m map[string]string) {
	for name, value := range m {
		c.set("x-ms-meta-"+name, value)
	}
}

// written answers a change of a blob.
func (c *call) written(status int, i blob.Info) {
	c.set("ETag", i.ETag)
	c.set("Last-Modified", httpTime(i.ModTime))
	c.set("x-ms-request-server-encrypted", "true")
	c.set("Content-Length", "0")
	c.w.WriteHeader(status)
}
