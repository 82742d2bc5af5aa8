package blobapi

import (
	"encoding/xml"
	"io"
	"net/http"
	"strings"
	"time"

	"goldsmith/internal/blob"
	"goldsmith/internal/blob/signature"
)

// maxPolicies is how many stored access policies a container may have.
const maxPolicies = 5

// maxDocument bounds the small XML bodies, in bytes.
const maxDocument = 64 << 10

// createContainer is Create Container.
func (c *call) createContainer() error {
	access, err := c.publicAccess()
	if err != nil {
		return err
	}
	m, err := readMetadata(c.r.Header)
	if err != nil {
		return err
	}
	info, err := c.cfg.Blobs.NewContainer(c.ctx(), c.target.account, c.target.container, blob.ContainerSettings{Access: access, Metadata: m})
	if err != nil {
		return err
	}
	c.containerTags(info)
	c.w.WriteHeader(http.StatusCreated)
	return nil
}

// publicAccess reads x-ms-blob-public-access.
func (c *call) publicAccess() (blob.Access, error) {
	access := blob.Access(c.header("x-ms-blob-public-access"))
	switch access {
	case blob.AccessNone:
		return access, nil
	case blob.AccessBlob, blob.AccessContainer:
		if !c.account.Public {
			return "", fail(codePublicNotPermitted, "the account has allowBlobPublicAccess set to false")
		}
		return access, nil
	}
	return "", fail(codeInvalidHeader, "x-ms-blob-public-access must be blob or container")
}

func (c *call) containerTags(i blob.ContainerInfo) {
	c.set("ETag", i.ETag)
	c.set("Last-Modified", httpTime(i.ModTime))
	c.set("Content-Length", "0")
}

// containerProperties is Get Container Properties and Get Container Metadata.
func (c *call) containerProperties() error {
	info, err := c.cfg.Blobs.Container(c.ctx(), c.target.account, c.target.container)
	if err != nil {
		return err
	}
	c.containerTags(info)
	c.metadata(info.Metadata)
	if c.query.Get("comp") == "" {
		c.set("x-ms-lease-status", "unlocked")
		c.set("x-ms-lease-state", "available")
		c.set("x-ms-blob-public-access", string(info.Access))
		c.set("x-ms-has-immutability-policy", "false")
		c.set("x-ms-has-legal-hold", "false")
	}
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// containerConditions checks the request's conditions about a container.
func (c *call) containerConditions(i blob.ContainerInfo) error {
	return readConditions(c.r.Header, "").check(true, i.ETag, i.ModTime, false)
}

// deleteContainer is Delete Container.
func (c *call) deleteContainer() error {
	info, err := c.cfg.Blobs.Container(c.ctx(), c.target.account, c.target.container)
	if err != nil {
		return err
	}
	if err := c.containerConditions(info); err != nil {
		return err
	}
	if err := c.cfg.Blobs.DeleteContainer(c.ctx(), c.target.account, c.target.container); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

func (c *call) updateContainer(change func(*blob.ContainerInfo)) error {
	info, err := c.cfg.Blobs.UpdateContainer(c.ctx(), c.target.account, c.target.container, func(i *blob.ContainerInfo) error {
		if err := c.containerConditions(*i); err != nil {
			return err
		}
		change(i)
		return nil
	})
	if err != nil {
		return err
	}
	c.containerTags(info)
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// setContainerMetadata is Set Container Metadata.
func (c *call) setContainerMetadata() error {
	m, err := readMetadata(c.r.Header)
	if err != nil {
		return err
	}
	return c.updateContainer(func(i *blob.ContainerInfo) { i.Metadata = m })
}

// wirePolicies is the body of Get and Set Container ACL.
type wirePolicies struct {
	XMLName  xml.Name     `xml:"SignedIdentifiers"`
	Policies []wirePolicy `xml:"SignedIdentifier"`
}

type wirePolicy struct {
	ID     string `xml:"Id"`
	Policy struct {
		Start      string `xml:",omitempty"`
		Expiry     string `xml:",omitempty"`
		Permission string `xml:",omitempty"`
	} `xml:"AccessPolicy"`
}

// containerACL is Get Container ACL.
func (c *call) containerACL() error {
	info, err := c.cfg.Blobs.Container(c.ctx(), c.target.account, c.target.container)
	if err != nil {
		return err
	}
	var body wirePolicies
	for _, p := range info.Policies {
		w := wirePolicy{ID: p.ID}
		w.Policy.Start, w.Policy.Expiry, w.Policy.Permission = policyTime(p.Start), policyTime(p.Expiry), p.Permission
		body.Policies = append(body.Policies, w)
	}
	c.set("ETag", info.ETag)
	c.set("Last-Modified", httpTime(info.ModTime))
	c.set("x-ms-blob-public-access", string(info.Access))
	c.answer(http.StatusOK, body)
	return nil
}

func policyTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05.0000000Z")
}

// setContainerACL is Set Container ACL.
func (c *call) setContainerACL() error {
	access, err := c.publicAccess()
	if err != nil {
		return err
	}
	raw, err := c.document()
	if err != nil {
		return err
	}
	policies, err := parsePolicies(raw)
	if err != nil {
		return err
	}
	return c.updateContainer(func(i *blob.ContainerInfo) { i.Access, i.Policies = access, policies })
}

// document reads a small body.
func (c *call) document() ([]byte, error) {
	b, err := c.body(maxDocument)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(b)
	if err != nil {
		return nil, err
	}
	return raw, b.verify()
}

// parsePolicies reads <SignedIdentifiers>; an empty body is none.
func parsePolicies(raw []byte) ([]blob.Policy, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var body wirePolicies
	if err := decodeXML(raw, &body); err != nil {
		return nil, err
	}
	if len(body.Policies) > maxPolicies {
		return nil, fail(codeInvalidXML, "a container has %d stored access policies at most", maxPolicies)
	}
	var policies []blob.Policy
	seen := map[string]bool{}
	for _, w := range body.Policies {
		p := blob.Policy{ID: w.ID, Permission: w.Policy.Permission}
		if p.ID == "" || len(p.ID) > 64 || seen[p.ID] {
			return nil, fail(codeInvalidXML, "the id %.70q of a policy is empty, too long or there twice", p.ID)
		}
		seen[p.ID] = true
		for _, t := range []struct {
			text string
			into *time.Time
		}{{w.Policy.Start, &p.Start}, {w.Policy.Expiry, &p.Expiry}} {
			if strings.TrimSpace(t.text) == "" {
				continue
			}
			when, err := signature.ParseTime(t.text)
			if err != nil {
				return nil, fail(codeInvalidXML, "%.40q is not a time", t.text)
			}
			*t.into = when
		}
		policies = append(policies, p)
	}
	return policies, nil
}
