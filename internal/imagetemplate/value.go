package imagetemplate

import "goldsmith/internal/jsontree"

// value is one value of a body after the tables were applied to it.
type value struct {
	at   place
	node *jsontree.Node
	open bool // holds an unfilled placeholder: nothing more is known of it

	text    string   // textKind; a canonical spelling where there are choices
	number  int      // intKind
	flag    bool     // boolKind
	items   []*value // lists
	entries []entry  // maps
	object  *members // objectKind, unionKind
}

// entry is one key of an object with free keys.
type entry struct {
	key   string
	at    place // of the key
	open  bool  // the key holds an unfilled placeholder
	value *value
}

// members is an object whose members the tables know. A nil *members is an
// absent object, and every accessor may be called on it.
type members struct {
	at      place
	shape   *shape
	variant string // what the discriminator selects
	fields  map[string]*value
	faulty  map[string]bool // fields whose value was refused
}

// get is the value of a field, nil when absent, null or of a wrong type.
func (m *members) get(key string) *value {
	if m == nil {
		return nil
	}
	return m.fields[key]
}

// given reports whether a field is there with something in it: not null, not an
// empty string, array or object.
func (m *members) given(key string) bool { return !m.get(key).empty() }

// tried is given, or given with a value that was refused: what depends on the
// field being there has no fault of its own then.
func (m *members) tried(key string) bool { return m.given(key) || m != nil && m.faulty[key] }

func (m *members) text(key string) string {
	if v := m.get(key); v != nil {
		return v.text
	}
	return ""
}

// textOr is the text of a field, or def where it is absent or empty.
func (m *members) textOr(key, def string) string {
	if s := m.text(key); s != "" {
		return s
	}
	return def
}

func (m *members) number(key string, def int) int {
	if v := m.get(key); v != nil && !v.open {
		return v.number
	}
	return def
}

func (m *members) flag(key string) bool {
	v := m.get(key)
	return v != nil && v.flag
}

func (m *members) texts(key string) []string {
	v := m.get(key)
	if v == nil {
		return nil
	}
	var out []string
	for _, item := range v.items {
		out = append(out, item.text)
	}
	return out
}

func (m *members) numbers(key string) []int {
	v := m.get(key)
	if v == nil {
		return nil
	}
	var out []int
	for _, item := range v.items {
		out = append(out, item.number)
	}
	return out
}

// textMap is an object of strings, nil when it is absent or has no members.
func (m *members) textMap(key string) map[string]string {
	v := m.get(key)
	if v == nil || len(v.entries) == 0 {
		return nil
	}
	out := make(map[string]string, len(v.entries))
	for _, e := range v.entries {
		out[e.key] = e.value.text
	}
	return out
}

// object is the object of a field, nil when absent.
func (m *members) object(key string) *members {
	if v := m.get(key); v != nil {
		return v.object
	}
	return nil
}

// objects are the objects of an array.
func (m *members) objects(key string) []*members {
	v := m.get(key)
	if v == nil {
		return nil
	}
	var out []*members
	for _, item := range v.items {
		if item.object != nil {
			out = append(out, item.object)
		}
	}
	return out
}

// place is where a field stands, or would stand were it there.
func (m *members) place(key string) place {
	if v := m.get(key); v != nil {
		return v.at
	}
	at := m.at
	return place{
		pointer: jsontree.Pointer(at.pointer, key), owner: at.path(), field: key,
		line: at.line, column: at.column,
	}
}

// empty reports whether there is nothing in v: it is absent, null, "", [] or {}.
func (v *value) empty() bool {
	return v == nil || v.node.Kind == jsontree.Null || v.node.Kind == jsontree.String && v.node.Text == "" ||
		v.node.Kind == jsontree.Array && len(v.node.Items) == 0 ||
		v.node.Kind == jsontree.Object && len(v.node.Members) == 0
}

// blank reports whether a JSON value says nothing: null, "", or an array or
// object of nothing but such values.
func blank(n *jsontree.Node) bool {
	if n == nil {
		return true
	}
	switch n.Kind {
	case jsontree.Null:
		return true
	case jsontree.String:
		return n.Text == ""
	case jsontree.Array:
		for _, item := range n.Items {
			if !blank(item) {
				return false
			}
		}
		return true
	case jsontree.Object:
		for _, m := range n.Members {
			if !m.Overridden && !blank(m.Value) {
				return false
			}
		}
		return true
	default:
		return false
	}
}
