package jsontree

import (
	"bytes"
	"encoding/json"
	"testing"

	"pgregory.net/rapid"
)

func TestStrict(t *testing.T) {
	for _, tc := range []struct{ name, text, want string }{
		{"JSON", `{"a": [1, -2.5e+3, true, null], "b": "x\"\\\u0041"}`, `{"a": [1, -2.5e+3, true, null], "b": "x\"\\\u0041"}`},
		{"unquoted key", `{"p": 1, template:{"x":2}}`, `{"p": 1, "template":{"x":2}}`},
		{"keys with other letters", `{$schema: 1, a_1 : 2, ü: 3}`, `{"$schema": 1, "a_1" : 2, "ü": 3}`},
		{"words that are values", `{"a": true, "b": false, "c": null}`, `{"a": true, "b": false, "c": null}`},
		{"a key called true", `{true: true}`, `{"true": true}`},
		{"line comment", "{\"a\": 1 // one\n}", "{\"a\": 1 \n}"},
		{"line comment at the end", "{} // end", "{} "},
		{"block comment", "{/* a\nb */\"a\": 1}", "{\n\"a\": 1}"},
		{"comment between key and colon", `{a /* x */: 1}`, `{"a" : 1}`},
		{"comment after a comma", "{\"a\":1, // x\n b:2}", "{\"a\":1, \n \"b\":2}"},
		{"no comment in a string", `{"a": "http://x/*y*/"}`, `{"a": "http://x/*y*/"}`},
		{"line break in a string", "{\"a\": \"x\r\n\ty\"}", `{"a": "x\u000d\u000a\u0009y"}`},
		{"single quotes", `{'a': 'it\'s "b"'}`, `{"a": "it's \"b\""}`},
		{"comma at the end", "{\"a\": [1,2, /* */ ],\n}", "{\"a\": [1,2  ]\n}"},
		{"byte order mark", "\xef\xbb\xbf{}", "{}"},
		{"open comment", "{/*/}", "{/*/}"},
		{"open string", `{"a`, `{"a`},
		{"backslash at the end", `"\`, `"\`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := string(Strict([]byte(tc.text))); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

// What is JSON means the same afterwards.
func TestStrictKeepsJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text, err := json.Marshal(anyValue(3).Draw(t, "value"))
		if err != nil {
			t.Fatal(err)
		}
		if !sameJSON(text, Strict(text)) {
			t.Fatalf("%s became %s", text, Strict(text))
		}
	})
}

func FuzzStrict(f *testing.F) {
	for _, s := range []string{`{a:'b',//c` + "\n" + `}`, `{"p":1,template:{/**/},}`, `"\`, `{/*`, `,//`, "{\"a\":\"\n\"}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		once := Strict(text)
		if json.Valid(text) && !bytes.HasPrefix(text, []byte("\xef\xbb\xbf")) && !bytes.Equal(text, once) {
			t.Fatalf("%q is JSON and became %q", text, once)
		}
		if json.Valid(once) && !bytes.Equal(once, Strict(once)) {
			t.Fatalf("%q is JSON and becomes %q", once, Strict(once))
		}
	})
}
