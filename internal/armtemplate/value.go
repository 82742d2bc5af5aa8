package armtemplate

import (
	"slices"
	"strconv"
	"strings"

	"goldsmith/internal/jsontree"
)

// value is a JSON value. Values are never changed once made: they share parts.
type value = *jsontree.Node

func nullValue() value { return &jsontree.Node{Kind: jsontree.Null, Text: "null"} }

func text(s string) value { return &jsontree.Node{Kind: jsontree.String, Text: s} }

func number(n int64) value {
	return &jsontree.Node{Kind: jsontree.Number, Text: strconv.FormatInt(n, 10)}
}

func boolean(b bool) value {
	return &jsontree.Node{Kind: jsontree.Bool, Text: strconv.FormatBool(b)}
}

func list(items []value) value { return &jsontree.Node{Kind: jsontree.Array, Items: items} }

// object makes an object of keys and values in turn.
func object(pairs ...any) value {
	n := &jsontree.Node{Kind: jsontree.Object}
	for i := 0; i+1 < len(pairs); i += 2 {
		n.Members = append(n.Members, jsontree.Member{Key: pairs[i].(string), Value: pairs[i+1].(value)})
	}
	return n
}

// with is the object n with a member set; a member of that name in any case is
// replaced where it stands.
func with(n value, key string, v value) value {
	out := &jsontree.Node{Kind: jsontree.Object, Line: n.Line, Column: n.Column, Members: slices.Clone(n.Members)}
	for i, m := range out.Members {
		if strings.EqualFold(m.Key, key) && !m.Overridden {
			out.Members[i].Value = v
			return out
		}
	}
	out.Members = append(out.Members, jsontree.Member{Key: key, Value: v})
	return out
}

// at is n with the place of another value, so that errors name it.
func at(n, place value) value {
	c := *n
	c.Line, c.Column = place.Line, place.Column
	return &c
}

func isNull(n value) bool { return n == nil || n.Kind == jsontree.Null }

func truth(n value) bool { return n.Kind == jsontree.Bool && n.Text == "true" }

// whole is n as a whole number: 3, 3.0 or 3e2.
func whole(n value) (int64, bool) {
	if n.Kind != jsontree.Number {
		return 0, false
	}
	if i, err := strconv.ParseInt(n.Text, 10, 64); err == nil {
		return i, true
	}
	f, err := strconv.ParseFloat(n.Text, 64)
	if err != nil || f != float64(int64(f)) || f > 1<<53 || f < -(1<<53) {
		return 0, false
	}
	return int64(f), true
}

// same reports whether two values are equal: objects without regard to the order
// of their members, numbers by value.
func same(a, b value) bool {
	if a.Kind != b.Kind {
		return false
	}
	switch a.Kind {
	case jsontree.Object:
		am, bm := live(a), live(b)
		if len(am) != len(bm) {
			return false
		}
		for _, m := range am {
			v := b.Fold(m.Key)
			if v == nil || !same(m.Value, v) {
				return false
			}
		}
		return true
	case jsontree.Array:
		return slices.EqualFunc(a.Items, b.Items, same)
	case jsontree.Number:
		if a.Text == b.Text {
			return true
		}
		x, errX := strconv.ParseFloat(a.Text, 64)
		y, errY := strconv.ParseFloat(b.Text, 64)
		return errX == nil && errY == nil && x == y
	}
	return a.Text == b.Text
}

// Equal reports whether two JSON values are the same: objects without regard to the
// order of their members and the case of their keys, numbers by value.
func Equal(a, b *jsontree.Node) bool { return same(a, b) }

// live are the members that count.
func live(n value) []jsontree.Member {
	if !slices.ContainsFunc(n.Members, func(m jsontree.Member) bool { return m.Overridden }) {
		return n.Members
	}
	return slices.DeleteFunc(slices.Clone(n.Members), func(m jsontree.Member) bool { return m.Overridden })
}

// kindName is a kind as Azure's messages name it.
func kindName(n value) string {
	switch n.Kind {
	case jsontree.Object:
		return "Object"
	case jsontree.Array:
		return "Array"
	case jsontree.String:
		return "String"
	case jsontree.Bool:
		return "Boolean"
	case jsontree.Number:
		return "Integer"
	}
	return "Null"
}

// show is a value as text: what string() makes of it.
func show(n value) string {
	switch n.Kind {
	case jsontree.String, jsontree.Number:
		return n.Text
	case jsontree.Bool:
		if truth(n) {
			return "True"
		}
		return "False"
	case jsontree.Null:
		return ""
	}
	return string(n.Append(nil))
}
