package qmp

import (
	"bufio"
	"bytes"
	"testing"
)

// FuzzReadMessage feeds a server's bytes to the reader: it must end every input
// with an error, and every message it accepts must have one form.
func FuzzReadMessage(f *testing.F) {
	for _, seed := range []string{
		`{"QMP": {"version": {}, "capabilities": []}}` + "\r\n",
		`{"return": {}, "id": "1"}` + "\r\n",
		`{"return": {"x": [1, 2]}, "id": 7}` + "\n" + `{"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}}` + "\n",
		`{"error": {"class": "GenericError", "desc": "d"}, "id": "2"}` + "\n",
		`{"event": "X", "data": null, "timestamp": {"seconds": -1, "microseconds": -1}}` + "\n",
		"\n", "{}\n", `{"return": null}` + "\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		r := bufio.NewReader(bytes.NewReader(input))
		for range len(input) + 1 {
			m, err := readMessage(r)
			if err != nil {
				return
			}
			if m.Greeting == nil && m.Event == "" && m.Return == nil && m.Err == nil {
				t.Fatalf("accepted a message of no form from %q", input)
			}
		}
		t.Fatal("read more messages than there are bytes")
	})
}
