// Package qmptest is a server of QEMU's machine protocol for tests: it greets,
// negotiates, answers by a handler, receives files and sends events, as QEMU
// does.
package qmptest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// greeting is what QEMU says first.
const greeting = `{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "fake"}, "capabilities": ["oob"]}}`

// Command is one request of a client.
type Command struct {
	Name string
	Args json.RawMessage
	// File is the descriptor that came with the command; the handler owns it.
	File *os.File
}

// Decode decodes the arguments into v, and panics when they do not fit: a
// handler that asks for other arguments than it gets is a faulty test.
func (c Command) Decode(v any) {
	if err := json.Unmarshal(c.Args, v); err != nil {
		panic(fmt.Sprintf("%s: arguments %s: %v", c.Name, c.Args, err))
	}
}

// Refusal is a handler's error with a class other than GenericError.
type Refusal struct{ Class, Desc string }

// Error is the description.
func (r *Refusal) Error() string { return r.Desc }

// Handler answers one command with a result, nil for the empty object, or an
// error. It may send events before it answers.
type Handler func(*Server, Command) (result any, err error)

// Reply is a result of a Handler that has consequences: Then is called when the
// reply is on its way.
type Reply struct {
	Result any
	Then   func()
}

// Server is the server's end of one connection.
type Server struct {
	conn    *net.UnixConn
	handler Handler

	mu sync.Mutex // serializes writing
}

// New makes a server on conn. Serve runs it.
func New(conn *net.UnixConn, handler Handler) *Server {
	return &Server{conn: conn, handler: handler}
}

// Pair connects a server with the client's end of its connection.
func Pair(handler Handler) (*Server, *net.UnixConn, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, err
	}
	ends := make([]*net.UnixConn, 2)
	for i, fd := range fds {
		file := os.NewFile(uintptr(fd), "qmp")
		conn, err := net.FileConn(file)
		file.Close()
		if err != nil {
			return nil, nil, err
		}
		ends[i] = conn.(*net.UnixConn)
	}
	return New(ends[0], handler), ends[1], nil
}

// Serve greets and answers commands one after the other until the client goes
// or Close is called. It returns nil then.
func (s *Server) Serve() error {
	if err := s.Write(greeting); err != nil {
		return err
	}
	r := &fileReader{conn: s.conn}
	defer r.close()
	lines := bufio.NewReader(r)
	negotiated := false
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, unix.ECONNRESET) {
			return nil
		}
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		var request struct {
			Execute   string          `json:"execute"`
			Arguments json.RawMessage `json:"arguments"`
			ID        json.RawMessage `json:"id"`
		}
		if err := json.Unmarshal(line, &request); err != nil {
			s.reply(nil, nil, &Refusal{"GenericError", "JSON parse error, " + err.Error()})
			continue
		}
		var result any
		switch {
		case request.Execute == "qmp_capabilities":
			negotiated = true
		case !negotiated:
			err = &Refusal{"CommandNotFound", "Expecting capabilities negotiation with 'qmp_capabilities'"}
		default:
			result, err = s.handler(s, Command{request.Execute, request.Arguments, r.take()})
		}
		if r, ok := result.(Reply); ok {
			s.reply(request.ID, r.Result, err)
			r.Then()
			continue
		}
		s.reply(request.ID, result, err)
	}
}

// Emit sends an event.
func (s *Server) Emit(name string, data any) error {
	now := time.Now()
	line, err := json.Marshal(map[string]any{
		"event": name, "data": data,
		"timestamp": map[string]int64{"seconds": now.Unix(), "microseconds": int64(now.Nanosecond() / 1000)},
	})
	if err != nil {
		return err
	}
	return s.Write(string(line))
}

// Write sends a line as it is, for the faults of a server.
func (s *Server) Write(line string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, err := io.WriteString(s.conn, line+"\r\n")
	return err
}

// Close breaks the connection.
func (s *Server) Close() error { return s.conn.Close() }

func (s *Server) reply(id json.RawMessage, result any, err error) {
	reply := map[string]any{"return": result}
	if result == nil {
		reply["return"] = struct{}{}
	}
	if err != nil {
		refusal := &Refusal{"GenericError", err.Error()}
		errors.As(err, &refusal)
		reply = map[string]any{"error": map[string]string{"class": refusal.Class, "desc": refusal.Desc}}
	}
	if id != nil {
		reply["id"] = id
	}
	line, err := json.Marshal(reply)
	if err != nil {
		panic(fmt.Sprintf("result does not encode: %v", err))
	}
	// A client that is gone shows in Serve's next read.
	_ = s.Write(string(line))
}

// fileReader reads a connection and keeps the last file that came along.
type fileReader struct {
	conn *net.UnixConn
	file *os.File
}

func (r *fileReader) Read(p []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4*4))
	n, oobn, _, _, err := r.conn.ReadMsgUnix(p, oob)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	messages, parseErr := unix.ParseSocketControlMessage(oob[:oobn])
	if parseErr != nil {
		return n, parseErr
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return n, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			r.close()
			r.file = os.NewFile(uintptr(fd), "received")
		}
	}
	return n, nil
}

func (r *fileReader) take() *os.File {
	file := r.file
	r.file = nil
	return file
}

func (r *fileReader) close() {
	if r.file != nil {
		r.file.Close()
		r.file = nil
	}
}
