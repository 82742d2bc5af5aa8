package jsontree

import (
	"bytes"
	"encoding/json"
)

// Append appends n as compact JSON to b: members in file order, overridden ones
// left out, numbers as they were written, no HTML escapes. Equal trees give
// equal bytes.
func (n *Node) Append(b []byte) []byte {
	switch n.Kind {
	case Object:
		b = append(b, '{')
		first := true
		for _, m := range n.Members {
			if m.Overridden {
				continue
			}
			if !first {
				b = append(b, ',')
			}
			first = false
			b = appendString(b, m.Key)
			b = append(b, ':')
			b = m.Value.Append(b)
		}
		return append(b, '}')
	case Array:
		b = append(b, '[')
		for i, item := range n.Items {
			if i > 0 {
				b = append(b, ',')
			}
			b = item.Append(b)
		}
		return append(b, ']')
	case String:
		return appendString(b, n.Text)
	default:
		return append(b, n.Text...)
	}
}

func appendString(b []byte, s string) []byte {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic("jsontree: a string that cannot be encoded: " + err.Error())
	}
	return append(b, bytes.TrimSuffix(buf.Bytes(), []byte{'\n'})...)
}
