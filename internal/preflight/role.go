package preflight

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"goldsmith/internal/rbac"
)

// Role is a custom role definition in the permissions document's format.
type Role struct {
	Name             string   `json:"Name"`
	IsCustom         bool     `json:"IsCustom"`
	Description      string   `json:"Description"`
	Actions          []string `json:"Actions"`
	NotActions       []string `json:"NotActions"`
	AssignableScopes []string `json:"AssignableScopes"`
}

// JSON is the role as the document writes it.
func (r Role) JSON() []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "    ")
	if err := e.Encode(r); err != nil {
		panic("preflight: a role of strings does not encode: " + err.Error())
	}
	return b.Bytes()
}

// Grant is what gives one principal the rights that it needs at some scopes:
// a custom role, or a built-in one.
type Grant struct {
	Principal Principal
	Role      *Role  // nil for a built-in role
	RoleName  string // of either
	File      string // name of the file that the commands read Role from
	Scopes    []string
}

// names and descriptions of the custom roles, and the files they go into.
var customRoles = map[Purpose]struct{ name, file, description string }{
	Distribute: {"Azure Image Builder Service Image Creation Role", "aibRoleImageCreation", "Lets Image Builder publish images, and read the images in the same group"},
	Source:     {"Azure Image Builder Service Image Source Role", "aibRoleImageSource", "Lets Image Builder read the images that it builds from"},
	Network:    {"Azure Image Builder Service Networking Role", "aibRoleNetworking", "Lets Image Builder put build machines into a virtual network"},
}

// bundle is what one principal needs at one scope for one kind of role.
type bundle struct {
	principal Principal
	scope     string
	purpose   Purpose // of custom roles: Distribute, Source or Network
	builtIn   string  // name of the built-in role, "" for a custom one
	actions   []string
}

// bundles gathers needs by principal, scope and kind of role, in order. Where a
// principal both publishes to a group and reads from it, one role is for both;
// networking is apart from images, as in the document.
func bundles(needs []Need) []*bundle {
	var out []*bundle
	for _, n := range needs {
		name := builtInFor(n.Purpose)
		i := slices.IndexFunc(out, func(b *bundle) bool {
			return samePrincipal(b.principal, n.Principal) && strings.EqualFold(b.scope, n.Grant) &&
				b.builtIn == name && (b.purpose == Network) == (n.Purpose == Network)
		})
		if i < 0 {
			i = len(out)
			out = append(out, &bundle{principal: n.Principal, scope: n.Grant, purpose: n.Purpose, builtIn: name})
		}
		if n.Purpose == Distribute {
			out[i].purpose = Distribute
		}
		out[i].actions = appendNew(out[i].actions, n.Action)
	}
	return out
}

func samePrincipal(a, b Principal) bool { return a.Kind == b.Kind && strings.EqualFold(a.ID, b.ID) }

// Grants are the least grants for needs, in their order: one role for all scopes
// at which a principal needs the same.
func Grants(needs []Need) []Grant {
	var out []Grant
	var first []*bundle // behind each of out
	used := map[string]int{}
	for _, b := range bundles(needs) {
		i := slices.IndexFunc(first, func(f *bundle) bool {
			return samePrincipal(f.principal, b.principal) && f.builtIn == b.builtIn &&
				(b.builtIn != "" || f.purpose == b.purpose && sameSet(f.actions, b.actions))
		})
		if i >= 0 {
			out[i].Scopes = appendNew(out[i].Scopes, b.scope)
			if out[i].Role != nil {
				out[i].Role.AssignableScopes = out[i].Scopes
			}
			continue
		}
		g := Grant{Principal: b.principal, RoleName: b.builtIn, Scopes: []string{b.scope}}
		if b.builtIn == "" {
			about := customRoles[b.purpose]
			used[about.name]++
			if n := used[about.name]; n > 1 { // role names are unique
				about.name, about.file = fmt.Sprint(about.name, " ", n), fmt.Sprint(about.file, n)
			}
			g.RoleName, g.File = about.name, about.file+".json"
			g.Role = &Role{
				Name: about.name, IsCustom: true, Description: about.description,
				Actions: b.actions, NotActions: []string{}, AssignableScopes: g.Scopes,
			}
		}
		out, first = append(out, g), append(first, b)
	}
	return out
}

func sameSet(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

func appendNew(list []string, s string) []string {
	if slices.ContainsFunc(list, func(have string) bool { return strings.EqualFold(have, s) }) {
		return list
	}
	return append(list, s)
}

// Commands are the az lines that make the grant.
func (g Grant) Commands() []string {
	var lines []string
	if g.Role != nil {
		lines = append(lines, "az role definition create --role-definition ./"+g.File)
	}
	for _, scope := range g.Scopes {
		lines = append(lines, fmt.Sprintf("az role assignment create --assignee %s --role %s --scope %s", g.assignee(), quote(g.RoleName), quote(scope)))
	}
	return lines
}

// assignee is the principal as an argument of az.
func (g Grant) assignee() string {
	switch p := g.Principal; {
	case p.Kind == Service:
		return rbac.BuilderApp
	case p.Kind == Identity && p.ID != "":
		return `"$(az identity show --ids ` + quote(p.ID) + ` --query principalId -o tsv)"`
	case p.Kind == Identity:
		return "PRINCIPAL_ID_OF_THE_IDENTITY"
	case p.Object != "":
		return quote(p.Object)
	}
	return "YOU"
}

// quote makes s one word of a shell.
func quote(s string) string {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("/._-:@=+,", r)
	}
	if s != "" && !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) }) {
		return s
	}
	if !strings.ContainsFunc(s, func(r rune) bool { return !plain(r) && r != ' ' && r != '(' && r != ')' }) {
		return `"` + s + `"`
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
