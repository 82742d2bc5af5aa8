//go:build conformance

package imagebuilder_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"path"
	"regexp"
	"strings"
	"testing"
	"time"

	"goldsmith/internal/armapi/imagebuilder/imagebuildertest"
)

// bindings are what the placeholders of a recording stand for here. Those that
// are no GUID stand for themselves without braces.
type bindings map[string]string

func (b bindings) clone() bindings { return maps.Clone(b) }

var placeholder = regexp.MustCompile(`\{[A-Za-z]+[0-9]*\}`)

// expand fills the placeholders in, except GUIDs that are not known yet.
func (b bindings) expand(text string) string {
	return placeholder.ReplaceAllStringFunc(text, func(p string) string {
		name := strings.Trim(p, "{}")
		switch v, ok := b[strings.ToLower(name)]; {
		case ok && isGUID(name):
			return cased(name, v)
		case ok:
			return v
		case isGUID(name):
			return p
		}
		return name
	})
}

func isGUID(name string) bool { return strings.HasPrefix(strings.ToLower(name), "guid") }

// cased is a GUID in the case of its placeholder.
func cased(name, guid string) string {
	if strings.HasPrefix(name, "GUID") {
		return strings.ToUpper(guid)
	}
	return guid
}

// match reports whether got is the recorded text, and binds GUIDs.
func (b bindings) match(recorded, got string) bool {
	var pattern strings.Builder
	var names []string
	last := 0
	for _, at := range placeholder.FindAllStringIndex(recorded, -1) {
		pattern.WriteString(regexp.QuoteMeta(recorded[last:at[0]]))
		last = at[1]
		name := recorded[at[0]+1 : at[1]-1]
		if filled := b.expand(recorded[at[0]:at[1]]); !strings.HasPrefix(filled, "{") {
			pattern.WriteString(regexp.QuoteMeta(filled))
			continue
		}
		names = append(names, name)
		pattern.WriteString(`([0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12})`)
	}
	pattern.WriteString(regexp.QuoteMeta(recorded[last:]))
	m := regexp.MustCompile("^" + pattern.String() + "$").FindStringSubmatch(got)
	if m == nil {
		return false
	}
	for i, name := range names {
		if cased(name, m[i+1]) != m[i+1] && strings.HasPrefix(name, "GUID") {
			return false
		}
		b[strings.ToLower(name)] = strings.ToLower(m[i+1])
	}
	return true
}

// difference is one place where an answer is not as recorded.
type found struct{ path, text string }

// comparison finds the differences between a recorded answer and ours.
type comparison struct {
	t     *testing.T
	bound bindings
	found []found
}

func (c *comparison) differ(path, format string, args ...any) {
	c.found = append(c.found, found{path, fmt.Sprintf(format, args...)})
}

func (c *comparison) answer(x exchange, a imagebuildertest.Answer) {
	if a.Status != x.Status {
		c.differ("HTTP status", "%d, recorded %d: %s", a.Status, x.Status, a.Text)
		return
	}
	c.headers(x, a)
	if len(x.Body) == 0 || string(x.Body) == "null" {
		if a.Text != "" {
			c.differ("body", "%s, recorded none", a.Text)
		}
		return
	}
	var got any
	if err := json.Unmarshal([]byte(a.Text), &got); err != nil {
		c.differ("body", "%v: %s", err, a.Text)
		return
	}
	c.value("", x.decoded(c.t), got)
}

// headers compares those that say something to clients.
func (c *comparison) headers(x exchange, a imagebuildertest.Answer) {
	for _, name := range []string{"Azure-AsyncOperation", "Location", "Content-Type", "Retry-After", "ETag", "x-ms-request-id"} {
		recorded, ok := x.Header[name].(string)
		got := a.Header.Get(name)
		switch {
		case name == "x-ms-request-id":
			if got == "" {
				c.differ("header "+name, "missing")
			}
		case !ok && got != "":
			c.differ("header "+name, "%s, recorded none", got)
		case ok && got == "":
			c.differ("header "+name, "missing, recorded %s", recorded)
		case ok && strings.HasPrefix(recorded, "https://"):
			c.link(name, recorded, got)
		case ok && got != recorded:
			c.differ("header "+name, "%s, recorded %s", got, recorded)
		}
	}
	if op := a.Header.Get("Azure-AsyncOperation"); op != "" && !strings.Contains(op, a.Header.Get("x-ms-request-id")) {
		c.differ("header x-ms-request-id", "%s, but the operation is %s", a.Header.Get("x-ms-request-id"), op)
	}
}

// link compares addresses without the host. Recorded ones may be signed.
func (c *comparison) link(name, recorded, got string) {
	recorded, _, signed := strings.Cut(recorded, "&t=")
	if signed {
		c.differ("header "+name+" signature", "not signed")
	}
	recorded = strings.TrimPrefix(recorded, "https://management.azure.com")
	if at := strings.Index(got, "/subscriptions/"); at < 0 || !c.bound.match(recorded, got[at:]) {
		c.differ("header "+name, "%s, recorded %s", got, recorded)
	}
}

// times are members whose value is a time, digests those that are a SHA-256 of
// content that is not recorded.
var (
	times   = map[string]bool{"startTime": true, "endTime": true, "time": true}
	digests = map[string]bool{"sha256Checksum": true}
	digest  = regexp.MustCompile(`^[0-9a-f]{64}$`)

	stagingID = regexp.MustCompile(`^/subscriptions/[0-9a-f-]{36}/resourceGroups/IT_.{1,40}_[0-9a-f-]{36}$`)
)

const zeroGUID = "00000000-0000-0000-0000-000000000000"

const zeroTime = "0001-01-01T00:00:00Z"

// value compares two JSON values. Elements of arrays have the name "#".
func (c *comparison) value(at string, recorded, got any) {
	switch r := recorded.(type) {
	case map[string]any:
		g, ok := got.(map[string]any)
		if !ok {
			c.differ(at, "%v, recorded an object", got)
			return
		}
		c.object(at, r, g)
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(r) {
			c.differ(at, "%v, recorded %d elements", got, len(r))
			return
		}
		for i := range r {
			c.value(at+".#", r[i], g[i])
		}
	case string:
		g, ok := got.(string)
		name := path.Base(strings.ReplaceAll(at, ".", "/"))
		switch {
		case !ok:
			c.differ(at, "%v, recorded %s", got, r)
		case times[name]:
			if _, err := time.Parse(time.RFC3339Nano, g); err != nil || (r == zeroTime) != (g == zeroTime) {
				c.differ(at, "%s, recorded %s", g, r)
			}
		case name == "exactStagingResourceGroup" && strings.Contains(r, "/IT_"):
			// It has the names of group and template, which are not recorded.
			tail := strings.LastIndex(r, "_{")
			i := len(g) - len(zeroGUID) - 1
			if i < 0 || !stagingID.MatchString(g) || !c.bound.match(r[tail:], g[i:]) {
				c.differ(at, "%s, recorded %s", g, r)
			}
		case digests[name]:
			if !digest.MatchString(g) {
				c.differ(at, "%s is no SHA-256", g)
			}
		case !c.bound.match(r, g):
			c.differ(at, "%s, recorded %s", g, r)
		}
	default:
		if recorded != got {
			c.differ(at, "%v, recorded %v", got, recorded)
		}
	}
}

func (c *comparison) object(at string, recorded, got map[string]any) {
	below := func(key string) string { return strings.TrimPrefix(at+"."+key, ".") }
	// Keys may have placeholders: ids of identities do.
	left := maps.Clone(got)
	for _, key := range sortedKeys(recorded) {
		mine := c.bound.expand(key)
		v, ok := left[mine]
		if !ok {
			c.differ(below(key), "missing, recorded %v", recorded[key])
			continue
		}
		delete(left, mine)
		c.value(below(key), recorded[key], v)
	}
	for _, key := range sortedKeys(left) {
		c.differ(below(key), "%v, not recorded", left[key])
	}
}
