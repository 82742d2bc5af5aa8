package jsontree

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Limits bound what Parse accepts.
type Limits struct {
	Bytes int // size of the text
	Depth int // nesting of arrays and objects; a scalar has depth 0
	Key   int // bytes of an object's key; 0 for any
	// Values is the number of values, 0 for any: a node takes far more memory
	// than the two bytes that can make it.
	Values int
}

// Error says why a text was not read. Line is 0 when the whole text is meant.
type Error struct {
	Line, Column int // 1-based; Column in bytes
	Message      string
	// TooLarge is set when Limits were exceeded, not the grammar broken.
	TooLarge bool
}

// Error is the message with its position.
func (e *Error) Error() string {
	if e.Line == 0 {
		return e.Message
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Message)
}

// valid accepts any well-formed JSON without keeping a copy of it.
type valid struct{}

func (*valid) UnmarshalJSON([]byte) error { return nil }

// Parse reads one JSON value (RFC 8259) that fills text. A UTF-8 byte order
// mark in front is skipped. The error is always an *Error.
func Parse(text []byte, limits Limits) (*Node, error) {
	if len(text) > limits.Bytes {
		return nil, &Error{TooLarge: true,
			Message: fmt.Sprintf("the text has %d bytes; at most %d are read", len(text), limits.Bytes)}
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	// The grammar is the standard library's business; the walk below only adds
	// positions to a text that is known to be well-formed.
	if err := json.Unmarshal(text, new(valid)); err != nil {
		return nil, explain(text, err)
	}
	if at := invalidUTF8(text); at >= 0 {
		return nil, errorAt(text, at, "this byte is not UTF-8: save the file as UTF-8")
	}
	w := walker{text: text, line: 1, limits: limits}
	return w.value(0)
}

// explain turns a syntax error into one that says what to do.
func explain(text []byte, err error) *Error {
	var syntax *json.SyntaxError
	if !errors.As(err, &syntax) {
		return &Error{Message: err.Error()}
	}
	at := int(syntax.Offset) - 1 // Offset counts the offending byte
	before := bytes.TrimRight(text[:max(at, 0)], " \t\r\n")
	var last byte
	if len(before) > 0 {
		last = before[len(before)-1]
	}
	if at < 0 || len(bytes.TrimSpace(text)) == 0 {
		return &Error{Line: 1, Column: 1, Message: "the text is empty: a JSON object is expected"}
	}
	if syntax.Error() == "unexpected end of JSON input" {
		return errorAt(text, len(text), "the text ends in the middle of a value: a closing brace, bracket or quote is missing")
	}
	c := text[at]
	switch {
	case strings.Contains(syntax.Error(), "exceeded max depth"):
		e := errorAt(text, at, "the text is nested too deep")
		e.TooLarge = true
		return e
	case c == '/':
		return errorAt(text, at, "comments are not allowed in JSON: remove the comment that starts here")
	case (c == '}' || c == ']') && last == ',':
		return errorAt(text, at, fmt.Sprintf("a comma stands before this %q: remove it", c))
	case c == '"' && bytes.IndexByte([]byte(`"}]`), last) >= 0:
		return errorAt(text, at, "a comma or colon is missing before this quote")
	case c == '<':
		return errorAt(text, at, "a placeholder stands outside a string: put quotes around it")
	case c < 0x20 && strings.Contains(syntax.Error(), "in string literal"):
		return errorAt(text, at, "a string must end on its line: close the quote, or write the line break as \\n")
	}
	return errorAt(text, at, "this is not JSON: "+syntax.Error())
}

func errorAt(text []byte, at int, message string) *Error {
	head := text[:at]
	return &Error{
		Line:    1 + bytes.Count(head, []byte{'\n'}),
		Column:  at - bytes.LastIndexByte(head, '\n'),
		Message: message,
	}
}

// invalidUTF8 is the offset of the first byte that is not UTF-8, or -1.
func invalidUTF8(text []byte) int {
	if utf8.Valid(text) {
		return -1
	}
	for i := 0; i < len(text); {
		r, size := utf8.DecodeRune(text[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// walker builds the tree of a well-formed text.
type walker struct {
	text      []byte
	pos       int
	line      int
	lineStart int
	limits    Limits
	values    int
}

// skip moves to the next byte that is not in skipped, counting lines. Line
// breaks occur only here: a string cannot hold a raw one.
func (w *walker) skip(skipped string) {
	for w.pos < len(w.text) && bytes.IndexByte([]byte(skipped), w.text[w.pos]) >= 0 {
		if w.text[w.pos] == '\n' {
			w.line++
			w.lineStart = w.pos + 1
		}
		w.pos++
	}
}

const (
	space     = " \t\r\n"
	separator = space + ",:"
)

func (w *walker) value(depth int) (*Node, error) {
	w.skip(separator)
	n := &Node{Line: w.line, Column: w.pos - w.lineStart + 1}
	if w.values++; w.limits.Values > 0 && w.values > w.limits.Values {
		return nil, &Error{Line: n.Line, Column: n.Column, TooLarge: true,
			Message: fmt.Sprintf("the text has more than %d values", w.limits.Values)}
	}
	switch w.text[w.pos] {
	case '{', '[':
		if depth >= w.limits.Depth {
			return nil, &Error{Line: n.Line, Column: n.Column, TooLarge: true,
				Message: fmt.Sprintf("the text is nested more than %d deep", w.limits.Depth)}
		}
		if w.text[w.pos] == '{' {
			n.Kind = Object
			return n, w.members(n, depth)
		}
		n.Kind = Array
		return n, w.items(n, depth)
	case '"':
		n.Kind, n.Text = String, w.quoted()
	case 't', 'f':
		n.Kind, n.Text = Bool, w.literal()
	case 'n':
		n.Kind, n.Text = Null, w.literal()
	default:
		n.Kind, n.Text = Number, w.literal()
	}
	return n, nil
}

func (w *walker) items(n *Node, depth int) error {
	w.pos++
	for w.skip(separator); w.text[w.pos] != ']'; w.skip(separator) {
		item, err := w.value(depth + 1)
		if err != nil {
			return err
		}
		n.Items = append(n.Items, item)
	}
	w.pos++
	return nil
}

func (w *walker) members(n *Node, depth int) error {
	w.pos++
	last := map[string]int{}
	for w.skip(separator); w.text[w.pos] != '}'; w.skip(separator) {
		m := Member{Line: w.line, Column: w.pos - w.lineStart + 1}
		m.Key = w.quoted()
		if w.limits.Key > 0 && len(m.Key) > w.limits.Key {
			return &Error{Line: m.Line, Column: m.Column, TooLarge: true,
				Message: fmt.Sprintf("this key has %d bytes; at most %d are read", len(m.Key), w.limits.Key)}
		}
		var err error
		if m.Value, err = w.value(depth + 1); err != nil {
			return err
		}
		if i, twice := last[m.Key]; twice {
			n.Members[i].Overridden = true
		}
		last[m.Key] = len(n.Members)
		n.Members = append(n.Members, m)
	}
	w.pos++
	return nil
}

// quoted reads the string that starts here.
func (w *walker) quoted() string {
	start := w.pos
	for w.pos++; w.text[w.pos] != '"'; w.pos++ {
		if w.text[w.pos] == '\\' {
			w.pos++
		}
	}
	w.pos++
	var s string
	if err := json.Unmarshal(w.text[start:w.pos], &s); err != nil {
		panic("jsontree: a well-formed text holds a broken string: " + err.Error())
	}
	return s
}

// literal reads a number, true, false or null.
func (w *walker) literal() string {
	start := w.pos
	for w.pos < len(w.text) && bytes.IndexByte([]byte(space+",]}"), w.text[w.pos]) < 0 {
		w.pos++
	}
	return string(w.text[start:w.pos])
}
