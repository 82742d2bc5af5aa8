package deployments

import (
	"encoding/json"
	"strconv"
	"strings"

	"goldsmith/internal/armtemplate"
	"goldsmith/internal/jsontree"
)

// part is a difference between a resource as it is and as a template wants it.
type part struct {
	Path               string          `json:"path"`
	PropertyChangeType string          `json:"propertyChangeType"`
	Before             json.RawMessage `json:"before"`
	After              json.RawMessage `json:"after"`
	Children           []part          `json:"children,omitempty"`
}

// compare is what a PUT of body would change in the resource before. What only the
// resource has is not counted, because providers fill in defaults; tags, which a
// PUT replaces as a whole, are. Values that only a running deployment knows are
// taken as equal.
func compare(before, body *jsontree.Node) []part {
	var out []part
	for _, m := range body.Members {
		old := before.Fold(m.Key)
		switch {
		case strings.EqualFold(m.Key, "location") && old != nil && place(old.Text) == place(m.Value.Text):
		case strings.EqualFold(m.Key, "tags") && old != nil && m.Value.Kind == jsontree.Object:
			out = append(out, members(old, m.Value, m.Key)...)
			for _, o := range old.Members {
				if m.Value.Fold(o.Key) == nil {
					out = append(out, part{Path: m.Key + "." + o.Key, PropertyChangeType: "Delete", Before: o.Value.Append(nil)})
				}
			}
		default:
			out = append(out, difference(old, m.Value, m.Key)...)
		}
	}
	return out
}

// place is a region's name in its short form.
func place(location string) string {
	return strings.ToLower(strings.ReplaceAll(location, " ", ""))
}

// difference is what changes at a path; before is nil for nothing.
func difference(before, after *jsontree.Node, path string) []part {
	switch {
	case after.Kind == jsontree.String && armtemplate.IsExpression(after.Text):
		return nil
	case before == nil:
		if empty(after) {
			return nil
		}
		return []part{{Path: path, PropertyChangeType: "Create", After: after.Append(nil)}}
	case equal(before, after):
		return nil
	case before.Kind == jsontree.Object && after.Kind == jsontree.Object:
		return members(before, after, path)
	case before.Kind == jsontree.Array && after.Kind == jsontree.Array:
		if c := elements(before, after); len(c) > 0 {
			return []part{{Path: path, PropertyChangeType: "Array", Children: c}}
		}
		return nil
	}
	return []part{{Path: path, PropertyChangeType: "Modify", Before: before.Append(nil), After: after.Append(nil)}}
}

func members(before, after *jsontree.Node, path string) []part {
	var out []part
	for _, m := range after.Members {
		out = append(out, difference(before.Fold(m.Key), m.Value, path+"."+m.Key)...)
	}
	return out
}

// elements compares arrays place by place. Objects in them may have been completed
// by their provider.
func elements(before, after *jsontree.Node) []part {
	var out []part
	for i := range max(len(before.Items), len(after.Items)) {
		path := strconv.Itoa(i)
		switch {
		case i >= len(after.Items):
			out = append(out, part{Path: path, PropertyChangeType: "Delete", Before: before.Items[i].Append(nil)})
		case i >= len(before.Items):
			out = append(out, part{Path: path, PropertyChangeType: "Create", After: after.Items[i].Append(nil)})
		case before.Items[i].Kind == jsontree.Object && after.Items[i].Kind == jsontree.Object:
			var children []part
			for _, m := range after.Items[i].Members {
				children = append(children, difference(before.Items[i].Fold(m.Key), m.Value, m.Key)...)
			}
			if len(children) > 0 {
				out = append(out, part{Path: path, PropertyChangeType: "Modify", Children: children})
			}
		default:
			out = append(out, difference(before.Items[i], after.Items[i], path)...)
		}
	}
	return out
}

// empty reports whether a value says nothing: null, {} or [].
func empty(n *jsontree.Node) bool {
	return n.Kind == jsontree.Null || (n.Kind == jsontree.Object || n.Kind == jsontree.Array) && len(n.Members)+len(n.Items) == 0
}

// equal is equality in which ids of resources have no case.
func equal(a, b *jsontree.Node) bool {
	if a.Kind == jsontree.String && b.Kind == jsontree.String && strings.HasPrefix(a.Text, "/subscriptions/") {
		return strings.EqualFold(a.Text, b.Text)
	}
	return armtemplate.Equal(a, b)
}
