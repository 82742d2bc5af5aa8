package imagetemplate

import "goldsmith/internal/jsontree"

// trail is the way from the root to a value, from which a place is made only
// when there is something to report: in a hostile file the ways are far longer
// than the values.
type trail struct {
	up     *trail
	node   *jsontree.Node
	member *jsontree.Member // nil for an array's element
	index  int              // of an array's element
}

func (t *trail) element(i int) *trail {
	return &trail{up: t, node: t.node.Items[i], index: i}
}

func (t *trail) field(i int) *trail {
	m := &t.node.Members[i]
	return &trail{up: t, node: m.Value, member: m}
}

// place is where the value stands.
func (t *trail) place() place {
	switch {
	case t.up == nil:
		return rootPlace(t.node)
	case t.member != nil:
		return t.up.place().member(*t.member, t.member.Key)
	default:
		return t.up.place().item(t.index, t.node)
	}
}

// key is where the key of the member stands.
func (t *trail) key() place { return t.up.place().key(*t.member) }

func rootPlace(n *jsontree.Node) place {
	return place{field: "ImageTemplate", line: n.Line, column: n.Column}
}
