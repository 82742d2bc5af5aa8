package blobapi

import (
	"encoding/base64"
	"encoding/xml"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"goldsmith/internal/arm"
	"goldsmith/internal/blob"
)

// maxResults is the longest page, and the length of one that says none.
const maxResults = 5000

// page reads maxresults.
func (c *call) page() (int, error) {
	text := c.query.Get("maxresults")
	if text == "" {
		return maxResults, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, fail(codeInvalidQuery, "maxresults must be a number from 1 on")
	}
	return min(n, maxResults), nil
}

func (c *call) includes(what string) bool {
	return slices.Contains(strings.Split(c.query.Get("include"), ","), what)
}

// wireList is the body of both lists.
type wireList struct {
	XMLName       xml.Name `xml:"EnumerationResults"`
	Endpoint      string   `xml:"ServiceEndpoint,attr"`
	ContainerName string   `xml:",attr,omitempty"`
	Prefix        string   `xml:",omitempty"`
	Marker        string   `xml:",omitempty"`
	MaxResults    int
	Delimiter     string          `xml:",omitempty"`
	Containers    *wireContainers `xml:",omitempty"`
	Blobs         *wireBlobs      `xml:",omitempty"`
	NextMarker    string
}

type wireContainers struct {
	Container []wireContainer
}

type wireContainer struct {
	Name       string
	Properties struct {
		LastModified          string `xml:"Last-Modified"`
		ETag                  string `xml:"Etag"`
		LeaseStatus           string
		LeaseState            string
		PublicAccess          string `xml:",omitempty"`
		HasImmutabilityPolicy bool
		HasLegalHold          bool
	}
	Metadata wireMetadata
}

// wireMetadata is a map as elements.
type wireMetadata map[string]string

// MarshalXML implements xml.Marshaler; nothing is written for nil.
func (m wireMetadata) MarshalXML(e *xml.Encoder, start xml.StartElement) error {
	if m == nil {
		return nil
	}
	tokens := []xml.Token{start}
	for _, name := range slices.Sorted(maps.Keys(m)) {
		one := xml.StartElement{Name: xml.Name{Local: name}}
		tokens = append(tokens, one, xml.CharData(m[name]), one.End())
	}
	for _, t := range append(tokens, start.End()) {
		if err := e.EncodeToken(t); err != nil {
			return err
		}
	}
	return nil
}

// listContainers is List Containers. A page's marker is the name it starts with.
func (c *call) listContainers() error {
	size, err := c.page()
	if err != nil {
		return err
	}
	names, err := c.cfg.Blobs.Containers(c.ctx(), c.target.account)
	if err != nil {
		return err
	}
	slices.Sort(names)
	body := wireList{
		Endpoint: c.target.endpoint, Prefix: c.query.Get("prefix"), Marker: c.query.Get("marker"), MaxResults: size, Containers: &wireContainers{},
	}
	for _, name := range names {
		if !strings.HasPrefix(name, body.Prefix) || name < body.Marker {
			continue
		}
		if len(body.Containers.Container) == size {
			body.NextMarker = name
			break
		}
		info, err := c.cfg.Blobs.Container(c.ctx(), c.target.account, name)
		if isNotFound(err) {
			continue // deleted since
		}
		if err != nil {
			return err
		}
		w := wireContainer{Name: name}
		w.Properties.LastModified, w.Properties.ETag = httpTime(info.ModTime), info.ETag
		w.Properties.LeaseStatus, w.Properties.LeaseState, w.Properties.PublicAccess = "unlocked", "available", string(info.Access)
		if c.includes("metadata") {
			w.Metadata = info.Metadata
		}
		body.Containers.Container = append(body.Containers.Container, w)
	}
	c.answer(http.StatusOK, body)
	return nil
}

type wireBlobs struct {
	Entries []any // wireBlob and wirePrefix in the order of their names
}

type wirePrefix struct {
	XMLName xml.Name `xml:"BlobPrefix"`
	Name    wireName
}

// wireName is a name, percent-encoded where XML cannot hold it.
type wireName struct {
	Encoded bool   `xml:",attr,omitempty"`
	Text    string `xml:",chardata"`
}

func newName(name string) wireName {
	if utf8.ValidString(name) && !strings.ContainsAny(name, "\ufffe\uffff") {
		return wireName{Text: name}
	}
	return wireName{Encoded: true, Text: url.PathEscape(name)}
}

type wireBlob struct {
	XMLName    xml.Name `xml:"Blob"`
	Name       wireName
	Properties wireProperties
	Metadata   wireMetadata
}

type wireProperties struct {
	CreationTime       string `xml:"Creation-Time,omitempty"`
	LastModified       string `xml:"Last-Modified"`
	ETag               string `xml:"Etag"`
	ContentLength      int64  `xml:"Content-Length"`
	ContentType        string `xml:"Content-Type"`
	ContentEncoding    string `xml:"Content-Encoding"`
	ContentLanguage    string `xml:"Content-Language"`
	ContentMD5         string `xml:"Content-MD5"`
	CacheControl       string `xml:"Cache-Control"`
	ContentDisposition string `xml:"Content-Disposition"`
	BlobType           string
	AccessTier         string
	AccessTierInferred bool
	LeaseStatus        string
	LeaseState         string
	ServerEncrypted    bool
}

func newBlob(i blob.Info, metadata bool) wireBlob {
	w := wireBlob{Name: newName(i.Name.Blob), Properties: wireProperties{
		LastModified: httpTime(i.ModTime), ETag: strings.Trim(i.ETag, `"`), ContentLength: i.Size,
		ContentType: i.ContentType, ContentEncoding: i.ContentEncoding, ContentLanguage: i.ContentLanguage, CacheControl: i.CacheControl,
		ContentDisposition: i.ContentDisposition, ContentMD5: base64.StdEncoding.EncodeToString(i.ContentMD5),
		BlobType: "BlockBlob", AccessTier: "Hot", AccessTierInferred: true, LeaseStatus: "unlocked", LeaseState: "available", ServerEncrypted: true,
	}}
	if !i.Created.IsZero() {
		w.Properties.CreationTime = httpTime(i.Created)
	}
	if metadata {
		w.Metadata = i.Metadata
	}
	return w
}

// listBlobs is List Blobs.
func (c *call) listBlobs() error {
	size, err := c.page()
	if err != nil {
		return err
	}
	body := wireList{
		Endpoint: c.target.endpoint, ContainerName: c.target.container, Prefix: c.query.Get("prefix"), Marker: c.query.Get("marker"),
		MaxResults: size, Delimiter: c.query.Get("delimiter"), Blobs: &wireBlobs{},
	}
	for _, text := range []string{body.Prefix, body.Delimiter} {
		if !utf8.ValidString(text) {
			return fail(codeInvalidQuery, "prefix and delimiter must be UTF-8")
		}
	}
	entries, next, err := c.cfg.Blobs.ListPage(c.ctx(), c.target.account, c.target.container, blob.ListOptions{
		Prefix: body.Prefix, Delimiter: body.Delimiter, PageSize: size, PageToken: body.Marker,
	})
	if arm.IsCode(err, arm.CodeValidationFailed) {
		return fail(codeInvalidQuery, "%w", err)
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.Prefix != "" {
			body.Blobs.Entries = append(body.Blobs.Entries, wirePrefix{Name: newName(e.Prefix)})
		} else {
			body.Blobs.Entries = append(body.Blobs.Entries, newBlob(e.Info, c.includes("metadata")))
		}
	}
	body.NextMarker = next
	c.answer(http.StatusOK, body)
	return nil
}
