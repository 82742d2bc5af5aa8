package rbac

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
)

// Request asks whether a principal may do something.
type Request struct {
	Principal string   // object id
	Groups    []string // object ids of groups that it is in beside those of State.Memberships
	Action    string   // e.g. "Microsoft.Compute/images/read"
	Scope     string   // resource id that the action is on
	Data      bool     // a data action: the content of a resource, such as a blob
}

// Decision is the answer to a Request.
type Decision struct {
	Allowed    bool
	Assignment string // id of the assignment that allowed it, "" for none
	Role       string // display name of the role that allowed it
}

// State is what a Policy is compiled from.
type State struct {
	Roles       []Role // custom ones; the built-in ones are always there
	Assignments []Assignment
	// Registered are the ids of subscriptions in which the Image Builder service
	// is registered: there it may make and delete staging groups, and nothing else.
	Registered []string
	// Memberships are who is in which group.
	Memberships []Membership
}

// Policy is a compiled State. It never changes, so that any number of
// goroutines may use it.
type Policy struct {
	principals map[string]grants
	registered map[string]bool
	groups     map[string][]string // of a principal or group, by its object id in lower case
}

// grants are one principal's assignments, by scope key.
type grants map[string][]grant

type grant struct {
	role       *compiledRole
	assignment string
}

// Compile makes a Policy. Assignments of roles that do not exist, and those with
// a condition, grant nothing.
func Compile(s State) *Policy {
	roles := make(map[string]*compiledRole, len(builtIn)+len(s.Roles))
	for _, r := range builtIn {
		roles[r.GUID()] = compileRole(r)
	}
	for _, r := range s.Roles {
		roles[r.GUID()] = compileRole(r)
	}
	p := &Policy{principals: map[string]grants{}, registered: map[string]bool{}, groups: GroupsOf(s.Memberships)}
	for _, sub := range s.Registered {
		p.registered[strings.ToLower(sub)] = true
	}
	for _, a := range s.Assignments {
		role := roles[lastSegment(a.Role)]
		if role == nil || a.Condition != "" {
			continue
		}
		principal := strings.ToLower(a.Principal)
		g := p.principals[principal]
		if g == nil {
			g = grants{}
			p.principals[principal] = g
		}
		key := scopeKey(a.Scope)
		g[key] = append(g[key], grant{role, a.ID})
	}
	for _, g := range p.principals {
		for _, at := range g {
			slices.SortFunc(at, func(a, b grant) int { return cmp.Compare(a.assignment, b.assignment) })
		}
	}
	return p
}

// keyBytes is the longest scope, action or object id that is put into lower
// case without an allocation.
const keyBytes = 1024

// Check decides r. What nothing grants is denied. Of several assignments that
// allow it, one at the widest scope is named.
func (p *Policy) Check(r Request) Decision {
	var scopeBuf, actionBuf [keyBytes]byte
	scope := bytes.TrimRight(lower(scopeBuf[:0], r.Scope), "/")
	action := lower(actionBuf[:0], r.Action)
	if d := p.checkMember(r.Principal, scope, action, r.Data); d.Allowed {
		return d
	}
	for _, g := range r.Groups {
		if d := p.checkMember(g, scope, action, r.Data); d.Allowed {
			return d
		}
	}
	if p.stages(r.Principal, scope) {
		return Decision{Allowed: true, Assignment: StagingAssignment, Role: StagingRole}
	}
	return Decision{}
}

// checkMember decides for one principal or group and the groups that it is in.
func (p *Policy) checkMember(principal string, scope, action []byte, data bool) Decision {
	if d := p.check(principal, scope, action, data); d.Allowed {
		return d
	}
	for _, g := range byObject(p.groups, principal) {
		if d := p.check(g, scope, action, data); d.Allowed {
			return d
		}
	}
	return Decision{}
}

// byObject is m at an object id, whose letters may be of any case.
func byObject[V ~[]string | grants](m map[string]V, object string) V {
	v, ok := m[object] // object ids come in lower case mostly
	if !ok {
		var buf [64]byte
		v = m[string(lower(buf[:0], object))]
	}
	return v
}

// check decides for one principal or group, without the groups that it is in.
func (p *Policy) check(principal string, scope, action []byte, data bool) Decision {
	g := byObject(p.principals, principal)
	if g == nil {
		return Decision{}
	}
	for end := 0; ; {
		for _, one := range g[string(scope[:end])] {
			if one.role.allows(action, data) {
				return Decision{Allowed: true, Assignment: one.assignment, Role: one.role.name}
			}
		}
		if end == len(scope) {
			return Decision{}
		}
		// Scopes are pairs of a type and a name, so every other slash ends none.
		end = nextSlash(scope, nextSlash(scope, end))
	}
}

// nextSlash is where the slash after position at is, or the end.
func nextSlash(scope []byte, at int) int {
	if at+1 < len(scope) {
		if i := bytes.IndexByte(scope[at+1:], '/'); i >= 0 {
			return at + 1 + i
		}
	}
	return len(scope)
}

// lower is s in lower case, in buf where it fits there.
func lower(buf []byte, s string) []byte {
	if len(s) > cap(buf) {
		return []byte(strings.ToLower(s))
	}
	buf = buf[:len(s)]
	for i := range buf {
		c := s[i]
		if c >= 0x80 { // names may be of any script
			return []byte(strings.ToLower(s))
		}
		if c-'A' < 26 {
			c |= 0x20
		}
		buf[i] = c
	}
	return buf
}
