package artifact

import (
	"net/url"
	"path"
	"path/filepath"
	"sort"
	"strings"

	"goldsmith/internal/arm"
)

// Mirror serves every http(s) URL under Prefix from To instead. Operators
// configure mirrors, so To may be at an address that fetches refuse.
type Mirror struct {
	Prefix string // http(s) URL without query
	To     string // absolute directory, or http(s) URL
}

// ParseMirror reads the "PREFIX=DIR-or-URL" of a --mirror flag. A relative
// directory is taken from the working directory.
func ParseMirror(s string) (Mirror, error) {
	prefix, to, ok := strings.Cut(s, "=")
	if !ok || prefix == "" || to == "" {
		return Mirror{}, arm.Errorf(arm.CodeUsage, "mirror %q is not PREFIX=DIRECTORY or PREFIX=URL", scrub(s))
	}
	p, err := url.Parse(prefix)
	if err != nil || !isWeb(p.Scheme) || p.Host == "" || p.RawQuery != "" || p.User != nil || p.Fragment != "" {
		return Mirror{}, arm.Errorf(arm.CodeUsage, "mirror prefix %q is not an http or https URL without user and query", Redact(prefix))
	}
	if t, err := url.Parse(to); err == nil && t.Scheme != "" && t.Host != "" {
		if !isWeb(t.Scheme) || t.RawQuery != "" || t.Fragment != "" {
			return Mirror{}, arm.Errorf(arm.CodeUsage, "mirror target %q is not an http or https URL without query", Redact(to))
		}
		return Mirror{Prefix: prefix, To: to}, nil
	}
	dir, err := filepath.Abs(to)
	if err != nil {
		return Mirror{}, arm.Errorf(arm.CodeUsage, "mirror directory %q cannot be located: %w", to, err)
	}
	return Mirror{Prefix: prefix, To: dir}, nil
}

func isWeb(scheme string) bool {
	return strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")
}

// mirrors is sorted by falling prefix length, so that the longest match wins.
type mirrors []Mirror

func newMirrors(in []Mirror) mirrors {
	out := append(mirrors(nil), in...)
	sort.SliceStable(out, func(i, j int) bool { return len(out[i].Prefix) > len(out[j].Prefix) })
	return out
}

// find returns the mirror of u and the slash-separated, cleaned path below it.
func (m mirrors) find(u *url.URL) (mirror Mirror, rest string, ok bool) {
	for _, c := range m {
		p, err := url.Parse(c.Prefix)
		if err != nil || !sameOrigin(p, u) {
			continue
		}
		have, want := path.Clean("/"+u.Path), path.Clean("/"+p.Path)
		if want == "/" {
			return c, strings.TrimPrefix(have, "/"), true
		}
		if have == want {
			return c, "", true
		}
		if r, found := strings.CutPrefix(have, want+"/"); found {
			return c, r, true
		}
	}
	return Mirror{}, "", false
}

// sameOrigin compares scheme, host and port as RFC 3986 normalises them.
func sameOrigin(a, b *url.URL) bool {
	return strings.EqualFold(a.Scheme, b.Scheme) &&
		strings.EqualFold(a.Hostname(), b.Hostname()) && portOf(a) == portOf(b)
}

func portOf(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case strings.EqualFold(u.Scheme, "https"):
		return "443"
	}
	return "80"
}

// target is where the mirror keeps rest of u: a URL, or a directory and a path
// in it. What grants access at the origin is not sent to the mirror.
func (m Mirror) target(u *url.URL, rest string) (web *url.URL, dir string) {
	t, err := url.Parse(m.To)
	if err != nil || t.Host == "" {
		return nil, m.To
	}
	c := *t
	if rest != "" {
		c = *t.JoinPath(strings.Split(rest, "/")...)
	}
	c.RawQuery = mapQuery(u.RawQuery, func(name, _ string) (string, bool) { return "", secretParam(name) })
	return &c, ""
}
