package imagetemplate

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/jsontree"
)

const minInt32 = math.MinInt32

// scalar reads a string, number or boolean into v and holds it against the
// rules of its field; false after an error.
func (r *reader) scalar(v *value, f field, way chain) bool {
	if v.open {
		v.text = v.node.Text
		return true
	}
	switch f.kind {
	case intKind:
		return r.integer(v, f, way)
	case boolKind:
		return r.boolean(v, way)
	default:
		return r.text(v, f, way)
	}
}

func (r *reader) text(v *value, f field, way chain) bool {
	switch k := v.node.Kind; {
	case k == jsontree.String:
	case (k == jsontree.Number || k == jsontree.Bool) && !r.version.strict():
		r.coerced(v, "a string")
	default:
		r.wrongType(v.node, v.at, jsontree.String, "string", way)
		return false
	}
	v.text = v.node.Text
	if v.text == "" || f.readOnly {
		return true
	}
	if len(f.enum) > 0 {
		for _, c := range f.enum {
			if c.in.has(r.version) && r.version.same(c.text, v.text) {
				v.text = c.text
				return true
			}
		}
		r.report.bad(v.at, v.text, "%s", r.wrongChoice(v.text, f.enum))
		return false
	}
	if f.pattern != nil && !f.pattern(r.version).MatchString(v.text) {
		r.report.bad(v.at, v.text, "it must match %s", f.pattern(r.version))
		return false
	}
	return true
}

func (r *reader) integer(v *value, f field, way chain) bool {
	literal := v.node.Text
	n, err := strconv.ParseInt(literal, 10, 32)
	exact := v.node.Kind == jsontree.Number && err == nil
	if !exact && !r.version.strict() && (v.node.Kind == jsontree.Number || v.node.Kind == jsontree.String) {
		if x, errFloat := strconv.ParseFloat(strings.TrimSpace(literal), 64); errFloat == nil &&
			x == math.Trunc(x) && math.Abs(x) <= math.MaxInt32 {
			r.coerced(v, "an integer")
			n, exact = int64(x), true
		}
	}
	if !exact {
		goType := "int32"
		if v.node.Kind == jsontree.Number {
			r.wrongValue(v, way, "json: cannot unmarshal number "+shorten(literal)+" into Go value of type "+goType, "an integer of 32 bits is expected")
			return false
		}
		r.wrongType(v.node, v.at, jsontree.Number, goType, way)
		return false
	}
	v.number = int(n)
	if most := f.max; v.number < f.min || most != 0 && v.number > most {
		rule := fmt.Sprintf("it must be at least %d", f.min)
		if most != 0 {
			rule = fmt.Sprintf("it must be between %d and %d", f.min, most)
		}
		r.report.bad(v.at, literal, "%s", rule)
		return false
	}
	return true
}

func (r *reader) boolean(v *value, way chain) bool {
	literal := v.node.Text
	if v.node.Kind == jsontree.String && !r.version.strict() &&
		(strings.EqualFold(literal, "true") || strings.EqualFold(literal, "false")) {
		r.coerced(v, "a boolean")
		literal = strings.ToLower(literal)
	} else if v.node.Kind != jsontree.Bool {
		r.wrongType(v.node, v.at, jsontree.Bool, "bool", way)
		return false
	}
	v.flag = literal == "true"
	return true
}

// list reads an array of scalars; a bare scalar counts as one of length 1 in
// the lenient versions.
func (r *reader) list(v *value, f, element field, way chain, goType string) ([]*value, bool) {
	nodes := v.node.Items
	scalar := v.node.Kind == jsontree.String || v.node.Kind == jsontree.Number
	switch {
	case v.node.Kind == jsontree.Array:
	case scalar && !r.version.strict():
		r.report.warn(v.at, "'%s' is %s, not an array: it is taken as an array of one element; "+
			"from %s on it is an error", f.name, v.node.Kind, v2024Feb)
		nodes = []*jsontree.Node{v.node}
	default:
		r.wrongType(v.node, v.at, jsontree.Array, goType, way)
		return nil, false
	}
	out := []*value{}
	ok := true
	for i, n := range nodes {
		at := v.at
		if v.node.Kind == jsontree.Array {
			at = v.at.item(i, n)
		}
		item := &value{at: at, node: n, open: r.fill.open(n)}
		if r.scalar(item, element, way) {
			out = append(out, item)
		} else {
			ok = false
		}
	}
	return out, ok
}

// coerced warns about a scalar of a wrong type that is understood.
func (r *reader) coerced(v *value, want string) {
	r.report.warn(v.at, "'%s' is %s and is read as %s; from %s on it is an error", v.at.field, v.node.Kind, want, v2024Feb)
}

// wrongType reports a value of another JSON type than the field has.
func (r *reader) wrongType(n *jsontree.Node, at place, want jsontree.Kind, goType string, way chain) {
	kinds := map[jsontree.Kind]string{
		jsontree.Null: "null", jsontree.Bool: "bool", jsontree.Number: "number",
		jsontree.String: "string", jsontree.Array: "array", jsontree.Object: "object",
	}
	v := &value{at: at, node: n}
	r.wrongValue(v, way, "json: cannot unmarshal "+kinds[n.Kind]+" into Go value of type "+goType,
		fmt.Sprintf("%s is expected, not %s", want, n.Kind))
}

// wrongValue reports a value that does not fit its type, in the words that the
// version has for it.
func (r *reader) wrongValue(v *value, way chain, strictText, cause string) {
	if r.version.strict() {
		r.report.unmarshal(v.at, string(way)+strictText, fmt.Sprintf("at '%s', %s", v.at.path(), cause))
		return
	}
	if v.at.owner == "" {
		r.report.fail(v.at, arm.CodeInvalidJSON, "the body is %s: %s", v.node.Kind, cause)
		return
	}
	r.report.bad(v.at, string(v.node.Append(nil)), "%s", cause)
}
