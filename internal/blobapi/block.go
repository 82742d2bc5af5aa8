package blobapi

import (
	"bytes"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"strconv"

	"goldsmith/internal/blob"
)

// maxBlockList bounds the body of Put Block List in bytes: every block with the
// longest id and the longest element.
const maxBlockList = blob.MaxBlocks * 128

// putBlock is Put Block and Put Block From URL.
func (c *call) putBlock() error {
	id, err := base64.StdEncoding.DecodeString(c.query.Get("blockid"))
	if err != nil || len(id) == 0 || len(id) > blob.MaxBlockID {
		return fail(codeInvalidQuery, "blockid must be the base64 form of 1 to %d bytes", blob.MaxBlockID)
	}
	if c.header("x-ms-copy-source") != "" {
		src, err := c.openSource()
		if err != nil {
			return err
		}
		defer func() { _ = src.Close() }()
		if err := c.cfg.Blobs.StageBlock(c.ctx(), c.name(), string(id), src); err != nil {
			return err
		}
	} else {
		b, err := c.body(maxBlock)
		if err != nil {
			return err
		}
		if c.r.ContentLength == 0 {
			return fail(codeInvalidHeader, "Content-Length: a block is not empty")
		}
		if err := c.cfg.Blobs.StageBlock(c.ctx(), c.name(), string(id), verified{b}); err != nil {
			return err
		}
		if b.md5 != nil {
			c.set("Content-MD5", base64.StdEncoding.EncodeToString(b.sum()))
		}
		b.answer(c)
	}
	c.set("x-ms-request-server-encrypted", "true")
	c.set("Content-Length", "0")
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

// verified is a body whose end is an error unless it is what the client said.
type verified struct{ *body }

// Read implements io.Reader.
func (v verified) Read(p []byte) (int, error) {
	n, err := v.body.Read(p)
	if errors.Is(err, io.EOF) {
		if wrong := v.verify(); wrong != nil {
			err = wrong
		}
	}
	return n, err
}

// putBlockList is Put Block List.
func (c *call) putBlockList() error {
	b, err := c.body(maxBlockList)
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(b)
	if err != nil {
		return err
	}
	if err := b.verify(); err != nil {
		return err
	}
	list, err := parseBlockList(raw)
	if err != nil {
		return err
	}
	p, err := readProperties(c.r.Header, false)
	if err != nil {
		return err
	}
	i, err := c.cfg.Blobs.CommitBlocks(c.ctx(), c.name(), list, blob.PutOptions{Properties: p, Check: c.replaceable()})
	if err != nil {
		return err
	}
	b.answer(c)
	c.written(http.StatusCreated, i)
	return nil
}

// parseBlockList reads <BlockList> with its <Latest>, <Committed> and
// <Uncommitted> elements in their order.
func parseBlockList(raw []byte) ([]blob.BlockRef, error) {
	sources := map[string]blob.Source{"Latest": blob.Latest, "Committed": blob.Committed, "Uncommitted": blob.Uncommitted}
	var list struct {
		XMLName xml.Name `xml:"BlockList"`
		Blocks  []struct {
			XMLName xml.Name
			ID      string `xml:",chardata"`
		} `xml:",any"`
	}
	if err := decodeXML(raw, &list); err != nil {
		return nil, err
	}
	var refs []blob.BlockRef
	for _, b := range list.Blocks {
		source, ok := sources[b.XMLName.Local]
		if !ok {
			return nil, fail(codeInvalidXML, "a block list has no element %.20q", b.XMLName.Local)
		}
		id, err := base64.StdEncoding.DecodeString(b.ID)
		if err != nil || len(id) == 0 || len(id) > blob.MaxBlockID {
			return nil, fail(blob.CodeInvalidBlockList, "%.100q is not the base64 form of a block id", b.ID)
		}
		refs = append(refs, blob.BlockRef{ID: string(id), Source: source})
	}
	return refs, nil
}

// decodeXML reads one XML document and nothing behind it.
func decodeXML(raw []byte, into any) error {
	d := xml.NewDecoder(bytes.NewReader(bytes.TrimPrefix(raw, []byte("\ufeff"))))
	if err := d.Decode(into); err != nil {
		return fail(codeInvalidXML, "%w", err)
	}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		text, isText := token.(xml.CharData)
		if err != nil || !isText || len(bytes.TrimSpace(text)) > 0 {
			return fail(codeInvalidXML, "something follows the document")
		}
	}
}

type wireBlock struct {
	Name string
	Size int64
}

// getBlockList is Get Block List.
func (c *call) getBlockList() error {
	kind := c.query.Get("blocklisttype")
	switch kind {
	case "", "committed", "uncommitted", "all":
	default:
		return fail(codeInvalidQuery, "blocklisttype must be committed, uncommitted or all")
	}
	committed, staged, err := c.cfg.Blobs.Blocks(c.ctx(), c.name())
	if err != nil {
		return err
	}
	wire := func(blocks []blob.Block) *[]wireBlock {
		all := make([]wireBlock, 0, len(blocks))
		for _, b := range blocks {
			all = append(all, wireBlock{base64.StdEncoding.EncodeToString([]byte(b.ID)), b.Size})
		}
		return &all
	}
	type blockElements struct{ Block *[]wireBlock }
	var answer struct {
		XMLName           xml.Name `xml:"BlockList"`
		CommittedBlocks   *blockElements
		UncommittedBlocks *blockElements
	}
	if kind != "uncommitted" {
		answer.CommittedBlocks = &blockElements{wire(committed)}
	}
	if kind == "uncommitted" || kind == "all" {
		answer.UncommittedBlocks = &blockElements{wire(staged)}
	}
	i, err := c.cfg.Blobs.Stat(c.ctx(), c.name())
	switch {
	case err == nil:
		if err := c.readable(i, nil); err != nil {
			return err
		}
		c.set("ETag", i.ETag)
		c.set("Last-Modified", httpTime(i.ModTime))
		c.set("x-ms-blob-content-length", strconv.FormatInt(i.Size, 10))
	case isNotFound(err):
		c.set("x-ms-blob-content-length", "0")
	default:
		return err
	}
	c.answer(http.StatusOK, answer)
	return nil
}
