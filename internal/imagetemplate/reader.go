package imagetemplate

import (
	"goldsmith/internal/arm"
	"goldsmith/internal/jsontree"
)

// reader applies the tables of one API version to a body.
type reader struct {
	version version
	service bool
	// noIdentity allows an identity of type None where a build needs one.
	noIdentity bool
	report     *report
	fill       *filling // where unfilled placeholders are
}

// chain is the way from the root of a body to a value in the words of the real
// service's unmarshalling errors, each step ending in ": ".
type chain string

// in appends the type of an object.
func (c chain) in(r *reader, goName string) chain {
	return c + chain("unmarshalling type *"+r.version.goPackage()+"."+goName+": ")
}

// at appends a field of an object.
func (c chain) at(name string) chain { return c + chain("struct field "+goField(name)+": ") }

// members reads an object of shape s. discriminator is the member that selected
// the shape, "" for none; it has been read.
func (r *reader) members(n *jsontree.Node, at place, s *shape, discriminator string, way chain) *members {
	way = way.in(r, s.goName)
	if n.Kind != jsontree.Object {
		r.wrongType(n, at, jsontree.Object, "map[string]json.RawMessage", way)
		return nil
	}
	out := &members{at: at, shape: s, fields: map[string]*value{}, faulty: map[string]bool{}}
	r.settle(n, at, s)
	for _, m := range n.Members {
		if m.Overridden || discriminator != "" && r.version.same(m.Key, discriminator) {
			continue
		}
		f, known := s.find(m.Key, r.version)
		if !known {
			r.unknown(m, at, s, way)
			continue
		}
		here := at.member(m, f.name)
		if f.readOnly {
			r.report.warn(here, "'%s' is read-only: the service fills it, and it is ignored here", f.name)
		}
		if m.Value.Kind == jsontree.Null {
			continue
		}
		v := r.value(m.Value, here, f, way)
		if v == nil {
			out.faulty[f.key] = true
			continue
		}
		out.fields[f.key] = v
	}
	for _, f := range s.fields {
		if f.in.has(r.version) && f.required.has(r.version) && !out.faulty[f.key] && r.absent(out.fields[f.key]) {
			r.report.missing(at, f.name, "")
		}
	}
	return out
}

// absent reports whether a required field counts as missing: an empty object
// does not, what it lacks is reported by itself.
func (r *reader) absent(v *value) bool {
	return v == nil || v.node.Kind != jsontree.Object && v.empty()
}

// settle decides which of several members of one name counts: the last, as in
// the real service's JSON library. What decides where a build runs must not be
// given twice.
func (r *reader) settle(n *jsontree.Node, at place, s *shape) {
	last := map[string]int{}
	for i, m := range n.Members {
		name := m.Key
		f, known := s.find(m.Key, r.version)
		if known {
			name = "\x00" + f.key // apart from the names of unknown fields
		}
		j, twice := last[name]
		last[name] = i
		if !twice {
			continue
		}
		n.Members[j].Overridden = true
		first := at.key(n.Members[j])
		if known && f.single {
			r.report.fail(first, arm.CodeValidationFailed, "'%s' is given twice, here and on line %d: remove one", f.name, m.Line)
			continue
		}
		r.report.warn(first, "'%s' is given twice: this one is ignored, the one on line %d counts", n.Members[j].Key, m.Line)
	}
}

// value reads one value by its field; nil after an error.
func (r *reader) value(n *jsontree.Node, at place, f field, way chain) *value {
	v := &value{at: at, node: n, open: r.fill.open(n)}
	inner := way.at(f.name)
	ok := true
	switch f.kind {
	case textKind, intKind, boolKind:
		ok = r.scalar(v, f, inner)
	case textListKind:
		v.items, ok = r.list(v, f, text(f.name), inner, "[]*string")
	case intListKind:
		v.items, ok = r.list(v, f, integer(f.name).atLeast(minInt32), inner, "[]*int32")
	case textMapKind:
		v.entries, ok = r.entries(n, at, inner, "map[string]*string", func(n *jsontree.Node, at place) *value {
			if n.Kind == jsontree.Null {
				return &value{at: at, node: n}
			}
			return r.value(n, at, text(f.name), way)
		})
	case objectMapKind:
		v.entries, ok = r.entries(n, at, inner, "map[string]json.RawMessage", func(n *jsontree.Node, at place) *value {
			w := &value{at: at, node: n}
			if n.Kind == jsontree.Null {
				return w
			}
			w.object = r.members(n, at, f.of, "", inner)
			if w.object == nil {
				return nil
			}
			return w
		})
	case objectKind:
		v.object = r.members(n, at, f.of, "", inner)
		ok = v.object != nil
	case unionKind:
		v.object = r.union(n, at, f.union, way)
		ok = v.object != nil
	case objectListKind, unionListKind:
		v.items, ok = r.objectList(n, at, f, way)
	case anyKind:
	}
	if !ok {
		return nil
	}
	return v
}

// objectList reads an array of objects. Elements with faults are left out.
func (r *reader) objectList(n *jsontree.Node, at place, f field, way chain) ([]*value, bool) {
	if n.Kind != jsontree.Array {
		r.wrongType(n, at, jsontree.Array, "[]json.RawMessage", way.at(f.name))
		return nil, false
	}
	out := []*value{}
	for i, item := range n.Items {
		v := &value{at: at.item(i, item), node: item}
		if f.kind == unionListKind {
			v.object = r.union(item, v.at, f.union, way)
		} else {
			v.object = r.members(item, v.at, f.of, "", way.at(f.name))
		}
		if v.object != nil {
			out = append(out, v)
		}
	}
	return out, true
}

// entries reads an object with free keys.
func (r *reader) entries(n *jsontree.Node, at place, way chain, goType string, read func(*jsontree.Node, place) *value) ([]entry, bool) {
	if n.Kind != jsontree.Object {
		r.wrongType(n, at, jsontree.Object, goType, way)
		return nil, false
	}
	out := []entry{}
	for _, m := range n.Members {
		if m.Overridden {
			r.report.warn(at.key(m), "'%s' is given twice: this one is ignored, the last one counts", m.Key)
			continue
		}
		if v := read(m.Value, at.member(m, m.Key)); v != nil {
			out = append(out, entry{key: m.Key, at: at.key(m), open: r.fill.openKey(m.Value), value: v})
		}
	}
	return out, true
}

// union reads an object whose discriminator selects its shape.
func (r *reader) union(n *jsontree.Node, at place, u *union, way chain) *members {
	if n.Kind != jsontree.Object {
		r.wrongType(n, at, jsontree.Object, "map[string]any", way)
		return nil
	}
	var tag *value
	for _, m := range n.Members {
		if r.version.same(m.Key, u.discriminator) {
			tag = nil
			if m.Value.Kind != jsontree.Null {
				tag = r.value(m.Value, at.member(m, u.discriminator), text(u.discriminator), way.in(r, u.goName))
				if tag == nil {
					return nil
				}
			}
		}
	}
	if tag.empty() {
		r.report.missing(at, u.discriminator, "")
		return nil
	}
	if tag.open {
		return &members{at: at, variant: tag.text, fields: map[string]*value{}}
	}
	w, ok := u.find(tag.text, r.version)
	if !ok {
		r.report.bad(tag.at, tag.text, "%s", r.wrongVariant(tag.text, u))
		return nil
	}
	out := r.members(n, at, w.shape, u.discriminator, way)
	if out != nil {
		out.variant = w.name
	}
	return out
}
