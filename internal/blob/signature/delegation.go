package signature

import (
	"crypto/hmac"
	"crypto/sha256"
	"strings"
	"time"
)

// MaxDelegation is the longest life of a user delegation key.
const MaxDelegation = 7 * 24 * time.Hour

// Delegation describes a user delegation key: who signs with it, and when.
type Delegation struct {
	ObjectID, TenantID string
	Start, Expiry      time.Time // whole seconds
	Service            string    // "b"
	Version            string
}

// Key is the user delegation key under an account's secret. Nothing of it is
// kept: what it depends on comes with every signature.
func (d Delegation) Key(secret []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	_, _ = mac.Write([]byte(strings.Join([]string{
		strings.ToLower(d.ObjectID), strings.ToLower(d.TenantID), WireDelegationTime(d.Start), WireDelegationTime(d.Expiry), d.Service, d.Version,
	}, "\n")))
	return mac.Sum(nil)
}

// WireDelegationTime is how the times of a delegation key are written.
func WireDelegationTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// delegated is the key that a user delegation signature was made with.
func (v Verifier) delegated(s sas) ([]byte, error) {
	start, err := ParseTime(s.Get("skt"))
	if err != nil {
		return nil, failed("the time skt=%.40q is not one", s.Get("skt"))
	}
	expiry, err := ParseTime(s.Get("ske"))
	if err != nil {
		return nil, failed("the time ske=%.40q is not one", s.Get("ske"))
	}
	switch {
	case s.Get("sks") != "b":
		return nil, failed("the delegation key is for the service %.10q and not for blobs", s.Get("sks"))
	case expiry.Sub(start) > MaxDelegation:
		return nil, failed("the delegation key lives longer than %s", MaxDelegation)
	case v.Now.Before(start) || !v.Now.Before(expiry):
		return nil, failed("the delegation key is valid from %s to %s, and it is %s", wireTime(start), wireTime(expiry), wireTime(v.Now))
	case len(v.Secrets.Delegation) == 0:
		return nil, failed("the account has no delegation secret")
	}
	d := Delegation{ObjectID: s.Get("skoid"), TenantID: s.Get("sktid"), Start: start, Expiry: expiry, Service: s.Get("sks"), Version: s.Get("skv")}
	return d.Key(v.Secrets.Delegation), nil
}
