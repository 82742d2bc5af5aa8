package rbac

import (
	"slices"
	"strings"
)

// Membership says that a principal, or a group, is in a group.
type Membership struct {
	Member string // object id
	Group  string // object id
}

// Key is the key of the document that keeps the membership: the ids in lower
// case, with a slash between them.
func (m Membership) Key() string { return strings.ToLower(m.Member + "/" + m.Group) }

// ParseMembership is the membership with a key.
func ParseMembership(key string) (m Membership, ok bool) {
	m.Member, m.Group, ok = strings.Cut(key, "/")
	return m, ok && m.Member != "" && m.Group != ""
}

// GroupsOf are the groups of every member, those included that it is in by
// another group, in lower case. Groups may be in each other.
func GroupsOf(all []Membership) map[string][]string {
	direct := map[string][]string{}
	for _, m := range all {
		member := strings.ToLower(m.Member)
		direct[member] = append(direct[member], strings.ToLower(m.Group))
	}
	out := make(map[string][]string, len(direct))
	for member, groups := range direct {
		found := slices.Clone(groups)
		for i := 0; i < len(found); i++ { // grows while it is walked
			for _, g := range direct[found[i]] {
				if g != member && !slices.Contains(found, g) {
					found = append(found, g)
				}
			}
		}
		slices.Sort(found)
		out[member] = slices.Compact(found)
	}
	return out
}
