package armapi

import (
	"net/url"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"goldsmith/internal/arm"
)

// maxPath is the longest path in bytes that is looked at. Queries are not
// counted: signed polling addresses are long.
const maxPath = 4096

// target is what a path names. Paths without a provider are of
// Microsoft.Resources: "/subscriptions/S/resourceGroups/G" has the types
// "subscriptions", "resourceGroups".
type target struct {
	scope     string   // id in front of the provider, "" for the tenant
	namespace string   // as typed
	types     []string // as typed
	names     []string // one per type; one less when odd
	odd       bool     // the last type has no name: a collection or an action
}

// parseTarget reads the escaped path of a request. Several slashes are one, and
// one at the end is none: clients make both.
func parseTarget(escaped string) (target, error) {
	if len(escaped) > maxPath {
		return target{}, arm.Errorf(codeURITooLong, "the path has %d bytes; at most %d are read", len(escaped), maxPath)
	}
	var segments []string
	for raw := range strings.SplitSeq(escaped, "/") {
		if raw == "" {
			continue
		}
		s, err := url.PathUnescape(raw)
		if err != nil || !isSegment(s) {
			return target{}, arm.Errorf(codeInvalidURI, "the path segment '%s' cannot be part of a resource id", clip(raw))
		}
		segments = append(segments, s)
	}
	return splitTarget(segments)
}

// isSegment refuses what would let one id pass for another.
func isSegment(s string) bool {
	return s != "." && s != ".." && utf8.ValidString(s) && strings.TrimSpace(s) != "" &&
		!strings.ContainsFunc(s, func(r rune) bool { return strings.ContainsRune(`/\%?#<>`, r) || unicode.IsControl(r) })
}

func splitTarget(segments []string) (target, error) {
	if len(segments) == 0 {
		return target{}, arm.Errorf(codeInvalidURI, "the path names no resource")
	}
	t := target{namespace: resourcesNamespace}
	named := false // the provider stands in the path
	rest := segments
	// Pairs of type and name make an id, so a provider stands at an even place.
	for i := (len(segments) - 1) / 2 * 2; i >= 0; i -= 2 {
		if !strings.EqualFold(segments[i], "providers") || len(segments) < i+3 {
			continue
		}
		if i >= 2 && strings.EqualFold(segments[i-2], "providers") && strings.EqualFold(segments[i-1], featuresNamespace) {
			continue // "Microsoft.Features/providers/NS/features/F" is one type
		}
		t.namespace, rest, named = segments[i+1], segments[i+2:], true
		if i > 0 {
			t.scope = "/" + strings.Join(segments[:i], "/")
		}
		break
	}
	for i := 0; i < len(rest); i += 2 {
		t.types = append(t.types, rest[i])
		if i+1 < len(rest) {
			t.names = append(t.names, rest[i+1])
		}
	}
	t.odd = len(rest)%2 == 1
	if named || len(t.types) == 0 {
		return t, nil
	}
	if !strings.EqualFold(t.types[0], "subscriptions") && !strings.EqualFold(t.types[0], "providers") && !strings.EqualFold(t.types[0], "tenants") {
		return target{}, arm.Errorf(codeInvalidURI, "'/%s' is not a path of Azure Resource Manager: it begins with /subscriptions, /providers or /tenants", clip(segments[0]))
	}
	return t, nil
}

// subscription is the GUID in the target, "" for one of the tenant.
func (t *target) subscription() string {
	if t.scope == "" {
		if len(t.names) > 0 && strings.EqualFold(t.types[0], "subscriptions") {
			return t.names[0]
		}
		return ""
	}
	return pairs(t.scope).at("subscriptions", 0)
}

// group is the name of the resource group in the target, or "".
func (t *target) group() string {
	if t.scope == "" {
		if len(t.names) > 1 && strings.EqualFold(t.types[1], "resourceGroups") {
			return t.names[1]
		}
		return ""
	}
	return pairs(t.scope).at("resourceGroups", 1)
}

func (t *target) inGroup() bool { return t.scope != "" && t.group() != "" }

// plainScope reports whether the scope is a subscription or a group, and no
// resource.
func (t *target) plainScope() bool {
	p := pairs(t.scope)
	return p.at("subscriptions", 0) != "" && (len(p) == 2 || (len(p) == 4 && p.at("resourceGroups", 1) != ""))
}

// pairs are the segments of an id.
func pairs(id string) segmentPairs { return strings.Split(strings.Trim(id, "/"), "/") }

type segmentPairs []string

// at is the name of the pair at index i if its type is typ.
func (p segmentPairs) at(typ string, i int) string {
	if len(p) > 2*i+1 && strings.EqualFold(p[2*i], typ) {
		return p[2*i+1]
	}
	return ""
}

// id is the full id of the target's resource, with the well-known words in
// their usual casing. For a collection or an action it is that of the parent.
func (t *target) id(subscription string) string {
	var b strings.Builder
	b.WriteString(canonicalScope(t.scope, subscription))
	if t.namespace != resourcesNamespace || t.scope != "" {
		if len(t.names) == 0 {
			if b.Len() == 0 {
				return "/"
			}
			return b.String()
		}
		b.WriteString("/providers/" + t.namespace)
	}
	for i, name := range t.names {
		b.WriteString("/" + t.types[i] + "/" + name)
	}
	if b.Len() == 0 {
		return "/"
	}
	return canonicalScope(b.String(), subscription)
}

// canonicalScope writes the words of an id that every client spells as it likes
// in one way. Names stay as they are typed.
func canonicalScope(id, subscription string) string {
	p := pairs(id)
	for i := 0; i < len(p); i += 2 {
		switch {
		case strings.EqualFold(p[i], "subscriptions"):
			p[i] = "subscriptions"
			if i+1 < len(p) && strings.EqualFold(p[i+1], subscription) {
				p[i+1] = subscription
			}
		case strings.EqualFold(p[i], "resourceGroups"):
			p[i] = "resourceGroups"
		case strings.EqualFold(p[i], "providers"):
			p[i] = "providers"
		}
	}
	if len(p) == 1 && p[0] == "" {
		return ""
	}
	return "/" + strings.Join(p, "/")
}

// nameRule is what names of a type look like.
type nameRule struct {
	pattern string
	re      *regexp.Regexp
}

func newNameRule(pattern string) (nameRule, error) {
	if pattern == "" {
		return nameRule{}, nil
	}
	re, err := regexp.Compile(`\A(?:` + pattern + `)\z`)
	return nameRule{pattern, re}, err
}

func (n nameRule) match(name string) bool {
	if n.re != nil {
		return n.re.MatchString(name)
	}
	return utf8.RuneCountInString(name) <= 260 && !strings.ContainsAny(name, "&:") &&
		!strings.HasSuffix(name, ".") && !strings.HasSuffix(name, " ")
}

func (n nameRule) says() string {
	if n.re == nil {
		return ": it has at most 260 characters, none of <>%&:\\?/# and no dot or blank at its end"
	}
	return ": it must match " + n.pattern
}

// clip shortens what a client sent for a message.
func clip(s string) string {
	const most = 80
	if utf8.RuneCountInString(s) <= most {
		return s
	}
	return string([]rune(s)[:most]) + "…"
}
