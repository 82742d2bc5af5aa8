package rbac

import (
	"bytes"
	"slices"
	"strings"
)

// pattern is an action with wildcards, in lower case, cut at its stars. A star
// stands for any run of characters.
type pattern struct {
	parts [][]byte // one part: no star
}

// compilePatterns compiles actions. A star that is a whole segment in the middle
// ("userAssignedIdentities/*/read") also stands for no segment at all: that is
// how the built-in roles mean it.
func compilePatterns(actions []string) []pattern {
	out := make([]pattern, 0, len(actions))
	for _, a := range actions {
		out = appendPatterns(out, nil, strings.Split(strings.ToLower(a), "/"), maxInnerStars)
	}
	return out
}

// maxInnerStars bounds how many patterns one action becomes: 2 to this power.
// Further inner stars stand for at least one segment.
const maxInnerStars = 4

// appendPatterns compiles done and todo, the segments of an action, with each
// inner star of todo there and left out.
func appendPatterns(out []pattern, done, todo []string, stars int) []pattern {
	for i := range todo[:len(todo)-1] {
		if todo[i] == "*" && len(done)+i > 0 && stars > 0 {
			out = appendPatterns(out, slices.Concat(done, todo[:i]), todo[i+1:], stars-1)
			return appendPatterns(out, slices.Concat(done, todo[:i+1]), todo[i+1:], stars-1)
		}
	}
	p := pattern{}
	for _, part := range strings.Split(strings.Join(slices.Concat(done, todo), "/"), "*") {
		p.parts = append(p.parts, []byte(part))
	}
	return append(out, p)
}

// matches reports whether a lower-case action is one of those that p stands for.
func (p pattern) matches(action []byte) bool {
	first := p.parts[0]
	if len(p.parts) == 1 {
		return bytes.Equal(first, action)
	}
	if !bytes.HasPrefix(action, first) {
		return false
	}
	action = action[len(first):]
	last := p.parts[len(p.parts)-1]
	for _, part := range p.parts[1 : len(p.parts)-1] {
		i := bytes.Index(action, part)
		if i < 0 {
			return false
		}
		action = action[i+len(part):]
	}
	return bytes.HasSuffix(action, last)
}

func matchesAny(patterns []pattern, action []byte) bool {
	for i := range patterns {
		if patterns[i].matches(action) {
			return true
		}
	}
	return false
}

// Grants reports whether the role contains an action, or with data a data
// action. It is for reports; Policy.Check does the same compiled.
func (r Role) Grants(action string, data bool) bool {
	return compileRole(r).allows([]byte(strings.ToLower(action)), data)
}

// compiledRole is a role made ready for matching.
type compiledRole struct {
	name        string
	permissions []compiledPermission
}

type compiledPermission struct{ actions, notActions, data, notData []pattern }

func compileRole(r Role) *compiledRole {
	c := &compiledRole{name: r.RoleName, permissions: make([]compiledPermission, len(r.Permissions))}
	for i, p := range r.Permissions {
		c.permissions[i] = compiledPermission{
			actions: compilePatterns(p.Actions), notActions: compilePatterns(p.NotActions),
			data: compilePatterns(p.DataActions), notData: compilePatterns(p.NotDataActions),
		}
	}
	return c
}

func (c *compiledRole) allows(action []byte, data bool) bool {
	for i := range c.permissions {
		p := &c.permissions[i]
		in, out := p.actions, p.notActions
		if data {
			in, out = p.data, p.notData
		}
		if matchesAny(in, action) && !matchesAny(out, action) {
			return true
		}
	}
	return false
}
