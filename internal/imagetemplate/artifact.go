package imagetemplate

import (
	"net/url"
	"regexp"
	"strings"
)

var (
	uriScheme = regexp.MustCompile(`^([A-Za-z][A-Za-z0-9+.-]*):`)
	sha256Hex = regexp.MustCompile(`^[0-9A-Fa-f]{64}$`)
)

// artifact is the address of a script or file. In a file for a build it may
// also be a path or a file: address; whether it can be fetched is not decided
// here.
func (r *reader) artifact(m *members, key string) string {
	v := m.get(key)
	if v.empty() || v.open {
		return m.text(key)
	}
	scheme := uriScheme.FindStringSubmatch(v.text)
	local := scheme == nil || strings.EqualFold(scheme[1], "file")
	switch {
	case strings.ContainsRune(v.text, 0):
		r.report.bad(v.at, v.text, "it must not hold a NUL character")
	case local && r.service:
		r.report.bad(v.at, v.text, "it must be an absolute http or https address")
	case local && scheme != nil:
		if u, err := url.Parse(v.text); err != nil || u.Host != "" && u.Host != "localhost" || u.Path == "" {
			r.report.bad(v.at, v.text, "a file address must be file:///PATH")
		}
	case !local:
		r.webAddress(v, "or a path")
	}
	return v.text
}

// webAddress checks for an absolute http or https address; local names what
// else is allowed in a file for a build.
func (r *reader) webAddress(v *value, local string) {
	u, err := url.Parse(v.text)
	if err == nil && (strings.EqualFold(u.Scheme, "http") || strings.EqualFold(u.Scheme, "https")) && u.Hostname() != "" {
		return
	}
	if local != "" && !r.service {
		local = ", " + local
	} else {
		local = ""
	}
	r.report.bad(v.at, v.text, "it must be an absolute http or https address%s", local)
}

// checksum is the sha256Checksum of the artifact at the member address, in
// lower case; "" when there is none. Both cases of the digits are accepted.
func (r *reader) checksum(m *members, address string) string {
	v := m.get("sha256Checksum")
	if v.empty() || v.open {
		return ""
	}
	if !sha256Hex.MatchString(v.text) {
		r.report.bad(v.at, v.text, "it must be the 64 hexadecimal digits of a SHA-256 digest")
		return ""
	}
	if !m.tried(address) {
		r.report.bad(v.at, v.text, "it has nothing to check: it goes only with %s", m.shape.spelling(address, r.version))
	}
	return strings.ToLower(v.text)
}
