package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestReadAfterBadLines(t *testing.T) {
	in := "half a line of an earlier conversation\n\n" + strings.Repeat("x", MaxLine+1) + "\n[]\n" +
		`{"id":7,"op":"sync"}` + "\n" + `{"id":8,"op":`
	r := NewReader[Request](iotest.OneByteReader(strings.NewReader(in)))
	var got []any
	for {
		q, err := r.Read()
		switch {
		case errors.Is(err, ErrLine):
			got = append(got, "bad")
			continue
		case err != nil:
			got = append(got, err.Error())
		default:
			got = append(got, q)
			continue
		}
		break
	}
	want := []any{"bad", "bad", "bad", Request{ID: 7, Op: OpSync}, io.ErrUnexpectedEOF.Error()}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLineOfMaximumSize(t *testing.T) {
	text := `{"id":1,"error":"` + strings.Repeat("e", MaxLine-len(`{"id":1,"error":""}`)) + `"}`
	if len(text) != MaxLine {
		t.Fatalf("the test line has %d bytes", len(text))
	}
	got, err := NewReader[Reply](strings.NewReader(text + "\n")).Read()
	if err != nil || got.ID != 1 {
		t.Fatalf("Read = %v, %v", got.ID, err)
	}
	if _, err := Encode(Reply{ID: 1, Error: got.Error}); err != nil {
		t.Errorf("Encode: %v", err)
	}
	if _, err := Encode(Reply{ID: 1, Error: got.Error + "e"}); !errors.Is(err, ErrLine) {
		t.Errorf("Encode of a line that is too long: %v", err)
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var all []Reply
		var stream bytes.Buffer
		for range rapid.IntRange(0, 5).Draw(t, "lines") {
			text, err := json.Marshal(rapid.String().Draw(t, "result"))
			if err != nil {
				t.Fatal(err)
			}
			reply := Reply{ID: rapid.Uint64().Draw(t, "id"), Result: text}
			line, err := Encode(reply)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Count(line, []byte("\n")) != 1 {
				t.Fatalf("line %q", line)
			}
			all = append(all, reply)
			stream.Write(line)
		}
		r := NewReader[Reply](&stream)
		for _, want := range all {
			got, err := r.Read()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
		}
		if _, err := r.Read(); err != io.EOF {
			t.Fatalf("after the end: %v", err)
		}
	})
}

// fuzzReader checks that whatever comes, reading ends and stays within bounds.
func fuzzReader[T Request | Reply](f *testing.F, check func(T) int) {
	f.Add([]byte(`{"id":1,"op":"hello","args":{"nonce":"x"}}` + "\n"))
	f.Add([]byte("\n\n{}\n[1,2\n{\"id\":18446744073709551616}\n"))
	f.Add(bytes.Repeat([]byte("{"), 5000))
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader[T](bytes.NewReader(in))
		for range len(in) + 1 {
			v, err := r.Read()
			if err == nil {
				if n := check(v); n > MaxLine {
					t.Fatalf("%d bytes in one message", n)
				}
				continue
			}
			if !errors.Is(err, ErrLine) {
				if err != io.EOF && err != io.ErrUnexpectedEOF {
					t.Fatal(err)
				}
				return
			}
		}
		t.Fatal("more messages than bytes")
	})
}

func FuzzRequests(f *testing.F) { fuzzReader(f, func(q Request) int { return len(q.Args) }) }
func FuzzReplies(f *testing.F)  { fuzzReader(f, func(p Reply) int { return len(p.Result) }) }
