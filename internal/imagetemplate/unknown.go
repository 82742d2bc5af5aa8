package imagetemplate

import (
	"fmt"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/jsontree"
)

// envelope are top-level members that files of deployments carry around the
// body of a resource.
var envelope = []string{"apiVersion", "dependsOn", "comments", "scope", "$schema", "contentVersion"}

// networkKeys are the names under which a body gives the network to build on.
// Where a version does not have them they are refused: a build that ignored
// them would run outside the user's network.
var networkKeys = []string{"vnetConfig", "VirtualNetworkConfig"}

// unknown judges a member that the version does not have.
func (r *reader) unknown(m jsontree.Member, at place, s *shape, way chain) {
	here := at.key(m)
	if s == templateShape && !r.service && contains(envelope, m.Key) {
		r.envelope(m, here)
		return
	}
	if r.version.strict() {
		r.report.unmarshal(here, fmt.Sprintf("%sunmarshalling type *%s.%s, unknown field %q",
			way, r.version.goPackage(), s.goName, shorten(m.Key)), r.history(m.Key, s))
		return
	}
	if why := r.network(m, s); why != "" {
		r.report.fail(here, arm.CodeValidationFailed, "'%s' %s; it is refused and not ignored, "+
			"because the build would run outside that network", here.path(), why)
		return
	}
	if s == templateShape && strings.EqualFold(m.Key, "apiVersion") {
		return
	}
	hint := r.history(m.Key, s)
	if hint == "" && !r.report.full() {
		hint = strings.TrimPrefix(perhaps(m.Key, s.names(r.version)), "; ")
	}
	if hint != "" {
		hint = ": " + hint
	}
	r.report.warn(here, "'%s' is not a field of API version %s and is ignored, as the real service does%s",
		here.path(), r.version, hint)
}

// envelope judges a member that belongs around a body, in a file for a build.
func (r *reader) envelope(m jsontree.Member, here place) {
	switch {
	case r.version.strict():
		r.report.warn(here, "'%s' is accepted in a file, but the real service refuses it in a body from %s on",
			m.Key, v2024Feb)
	case strings.EqualFold(m.Key, "dependsOn") && !blank(m.Value):
		r.report.warn(here, "'dependsOn' is ignored: it orders the resources of a deployment")
	}
}

// network says why a member that would be ignored must not be, "" when it may.
func (r *reader) network(m jsontree.Member, s *shape) string {
	if s == vnetByNameShape && strings.EqualFold(m.Key, "subnetId") && !blank(m.Value) {
		return fmt.Sprintf("came with API version %s: in %s a network is named by name, subnetName and resourceGroupName",
			v2020Feb, r.version)
	}
	if s == vnetShape && contains(vnetByNameShape.names(r.version), m.Key) && !blank(m.Value) {
		return fmt.Sprintf("is the way of API version %s to name a network: in %s give subnetId", v2019May, r.version)
	}
	if namesNetwork(m) {
		return fmt.Sprintf("names a network where API version %s does not look for one", r.version)
	}
	return ""
}

// namesNetwork reports whether a member is, or holds, a network to build on.
func namesNetwork(m jsontree.Member) bool {
	if contains(networkKeys, m.Key) && !blank(m.Value) {
		return true
	}
	var within func(n *jsontree.Node) bool
	within = func(n *jsontree.Node) bool {
		for _, item := range n.Items {
			if within(item) {
				return true
			}
		}
		for _, m := range n.Members {
			if contains(networkKeys, m.Key) && !blank(m.Value) || within(m.Value) {
				return true
			}
		}
		return false
	}
	return within(m.Value)
}

// history says in which versions a field exists that this one does not have, or
// what it is called; "" when no version has it.
func (r *reader) history(key string, s *shape) string {
	if in, ok := s.elsewhere(key); ok && !in.has(r.version) {
		return lifetime(in, r.version)
	}
	for _, name := range s.names(r.version) {
		if name != key && strings.EqualFold(name, key) {
			return "the name is '" + name + "', and case counts"
		}
	}
	return ""
}

func lifetime(in span, v version) string {
	if v < in.from {
		return "it came with API version " + in.from.String()
	}
	return "the last API version with it is " + in.until.String()
}

// wrongVariant says why a discriminator selects nothing.
func (r *reader) wrongVariant(got string, u *union) string {
	var names []string
	for _, w := range u.variants {
		switch {
		case w.in.has(r.version):
			names = append(names, w.spelling(r.version))
		case strings.EqualFold(w.name, got):
			return "in " + r.version.String() + " there is no " + w.name + ": " + lifetime(w.in, r.version)
		}
	}
	return r.oneOf(got, names)
}

// wrongChoice says why a value is not among the choices.
func (r *reader) wrongChoice(got string, choices []choice) string {
	var names []string
	for _, c := range choices {
		switch {
		case c.in.has(r.version):
			names = append(names, c.text)
		case strings.EqualFold(c.text, got):
			return "in " + r.version.String() + " there is no " + c.text + ": " + lifetime(c.in, r.version)
		}
	}
	return r.oneOf(got, names)
}

func (r *reader) oneOf(got string, names []string) string {
	for _, name := range names {
		if strings.EqualFold(name, got) {
			return fmt.Sprintf("write %s: from API version %s on case counts", name, v2024Feb)
		}
	}
	return "it must be one of " + strings.Join(names, ", ") + perhaps(got, names)
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if strings.EqualFold(n, name) {
			return true
		}
	}
	return false
}
