// Package jsontree reads JSON into a tree that knows where everything stood:
// every value and every key has its line and column, object members keep their
// order, and keys that occur twice are both kept. It is pure.
package jsontree

import "strings"

// Kind is the JSON type of a Node.
type Kind int

// Kinds of nodes.
const (
	Null Kind = iota
	Bool
	Number
	String
	Array
	Object
)

// String names the kind as a person would: "a string", "an object".
func (k Kind) String() string {
	return [...]string{"null", "a boolean", "a number", "a string", "an array", "an object"}[k]
}

// Node is one JSON value.
type Node struct {
	Kind Kind
	// Text is the content of a string, the literal of a number as it was
	// written, "true", "false" or "null". It is empty for arrays and objects.
	Text    string
	Items   []*Node  // elements of an array
	Members []Member // members of an object, in file order
	Line    int      // 1-based
	Column  int      // 1-based, in bytes; a byte order mark is not counted
}

// Member is one key of an object with its value.
type Member struct {
	Key    string
	Value  *Node
	Line   int // of the key, 1-based
	Column int // of the key, 1-based, in bytes
	// Overridden marks a member that a later one of the same name replaces; it
	// is not encoded. Parse sets it for keys that are exactly equal.
	Overridden bool
}

// Get is the value of the member named key, nil when there is none. Of several
// it is the one that is not overridden.
func (n *Node) Get(key string) *Node {
	if n == nil {
		return nil
	}
	for _, m := range n.Members {
		if m.Key == key && !m.Overridden {
			return m.Value
		}
	}
	return nil
}

// Fold is Get with keys compared without regard to case; the last one wins.
func (n *Node) Fold(key string) *Node {
	if n == nil {
		return nil
	}
	for i := len(n.Members) - 1; i >= 0; i-- {
		if strings.EqualFold(n.Members[i].Key, key) {
			return n.Members[i].Value
		}
	}
	return nil
}

// pointerEscaper escapes a reference token of a JSON pointer (RFC 6901, 3).
var pointerEscaper = strings.NewReplacer("~", "~0", "/", "~1")

// Pointer is the JSON pointer (RFC 6901) of the member or element token below
// the value that parent points to.
func Pointer(parent, token string) string {
	return parent + "/" + pointerEscaper.Replace(token)
}
