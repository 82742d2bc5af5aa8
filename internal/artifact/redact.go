package artifact

import (
	"errors"
	"net/url"
	"regexp"
	"strings"
)

// hidden replaces a secret in text meant for people.
const hidden = "REDACTED"

// secretWords mark query parameters whose values grant access: shared access
// signatures, pre-signed URLs, tokens and passwords.
var secretWords = []string{
	"sig", "token", "secret", "password", "passwd", "credential", "apikey", "api_key", "api-key", "accesskey", "access_key", "auth", "key", "code",
}

func secretParam(name string) bool {
	name = strings.ToLower(name)
	for _, w := range secretWords {
		if strings.Contains(name, w) {
			return true
		}
	}
	return false
}

// Redact returns uri as it may be shown or stored: without user information and
// fragment, and with the values of parameters that grant access replaced. Text
// that does not parse as a URI is scrubbed as free text.
func Redact(uri string) string {
	u, err := url.Parse(uri)
	if err != nil || u.Opaque != "" {
		return scrub(uri)
	}
	if u.Scheme == "" && u.Host == "" {
		return scrub(uri) // a file path
	}
	u.User = nil
	u.Fragment, u.RawFragment = "", ""
	u.RawQuery = mapQuery(u.RawQuery, func(name, _ string) (string, bool) {
		return hidden, secretParam(name)
	})
	return u.String()
}

// withoutSecrets is uri without the parts that grant access: its identity
// across renewed signatures.
func withoutSecrets(u *url.URL) string {
	c := *u
	c.User = nil
	c.Fragment, c.RawFragment = "", ""
	c.RawQuery = mapQuery(c.RawQuery, func(name, _ string) (string, bool) { return "", secretParam(name) })
	return c.String()
}

// mapQuery rewrites a raw query, keeping its order. change returns a parameter's
// new value ("" drops it) and whether it changes at all.
func mapQuery(raw string, change func(name, value string) (string, bool)) string {
	if raw == "" {
		return ""
	}
	var out []string
	for _, part := range strings.FieldsFunc(raw, func(r rune) bool { return r == '&' || r == ';' }) {
		name, value, _ := strings.Cut(part, "=")
		decoded, err := url.QueryUnescape(name)
		if err != nil {
			decoded = hidden + " key" // an undecodable name may be anything
		}
		v, changed := change(decoded, value)
		switch {
		case !changed:
			out = append(out, part)
		case v != "":
			out = append(out, name+"="+v)
		}
	}
	return strings.Join(out, "&")
}

var (
	userinfoText = regexp.MustCompile(`//[^/?#\s"'<>]*@`)
	secretText   = regexp.MustCompile(`(?i)([\w%.-]*(?:` + strings.Join(secretWords, "|") + `)[\w%.-]*=)[^&;\s"'<>]*`)
)

// scrub removes what looks like a secret from free text, such as the message of
// a library's error.
func scrub(text string) string {
	text = userinfoText.ReplaceAllString(text, "//")
	return secretText.ReplaceAllString(text, "${1}"+hidden)
}

// cause strips the URL that net/http puts around an error and scrubs the rest.
func cause(err error) error {
	var u *url.Error
	for errors.As(err, &u) {
		err = u.Err
	}
	if text := err.Error(); scrub(text) != text {
		return &scrubbed{text: scrub(text), err: err}
	}
	return err
}

// scrubbed shows err without its secrets; errors.As and errors.Is see through it.
type scrubbed struct {
	text string
	err  error
}

func (s *scrubbed) Error() string { return s.text }
func (s *scrubbed) Unwrap() error { return s.err }
