package jsontree

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var wide = Limits{Bytes: 1 << 20, Depth: 100}

func TestParsePositions(t *testing.T) {
	text := "\xef\xbb\xbf{\r\n  \"a\": [1,\n\t true],\n\"a\" :\"x\\\"\\u00e9\", \"é\": null\n}"
	got, err := Parse([]byte(text), wide)
	if err != nil {
		t.Fatal(err)
	}
	want := &Node{Kind: Object, Line: 1, Column: 1, Members: []Member{
		{Key: "a", Line: 2, Column: 3, Overridden: true, Value: &Node{Kind: Array, Line: 2, Column: 8, Items: []*Node{
			{Kind: Number, Text: "1", Line: 2, Column: 9},
			{Kind: Bool, Text: "true", Line: 3, Column: 3},
		}}},
		{Key: "a", Line: 4, Column: 1, Value: &Node{Kind: String, Text: "x\"é", Line: 4, Column: 6}},
		{Key: "é", Line: 4, Column: 19, Value: &Node{Kind: Null, Text: "null", Line: 4, Column: 25}},
	}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("tree (-want +got):\n%s", d)
	}
	if got := string(got.Append(nil)); got != `{"a":"x\"é","é":null}` {
		t.Errorf("encoded: %s", got)
	}
	if v := got.Get("a"); v == nil || v.Text != "x\"é" {
		t.Errorf("Get(a) = %v, want the last one", v)
	}
	if v := got.Fold("A"); v == nil || v.Text != "x\"é" {
		t.Errorf("Fold(A) = %v, want the last one", v)
	}
	if got.Get("b") != nil || got.Fold("b") != nil || (*Node)(nil).Get("a") != nil || (*Node)(nil).Fold("a") != nil {
		t.Error("a missing member is not nil")
	}
}

func TestParseErrors(t *testing.T) {
	for _, tc := range []struct {
		name, text   string
		line, column int
		message      string
	}{
		{"empty", "", 1, 1, "the text is empty"},
		{"blank", " \n ", 1, 1, "the text is empty"},
		{"unclosed", "{\n \"a\": [1", 2, 9, "ends in the middle"},
		{"line comment", "{\n  // no\n}", 2, 3, "comments are not allowed"},
		{"block comment", "{ /* no */ }", 1, 3, "comments are not allowed"},
		{"trailing comma in object", "{\"a\":1,\n}", 2, 1, "a comma stands before this '}'"},
		{"trailing comma in array", "[1,]", 1, 4, "a comma stands before this ']'"},
		{"missing comma", "{\"a\":\"b\"\n\"c\":1}", 2, 1, "a comma or colon is missing"},
		{"placeholder as a number", "{\"size\": <n>}", 1, 10, "a placeholder stands outside a string"},
		{"raw line break", "{\"a\": \"x\ny\"}", 1, 9, "a string must end on its line"},
		{"raw tab", "{\"a\": \"x\ty\"}", 1, 9, "a string must end on its line"},
		{"word", "{\"a\": yes}", 1, 7, "this is not JSON: invalid character 'y'"},
		{"two values", "{} {}", 1, 4, "this is not JSON: invalid character '{' after top-level value"},
		{"latin-1", "{\"a\":\n\"\xe9\"}", 2, 2, "not UTF-8"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse([]byte(tc.text), wide)
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("error = %v, want an *Error", err)
			}
			if e.Line != tc.line || e.Column != tc.column || !strings.Contains(e.Message, tc.message) || e.TooLarge {
				t.Errorf("got %d:%d %q (too large: %t), want %d:%d %q", e.Line, e.Column, e.Message, e.TooLarge, tc.line, tc.column, tc.message)
			}
		})
	}
}

func TestParseLimits(t *testing.T) {
	for _, tc := range []struct {
		name, text string
		limits     Limits
		ok         bool
	}{
		{"size reached", `[1]`, Limits{Bytes: 3, Depth: 1}, true},
		{"size exceeded", `[11]`, Limits{Bytes: 3, Depth: 1}, false},
		{"depth reached", `[[1]]`, Limits{Bytes: 10, Depth: 2}, true},
		{"depth exceeded", `[[{}]]`, Limits{Bytes: 10, Depth: 2}, false},
		{"key reached", `{"abc":1}`, Limits{Bytes: 10, Depth: 1, Key: 3}, true},
		{"key exceeded", `{"abc":1}`, Limits{Bytes: 10, Depth: 1, Key: 2}, false},
		{"values reached", `[1,{"a":2}]`, Limits{Bytes: 20, Depth: 2, Values: 4}, true},
		{"values exceeded", `[1,{"a":2}]`, Limits{Bytes: 20, Depth: 2, Values: 3}, false},
		{"deeper than the standard library goes", strings.Repeat("[", 20000) + strings.Repeat("]", 20000), wide, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Parse([]byte(tc.text), tc.limits)
			if (err == nil) != tc.ok {
				t.Errorf("error = %v, want ok %t", err, tc.ok)
			}
		})
	}
}

func TestPointer(t *testing.T) {
	if got := Pointer("/a", "b/c~d"); got != "/a/b~1c~0d" {
		t.Errorf("Pointer = %q", got)
	}
}

// Encoding a parsed text gives the same value, and is a fixed point.
func TestEncodeRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, err := json.Marshal(anyValue(3).Draw(t, "value"))
		if err != nil {
			t.Fatal(err)
		}
		n, err := Parse(text, wide)
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		once := n.Append(nil)
		if !sameJSON(text, once) {
			t.Fatalf("%s was encoded as %s", text, once)
		}
	})
}

func anyValue(depth int) *rapid.Generator[any] {
	scalars := []*rapid.Generator[any]{
		rapid.Just[any](nil), rapid.Bool().AsAny(), rapid.String().AsAny(), rapid.Int32().AsAny(), rapid.Float32().AsAny(),
	}
	if depth == 0 {
		return rapid.OneOf(scalars...)
	}
	return rapid.OneOf(append(scalars,
		rapid.SliceOfN(anyValue(depth-1), 0, 4).AsAny(),
		rapid.MapOfN(rapid.String(), anyValue(depth-1), 0, 4).AsAny())...)
}

func sameJSON(a, b []byte) bool {
	decode := func(text []byte) (any, error) {
		var v any
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		err := d.Decode(&v)
		return v, err
	}
	x, errX := decode(a)
	y, errY := decode(b)
	return errX == nil && errY == nil && cmp.Equal(x, y)
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{`{"a":[1,2.5e3,true,null,"x\u0041"]}`, "\xef\xbb\xbf{}", `{"a":1,"a":{"b":2}}`, "[//\n]", `"\ud800"`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := Parse(text, Limits{Bytes: 1 << 16, Depth: 50})
		if err != nil {
			var e *Error
			if !errors.As(err, &e) || e.Message == "" {
				t.Fatalf("error %v is not an *Error with a message", err)
			}
			return
		}
		once := n.Append(nil)
		if !sameJSON(bytes.TrimPrefix(text, []byte("\xef\xbb\xbf")), once) {
			t.Fatalf("%q was encoded as %q", text, once)
		}
		again, err := Parse(once, Limits{Bytes: 1 << 20, Depth: 50})
		if err != nil || !bytes.Equal(again.Append(nil), once) {
			t.Fatalf("encoding is not a fixed point: %q (%v)", once, err)
		}
	})
}
