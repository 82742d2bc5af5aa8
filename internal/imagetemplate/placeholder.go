package imagetemplate

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/jsontree"
)

// A placeholder is <NAME> in a string or key: text that a person was to
// replace, with sed in the documents. Angle brackets also mean other things in
// a command ("cat <file", "<<EOF", HTML, "> log"), so strings that are commands
// have a rule of their own: in them only names that were given explicitly
// (Options.Set) are filled, a placeholder is never demanded, and one that
// follows another "<" is never touched.

var placeholder = regexp.MustCompile(`<([A-Za-z][A-Za-z0-9_-]*)>`)

// commandFields are the members whose strings are commands or expressions of
// another language.
var commandFields = []string{"inline", "restartCommand", "restartCheckCommand", "searchCriteria", "filters"}

// filling is the state of replacing placeholders in one body.
type filling struct {
	options Options
	report  *report

	first   map[string]place // the first demand of each unfilled name
	demands map[string]int   // how often each unfilled name is demanded
	order   []string         // the unfilled names, as they come in the file
	seen    map[string]bool  // every name in the file
	used    map[string]bool  // names of Set that were used
	inert   []inertName      // what a command holds and was not filled

	openValues map[*jsontree.Node]bool
	openKeys   map[*jsontree.Node]bool // by the member's value
}

// inertName is a placeholder in a command that was left as it stands.
type inertName struct {
	name string
	at   place
}

func newFilling(o Options, r *report) *filling {
	return &filling{
		options: o, report: r,
		first: map[string]place{}, demands: map[string]int{}, seen: map[string]bool{}, used: map[string]bool{},
		openValues: map[*jsontree.Node]bool{}, openKeys: map[*jsontree.Node]bool{},
	}
}

// open reports whether a string holds a placeholder that was not filled.
func (f *filling) open(n *jsontree.Node) bool { return f.openValues[n] }

// openKey is open for the key of the member that has this value.
func (f *filling) openKey(n *jsontree.Node) bool { return f.openKeys[n] }

// apply fills the placeholders below n in place and reports what stays open.
func (f *filling) apply(n *jsontree.Node) {
	f.walk(&trail{node: n}, false)
	for _, name := range f.order {
		f.reportOpen(name)
	}
	for _, i := range f.inert {
		_, byDefault := f.options.Defaults[i.name]
		if _, demanded := f.first[i.name]; demanded || byDefault {
			f.report.warn(i.at, "<%s> stays as it is in a command: give --set %s=VALUE to fill it there too", i.name, i.name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.options.Set)) {
		if !f.used[name] {
			f.report.warn(place{}, "'%s' was set, but the file has no placeholder <%s>%s",
				name, name, perhaps(name, slices.Sorted(maps.Keys(f.seen))))
		}
	}
}

func (f *filling) walk(t *trail, command bool) {
	n := t.node
	switch n.Kind {
	case jsontree.String:
		var open bool
		if n.Text, open = f.fill(n.Text, t.place, command); open {
			f.openValues[n] = true
		}
	case jsontree.Array:
		for i := range n.Items {
			f.walk(t.element(i), command)
		}
	case jsontree.Object:
		for i := range n.Members {
			m, at := &n.Members[i], t.field(i)
			filled, open := f.fill(m.Key, at.key, false)
			if m.Key = filled; open {
				f.openKeys[m.Value] = true
			}
			f.walk(at, command || contains(commandFields, m.Key))
		}
		settleFilledKeys(n)
	}
}

// settleFilledKeys marks the members whose keys became equal by filling, as
// reading does for keys that are equal in the file.
func settleFilledKeys(n *jsontree.Node) {
	last := map[string]int{}
	for i, m := range n.Members {
		if j, twice := last[m.Key]; twice {
			n.Members[j].Overridden = true
		}
		last[m.Key] = i
	}
}

// fill replaces the placeholders of one string; open is set when one stays.
// What was filled in is not searched again.
func (f *filling) fill(s string, at func() place, command bool) (filled string, open bool) {
	if !strings.Contains(s, "<") {
		return s, false
	}
	var b strings.Builder
	end := 0
	for _, m := range placeholder.FindAllStringSubmatchIndex(s, -1) {
		name := s[m[2]:m[3]]
		b.WriteString(s[end:m[0]])
		end = m[1]
		f.seen[name] = true
		value, given := f.options.Set[name]
		switch {
		case command && m[0] > 0 && s[m[0]-1] == '<':
			b.WriteString(s[m[0]:m[1]])
			continue
		case given:
			f.used[name] = true
		case command:
			if len(f.inert) < maxProblems {
				f.inert = append(f.inert, inertName{name, at()})
			}
			b.WriteString(s[m[0]:m[1]])
			continue
		default:
			value, given = f.options.Defaults[name]
		}
		if !given {
			open = true
			f.demand(name, at)
			value = s[m[0]:m[1]]
		}
		b.WriteString(value)
	}
	b.WriteString(s[end:])
	return b.String(), open
}

func (f *filling) demand(name string, at func() place) {
	if f.demands[name] == 0 {
		f.first[name] = at()
		f.order = append(f.order, name)
	}
	f.demands[name]++
}

// reportOpen reports an unfilled name once, where it is demanded first.
func (f *filling) reportOpen(name string) {
	also := ""
	if n := f.demands[name]; n > 1 {
		also = fmt.Sprintf(" (%d times)", n)
	}
	p := problemAt(f.first[name], SeverityError, arm.CodePlaceholder, fmt.Sprintf(
		"the placeholder <%s> is not filled%s: give --set %s=VALUE", name, also, name))
	if f.options.AllowPlaceholders {
		p.Severity = SeverityWarning
	}
	f.report.add(p)
}
