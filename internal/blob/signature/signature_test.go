package signature_test

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/blob/account"
	"goldsmith/internal/blob/signature"
)

var (
	now     = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	secrets = account.Secrets{Keys: []account.Key{{Name: "key1", Value: []byte("one")}, {Name: "key2", Value: []byte("two")}}, Delegation: []byte("three")}
	blob    = signature.Resource{Account: "acct", Container: "con", Blob: "dir/x"}
)

func verifier() signature.Verifier {
	return signature.Verifier{Secrets: secrets, SharedKey: true, Now: now, Client: netip.MustParseAddr("10.0.0.5"), TLS: true}
}

// TestStringsToSign compares with texts put together by hand from the service's
// documentation.
func TestStringsToSign(t *testing.T) {
	date := now.Format(http.TimeFormat)
	r := signature.Request{
		Method: "PUT", Path: "/con/a%20b", Query: url.Values{"timeout": {"30"}, "Comp": {"metadata"}, "x": {"b", "a"}}, ContentLength: 5,
		Header: http.Header{
			"X-Ms-Date": {date}, "X-Ms-Meta-A-B": {" 1 "}, "X-Ms-Meta-Ab": {"2"}, "Content-Type": {"text/plain"}, "Content-Encoding": {"gzip"}, "If-Match": {"*"}, "Range": {"bytes=1-2"},
		},
	}
	resource := "/acct/con/a%20b\ncomp:metadata\ntimeout:30\nx:a,b"
	head := "PUT\ngzip\n\n5\n\ntext/plain\n\n\n*\n\n\nbytes=1-2\n"
	for what, text := range map[string]string{
		"plain order":   head + "x-ms-date:" + date + "\nx-ms-meta-a-b:1\nx-ms-meta-ab:2\n" + resource,
		"culture order": head + "x-ms-date:" + date + "\nx-ms-meta-ab:2\nx-ms-meta-a-b:1\n" + resource,
	} {
		for i, key := range []string{"one", "two"} {
			r.Header.Set("Authorization", "SharedKey acct:"+signature.Sign([]byte(key), text))
			if used, err := signature.VerifySharedKey("acct", [][]byte{[]byte("one"), []byte("two")}, r, now); err != nil || used != i {
				t.Errorf("%s with %s: %d, %v", what, key, used, err)
			}
		}
	}
	for _, skew := range []time.Duration{-16 * time.Minute, 16 * time.Minute} {
		if _, err := signature.VerifySharedKey("acct", [][]byte{[]byte("one"), []byte("two")}, r, now.Add(skew)); !arm.IsCode(err, signature.CodeAuthenticationFailed) {
			t.Errorf("%s later: %v", skew, err)
		}
	}
}

// service makes a signature of the given version for the blob.
func service(version string, change func(url.Values)) url.Values {
	q := url.Values{"sv": {version}, "sr": {"b"}, "sp": {"r"}, "se": {"2026-03-05"}, "rsct": {"text/html"}}
	if change != nil {
		change(q)
	}
	fields := []string{q.Get("sp"), q.Get("st"), q.Get("se"), "/blob/acct/con/dir/x", q.Get("si"), q.Get("sip"), q.Get("spr"), version}
	if version >= "2018-11-09" {
		fields = append(fields, q.Get("sr"), "")
	}
	if version >= "2020-12-06" {
		fields = append(fields, q.Get("ses"))
	}
	fields = append(fields, "", "", "", "", q.Get("rsct"))
	q.Set("sig", signature.Sign([]byte("two"), strings.Join(fields, "\n")))
	return q
}

func TestServiceSignatureOfEveryVersion(t *testing.T) {
	for _, version := range []string{"2015-04-05", "2017-11-09", "2018-11-09", "2020-02-10", "2020-12-06", "2026-12-06"} {
		g, err := verifier().Verify(service(version, nil), blob)
		if err != nil || g.Kind != signature.ServiceSAS || g.Permission != "r" || g.Override["Content-Type"] != "text/html" {
			t.Errorf("%s: %+v, %v", version, g, err)
		}
		for _, other := range []signature.Resource{
			{Account: "acct", Container: "con", Blob: "dir/y"}, {Account: "acct", Container: "co", Blob: "n/dir/x"}, {Account: "acct", Container: "con"}, {Account: "acct"},
			{Account: "other", Container: "con", Blob: "dir/x"},
		} {
			if _, err := verifier().Verify(service(version, nil), other); err == nil {
				t.Errorf("%s opens %+v", version, other)
			}
		}
	}
	if _, err := verifier().Verify(service("2014-02-14", nil), blob); !arm.IsCode(err, signature.CodeAuthenticationFailed) {
		t.Errorf("an old version: %v", err)
	}
}

func TestConditionsOfSignatures(t *testing.T) {
	for _, tt := range []struct {
		name, value string
		code        arm.Code
	}{
		{"se", "2026-03-04T05:06:08Z", ""},
		{"se", "2026-03-04T05:06:07Z", signature.CodeAuthenticationFailed},
		{"se", "2026-03-04T05:07Z", ""},
		{"se", "2026-03-04T05:06:08.0000000Z", ""},
		{"se", "tomorrow", signature.CodeAuthenticationFailed},
		{"se", "2026-03-05T00:00:00+01:00", signature.CodeAuthenticationFailed},
		{"st", "2026-03-04T05:06:08Z", signature.CodeAuthenticationFailed},
		{"st", "2026-03-04T05:06:07Z", ""},
		{"sip", "10.0.0.5", ""},
		{"sip", "10.0.0.1-10.0.0.9", ""},
		{"sip", "10.0.0.6-10.0.0.9", signature.CodeSourceIPMismatch},
		{"sip", "anywhere", signature.CodeSourceIPMismatch},
		{"spr", "https", ""},
		{"sp", "", signature.CodeAuthenticationFailed},
		{"sr", "d", signature.CodeAuthenticationFailed},
		{"si", "none", signature.CodeAuthenticationFailed},
		{"snapshot", "2026-01-01", signature.CodeAuthenticationFailed},
		{"sp", "r\nw", signature.CodeAuthenticationFailed},
	} {
		_, err := verifier().Verify(service("2022-11-02", func(q url.Values) { q.Set(tt.name, tt.value) }), blob)
		if got := arm.CodeOf(err); got != tt.code {
			t.Errorf("%s=%q: %v, want %q", tt.name, tt.value, err, tt.code)
		}
	}
	v := verifier()
	v.TLS = false
	if _, err := v.Verify(service("2022-11-02", func(q url.Values) { q.Set("spr", "https") }), blob); !arm.IsCode(err, signature.CodeProtocolMismatch) {
		t.Errorf("http: %v", err)
	}
	v = verifier()
	v.SharedKey = false
	if _, err := v.Verify(service("2022-11-02", nil), blob); !arm.IsCode(err, signature.CodeAuthenticationFailed) {
		t.Errorf("an account without key access: %v", err)
	}
}

func TestDelegationKeys(t *testing.T) {
	d := signature.Delegation{ObjectID: "A-b", TenantID: "t", Start: now, Expiry: now.Add(time.Hour), Service: "b", Version: "2022-11-02"}
	key := string(d.Key([]byte("s")))
	lower := d
	lower.ObjectID = "a-b"
	if string(lower.Key([]byte("s"))) != key {
		t.Error("the case of an object id matters")
	}
	for what, change := range map[string]func(*signature.Delegation){
		"another person": func(d *signature.Delegation) { d.ObjectID = "c" }, "a longer life": func(d *signature.Delegation) { d.Expiry = d.Expiry.Add(time.Second) },
	} {
		other := d
		change(&other)
		if string(other.Key([]byte("s"))) == key {
			t.Errorf("%s: the same key", what)
		}
	}
}

// FuzzVerify checks that nothing opens without a key.
func FuzzVerify(f *testing.F) {
	f.Add(service("2022-11-02", nil).Encode(), "con", "dir/x")
	f.Add("sv=2022-11-02&ss=b&srt=o&sp=r&se=2099-01-01&sig=x", "con", "")
	f.Add("sv=2022-11-02&sr=c&skoid=a&sktid=b&skt=2026-01-01&ske=2026-01-02&sks=b&skv=2022-11-02&sig=x&sp=r&se=2099-01-01", "con", "x")
	f.Fuzz(func(t *testing.T, query, container, name string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		v := verifier()
		v.Secrets = account.NewSecrets(now) // nobody has signed with these
		if g, err := v.Verify(q, signature.Resource{Account: "acct", Container: container, Blob: name}); err == nil {
			t.Errorf("%q opens %q: %+v", query, name, g)
		}
	})
}

func FuzzSharedKey(f *testing.F) {
	f.Add("GET", "/a/b", "comp=list&Comp=x", "X-Ms-Date", "v", "SharedKey acct:x")
	f.Add("GET", "", "", "X-Ms-", "\n", "SharedKeyLite acct:")
	f.Fuzz(func(t *testing.T, method, path, query, name, value, authorization string) {
		q, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		h := http.Header{"Authorization": {authorization}, "Date": {now.Format(http.TimeFormat)}, name: {value}}
		r := signature.Request{Method: method, Path: path, Query: q, Header: h}
		if _, err := signature.VerifySharedKey("acct", [][]byte{account.NewSecrets(now).Keys[0].Value}, r, now); err == nil {
			t.Errorf("%q is taken for a signature", authorization)
		}
	})
}
