package blobapi

import (
	"encoding/base64"
	"encoding/xml"
	"net/http"
	"time"

	"goldsmith/internal/blob/signature"
)

// serviceProperties is Get Blob Service Properties: what the service would do
// besides, which here is nothing.
func (c *call) serviceProperties() error {
	type retention struct{ Enabled bool }
	type metrics struct {
		Version         string
		Enabled         bool
		RetentionPolicy retention
	}
	type logging struct {
		Version             string
		Delete, Read, Write bool
		RetentionPolicy     retention
	}
	var body struct {
		XMLName               xml.Name `xml:"StorageServiceProperties"`
		Logging               logging
		HourMetrics           metrics
		MinuteMetrics         metrics
		Cors                  struct{}
		DefaultServiceVersion string
		DeleteRetentionPolicy retention
		StaticWebsite         retention
	}
	body.Logging.Version, body.HourMetrics.Version, body.MinuteMetrics.Version = "1.0", "1.0", "1.0"
	body.DefaultServiceVersion = newestVersion
	c.answer(http.StatusOK, body)
	return nil
}

// accountProperties is Get Account Information.
func (c *call) accountProperties() error {
	c.set("x-ms-sku-name", "Standard_LRS")
	c.set("x-ms-account-kind", "StorageV2")
	c.set("x-ms-is-hns-enabled", "false")
	c.set("Content-Length", "0")
	c.w.WriteHeader(http.StatusOK)
	return nil
}

// wireKeyInfo is the body of Get User Delegation Key.
type wireKeyInfo struct {
	XMLName xml.Name `xml:"KeyInfo"`
	Start   string
	Expiry  string
}

// delegationKey is Get User Delegation Key.
func (c *call) delegationKey() error {
	if c.who.caller == nil {
		return fail(signature.CodeAuthenticationFailed, "only a caller with a token can ask for a key to delegate with")
	}
	raw, err := c.document()
	if err != nil {
		return err
	}
	d, err := parseKeyInfo(raw, c.now())
	if err != nil {
		return err
	}
	d.ObjectID, d.TenantID, d.Service, d.Version = c.who.caller.ObjectID, c.who.caller.TenantID, "b", c.w.Header().Get("x-ms-version")
	var body struct {
		XMLName       xml.Name `xml:"UserDelegationKey"`
		SignedOid     string
		SignedTid     string
		SignedStart   string
		SignedExpiry  string
		SignedService string
		SignedVersion string
		Value         string
	}
	body.SignedOid, body.SignedTid, body.SignedService, body.SignedVersion = d.ObjectID, d.TenantID, d.Service, d.Version
	body.SignedStart, body.SignedExpiry = signature.WireDelegationTime(d.Start), signature.WireDelegationTime(d.Expiry)
	body.Value = base64.StdEncoding.EncodeToString(d.Key(c.account.Secrets.Delegation))
	c.answer(http.StatusOK, body)
	return nil
}

// parseKeyInfo reads the times of a delegation key that is asked for.
func parseKeyInfo(raw []byte, now time.Time) (signature.Delegation, error) {
	var body wireKeyInfo
	if err := decodeXML(raw, &body); err != nil {
		return signature.Delegation{}, err
	}
	start := now
	var err error
	if body.Start != "" {
		if start, err = signature.ParseTime(body.Start); err != nil {
			return signature.Delegation{}, fail(codeInvalidXML, "Start %.40q is not a time", body.Start)
		}
	}
	expiry, err := signature.ParseTime(body.Expiry)
	if err != nil {
		return signature.Delegation{}, fail(codeInvalidXML, "Expiry %.40q is not a time", body.Expiry)
	}
	d := signature.Delegation{Start: start.UTC().Truncate(time.Second), Expiry: expiry.UTC().Truncate(time.Second)}
	if !d.Expiry.After(now) || !d.Expiry.After(d.Start) || d.Expiry.Sub(d.Start) > signature.MaxDelegation {
		return signature.Delegation{}, fail(codeInvalidXML, "the key must be valid for some time from now on, and %s at most", signature.MaxDelegation)
	}
	return d, nil
}
