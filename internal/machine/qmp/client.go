// Package qmp is a client of QEMU's machine protocol on a connected Unix socket:
// replies are matched to commands by id, events go to subscriptions and are
// never lost, files travel with commands, every call ends with its context, and
// a connection that breaks fails everything that waits on it.
//
// The protocol is QEMU's docs/interop/qmp-spec.txt.
package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// ErrClosed is the cause of every failure after Close.
var ErrClosed = errors.New("monitor connection is closed")

// Client is one monitor connection. Its methods may be called concurrently.
type Client struct {
	conn    *net.UnixConn
	writing chan struct{} // holds one token: who has it may write
	done    chan struct{} // closed when the read loop has ended

	mu      sync.Mutex
	err     error // why the connection ended; nil while it lives
	nextID  uint64
	waiting map[string]chan<- *message
	subs    map[*Subscription]struct{}
}

// NewClient takes over conn, waits for the server's greeting and leaves
// capabilities negotiation, so that commands can follow. Events that arrive
// meanwhile go to the subscription that is returned with the client: it receives
// the events of names, all for none, from the very first on. The server may wait
// with its greeting until it has set everything up; ctx bounds that.
func NewClient(ctx context.Context, conn *net.UnixConn, names ...string) (*Client, *Subscription, error) {
	c := &Client{
		conn:    conn,
		writing: make(chan struct{}, 1),
		done:    make(chan struct{}),
		waiting: make(map[string]chan<- *message),
		subs:    make(map[*Subscription]struct{}),
	}
	c.writing <- struct{}{}
	sub := c.Subscribe(names...)
	greeted := make(chan struct{})
	go c.read(greeted)
	select {
	case <-greeted:
	case <-c.done:
		return nil, nil, fmt.Errorf("no greeting from the monitor: %w", c.Err())
	case <-ctx.Done():
		c.Close()
		return nil, nil, fmt.Errorf("no greeting from the monitor: %w", context.Cause(ctx))
	}
	if err := c.Execute(ctx, "qmp_capabilities", nil, nil); err != nil {
		c.Close()
		return nil, nil, err
	}
	return c, sub, nil
}

// Execute runs command with args, any value that encodes as a JSON object, nil
// for none. The reply is decoded into result unless that is nil. The error is an
// *Error when the server refuses, ctx's cause when ctx ends first (the command
// may still take effect), or the reason why the connection broke.
func (c *Client) Execute(ctx context.Context, command string, args, result any) error {
	return c.ExecuteFile(ctx, command, args, result, nil)
}

// ExecuteFile is Execute with an open file that travels beside the command, as
// getfd wants it. The caller keeps its own file and closes it.
func (c *Client) ExecuteFile(ctx context.Context, command string, args, result any, file *os.File) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("%s: %w", command, context.Cause(ctx))
	}
	id, reply, err := c.expect()
	if err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	defer c.forget(id)
	request := struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        string `json:"id"`
	}{command, args, id}
	line, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("%s: arguments do not encode: %w", command, err)
	}
	if err := c.write(ctx, append(line, '\n'), file); err != nil {
		return fmt.Errorf("%s: %w", command, err)
	}
	select {
	case m, ok := <-reply:
		if !ok {
			return fmt.Errorf("%s: %w", command, c.Err())
		}
		if m.Err != nil {
			return &Error{Command: command, Class: m.Err.Class, Desc: m.Err.Desc}
		}
		if result == nil {
			return nil
		}
		if err := json.Unmarshal(m.Return, result); err != nil {
			return fmt.Errorf("%s: reply does not decode: %w", command, err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s: %w", command, context.Cause(ctx))
	}
}

// Done is closed when the connection has ended, however that came; Err says why.
func (c *Client) Done() <-chan struct{} { return c.done }

// Err is why the connection ended: ErrClosed after Close, io.EOF when the server
// went away; nil while it lives.
func (c *Client) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and waits for the reader. Calls and subscriptions
// that wait fail with ErrClosed.
func (c *Client) Close() error {
	c.fail(ErrClosed)
	<-c.done
	return nil
}

// expect registers a new command id.
func (c *Client) expect() (string, <-chan *message, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return "", nil, c.err
	}
	c.nextID++
	id := strconv.FormatUint(c.nextID, 10)
	reply := make(chan *message, 1)
	c.waiting[id] = reply
	return id, reply, nil
}

// forget ends the wait for id; a reply that comes later is dropped.
func (c *Client) forget(id string) {
	c.mu.Lock()
	delete(c.waiting, id)
	c.mu.Unlock()
}

// write sends one line, whole, or ends the connection: after half a command no
// other can follow.
func (c *Client) write(ctx context.Context, line []byte, file *os.File) error {
	select {
	case <-c.writing:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	defer func() { c.writing <- struct{}{} }()
	// A server that does not read would hold the write for ever.
	interrupted := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(interrupted)
		c.conn.SetWriteDeadline(time.Unix(1, 0))
	})
	sent, err := c.send(line, file)
	if !stop() {
		<-interrupted // or the deadline might be set after it is reset below
		if sent > 0 && sent < len(line) {
			c.fail(fmt.Errorf("a command was cut short: %w", context.Cause(ctx)))
		}
		if resetErr := c.conn.SetWriteDeadline(time.Time{}); resetErr != nil && err == nil {
			err = resetErr
		}
		if err != nil {
			return context.Cause(ctx)
		}
		return nil
	}
	if err != nil {
		c.fail(err)
		return c.Err()
	}
	return nil
}

// send writes line, with file attached to its first bytes.
func (c *Client) send(line []byte, file *os.File) (int, error) {
	if file == nil {
		return c.conn.Write(line)
	}
	sent := 0
	err := withFD(file, func(fd int) error {
		var err error
		sent, _, err = c.conn.WriteMsgUnix(line, unix.UnixRights(fd), nil)
		return err
	})
	if err == nil && sent < len(line) {
		var rest int
		rest, err = c.conn.Write(line[sent:])
		sent += rest
	}
	return sent, err
}

// withFD lends file's descriptor to use without putting the file into blocking
// mode, as File.Fd would.
func withFD(file *os.File, use func(fd int) error) error {
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	var useErr error
	if err := raw.Control(func(fd uintptr) { useErr = use(int(fd)) }); err != nil {
		return err
	}
	return useErr
}

// read is the reader of the connection; it ends when the connection does.
func (c *Client) read(greeted chan struct{}) {
	defer close(c.done)
	r := bufio.NewReader(c.conn)
	for {
		m, err := readMessage(r)
		if err != nil {
			if c.Err() == nil && !errors.Is(err, io.EOF) {
				err = fmt.Errorf("monitor: %w", err)
			}
			c.fail(err)
			return
		}
		switch {
		case m.Greeting != nil:
			if greeted != nil {
				close(greeted)
				greeted = nil
			}
		case m.Event != "":
			c.publish(Event{Name: m.Event, Data: m.Data, Time: m.time()})
		default:
			c.answer(m)
		}
	}
}

// answer hands a reply to the command that waits for it.
func (c *Client) answer(m *message) {
	var id string
	if json.Unmarshal(m.ID, &id) != nil {
		// An error without an id answers a line that the server could not parse.
		if m.Err != nil {
			c.fail(&Error{Command: "monitor", Class: m.Err.Class, Desc: m.Err.Desc})
		}
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if reply, ok := c.waiting[id]; ok {
		reply <- m
		delete(c.waiting, id)
	}
}

// publish hands an event to every subscription that wants it.
func (c *Client) publish(e Event) {
	c.mu.Lock()
	var slow bool
	for s := range c.subs {
		if !s.add(e) {
			slow = true
		}
	}
	c.mu.Unlock()
	if slow {
		c.fail(errors.New("a subscriber does not keep up with the monitor's events"))
	}
}

// fail ends the connection with err, unless it has ended already.
func (c *Client) fail(err error) {
	c.mu.Lock()
	if c.err == nil {
		c.err = err
		c.conn.Close()
		for id, reply := range c.waiting {
			close(reply)
			delete(c.waiting, id)
		}
		for s := range c.subs {
			s.end()
		}
	}
	c.mu.Unlock()
}
