package qmp

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// MaxMessage is the largest message accepted from the server, in bytes. The
// largest real ones list every block node and stay below 100 kB.
const MaxMessage = 4 << 20

// errTooLong ends a connection whose server sends more than MaxMessage in one
// message.
var errTooLong = fmt.Errorf("message is longer than %d bytes", MaxMessage)

// Error is the server's refusal of a command.
type Error struct {
	Command string // the command that was refused
	Class   string // "GenericError", "CommandNotFound", "DeviceNotFound", ...
	Desc    string // what the server says
}

// Error names the command and gives the server's sentence.
func (e *Error) Error() string { return e.Command + ": " + e.Desc }

// IsClass reports whether err is a server's refusal of class.
func IsClass(err error, class string) bool {
	var e *Error
	return errors.As(err, &e) && e.Class == class
}

// Event is something the server reports unasked.
type Event struct {
	Name string          // "SHUTDOWN", "DEVICE_DELETED", ...
	Data json.RawMessage // the event's arguments; nil for none
	Time time.Time       // the server's clock, to the microsecond
}

// message is any line that a server sends: exactly one of greeting, event,
// reply and error.
type message struct {
	Greeting *json.RawMessage `json:"QMP"`
	Event    string           `json:"event"`
	Data     json.RawMessage  `json:"data"`
	Time     struct {
		Seconds      int64 `json:"seconds"`
		Microseconds int64 `json:"microseconds"`
	} `json:"timestamp"`
	Return json.RawMessage `json:"return"`
	Err    *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	ID json.RawMessage `json:"id"`
}

// readMessage reads one line from r and decodes it. A line must be a JSON
// object of one of the protocol's four forms.
func readMessage(r *bufio.Reader) (*message, error) {
	line, err := readLine(r)
	if err != nil {
		return nil, err
	}
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return nil, fmt.Errorf("message is not valid: %w", err)
	}
	forms := 0
	for _, present := range []bool{m.Greeting != nil, m.Event != "", m.Return != nil, m.Err != nil} {
		if present {
			forms++
		}
	}
	if forms != 1 {
		return nil, errors.New("message is neither greeting, event, reply nor error")
	}
	return &m, nil
}

// readLine reads up to a line feed, at most MaxMessage bytes.
func readLine(r *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := r.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case len(line) > MaxMessage:
			return nil, errTooLong
		case err == nil:
			return line, nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// time is when the server says the event happened.
func (m *message) time() time.Time {
	return time.Unix(m.Time.Seconds, m.Time.Microseconds*int64(time.Microsecond))
}
