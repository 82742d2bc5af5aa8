// Package signature verifies what is signed with the keys of a storage account:
// requests (Shared Key and Shared Key Lite), shared access signatures, and keys
// handed to users to sign with. It follows "Authorize with Shared Key" and
// "Create a service SAS", "an account SAS" and "a user delegation SAS" of the
// Storage service's documentation. It performs no I/O.
package signature

import (
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"goldsmith/internal/arm"
)

// Codes of refusals, as the Blob service names them.
const (
	CodeAuthenticationFailed arm.Code = "AuthenticationFailed"
	CodePermissionMismatch   arm.Code = "AuthorizationPermissionMismatch"
	CodeProtocolMismatch     arm.Code = "AuthorizationProtocolMismatch"
	CodeSourceIPMismatch     arm.Code = "AuthorizationSourceIPMismatch"
	CodeServiceMismatch      arm.Code = "AuthorizationServiceMismatch"
	CodeResourceTypeMismatch arm.Code = "AuthorizationResourceTypeMismatch"
)

// maxSkew is how far the date of a signed request may be from now.
const maxSkew = 15 * time.Minute

// Request is what a client signs of its request.
type Request struct {
	Method        string
	Path          string     // as it was sent, still encoded
	Query         url.Values // decoded
	Header        http.Header
	ContentLength int64 // bytes; -1 when not known
}

// Sign is the signature of text under key, in base64.
func Sign(key []byte, text string) string {
	mac := hmac.New(sha256.New, key)
	_, _ = mac.Write([]byte(text)) // a hash does not fail
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// signedWith is the index of the key under which signature is that of one of
// texts, -1 for none.
func signedWith(signature string, keys [][]byte, texts []string) int {
	found := -1
	for i, key := range keys {
		for _, text := range texts {
			if hmac.Equal([]byte(Sign(key, text)), []byte(signature)) {
				found = i
			}
		}
	}
	return found
}

// IsSharedKey reports whether the request claims to be signed with an account key.
func IsSharedKey(h http.Header) bool {
	scheme, _, _ := strings.Cut(h.Get("Authorization"), " ")
	return strings.EqualFold(scheme, "SharedKey") || strings.EqualFold(scheme, "SharedKeyLite")
}

// VerifySharedKey checks the Authorization header of a request to account, and
// returns which of keys it is signed with. The error is CodeAuthenticationFailed.
func VerifySharedKey(account string, keys [][]byte, r Request, now time.Time) (key int, err error) {
	failed := func(format string, args ...any) (int, error) {
		return -1, arm.Errorf(CodeAuthenticationFailed, format, args...)
	}
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	name, signed, ok := strings.Cut(strings.TrimSpace(rest), ":")
	if !ok || name != account {
		return failed("the Authorization header must be %s ACCOUNT:SIGNATURE, with the account of the address", scheme)
	}
	date, err := http.ParseTime(cmp.Or(r.Header.Get("x-ms-date"), r.Header.Get("Date")))
	if err != nil {
		return failed("the request has no valid x-ms-date or Date header")
	}
	if skew := now.Sub(date).Abs(); skew > maxSkew {
		return failed("the date of the request is %s from this service's clock; %s is allowed", skew.Round(time.Second), maxSkew)
	}
	if key = signedWith(signed, keys, stringsToSign(account, r, strings.EqualFold(scheme, "SharedKeyLite"))); key < 0 {
		return failed("the signature does not match: it is made with another key, or of another request")
	}
	return key, nil
}

// stringsToSign are the texts that a client may have signed: libraries differ in
// the order of headers.
func stringsToSign(account string, r Request, lite bool) []string {
	date := r.Header.Get("Date")
	if r.Header.Get("x-ms-date") != "" {
		date = ""
	}
	var parts []string
	if lite {
		parts = []string{r.Method, r.Header.Get("Content-MD5"), r.Header.Get("Content-Type"), date}
	} else {
		length := ""
		if r.ContentLength > 0 {
			length = strconv.FormatInt(r.ContentLength, 10)
		}
		parts = []string{r.Method, r.Header.Get("Content-Encoding"), r.Header.Get("Content-Language"), length}
		for _, name := range []string{"Content-MD5", "Content-Type"} {
			parts = append(parts, r.Header.Get(name))
		}
		parts = append(parts, date)
		for _, name := range []string{"If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range"} {
			parts = append(parts, r.Header.Get(name))
		}
	}
	head := strings.Join(parts, "\n") + "\n"
	resource := canonicalResource(account, r, lite)
	var texts []string
	for _, order := range []func(a, b string) int{strings.Compare, compareWords} {
		if text := head + canonicalHeaders(r.Header, order) + resource; !slices.Contains(texts, text) {
			texts = append(texts, text)
		}
	}
	return texts
}

func canonicalHeaders(h http.Header, order func(a, b string) int) string {
	var names []string
	values := map[string]string{}
	for name, v := range h {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-ms-") {
			names = append(names, name)
			values[name] = strings.TrimSpace(strings.Join(v, ","))
		}
	}
	slices.SortFunc(names, order)
	var b strings.Builder
	for _, name := range names {
		b.WriteString(name + ":" + values[name] + "\n")
	}
	return b.String()
}

// compareWords is the service's order of header names: hyphens count last, and
// an underscore comes before digits and letters.
func compareWords(a, b string) int {
	key := func(s string) string {
		return strings.NewReplacer("-", "", "_", "\x01").Replace(s)
	}
	return cmp.Or(strings.Compare(key(a), key(b)), strings.Compare(b, a))
}

func canonicalResource(account string, r Request, lite bool) string {
	path := r.Path
	if path == "" {
		path = "/"
	}
	resource := "/" + account + path
	if lite {
		if comp := r.Query.Get("comp"); comp != "" {
			resource += "?comp=" + comp
		}
		return resource
	}
	var names []string
	values := map[string][]string{}
	for name, v := range r.Query {
		lower := strings.ToLower(name)
		if _, ok := values[lower]; !ok {
			names = append(names, lower)
		}
		values[lower] = append(values[lower], v...)
	}
	slices.Sort(names)
	for _, name := range names {
		slices.Sort(values[name])
		resource += "\n" + name + ":" + strings.Join(values[name], ",")
	}
	return resource
}
