package ssh

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	xssh "golang.org/x/crypto/ssh"
)

// signalBase is what shells add to a signal's number for an exit status.
const signalBase = 128

// signals are the numbers of the signals that SSH names (RFC 4254, section 6.10)
// on Linux.
var signals = map[string]int{
	"HUP": 1, "INT": 2, "QUIT": 3, "ILL": 4, "ABRT": 6, "FPE": 8, "KILL": 9,
	"USR1": 10, "SEGV": 11, "USR2": 12, "PIPE": 13, "ALRM": 14, "TERM": 15,
}

// Run executes a command line with the user's shell. A command that a signal
// ended has the status that a shell would give it, 128 plus the signal's number.
// When ctx ends, the command's processes are killed as far as the user may, and
// Run returns within about a second; nothing is written afterwards.
func (s *Session) Run(ctx context.Context, command string, stdout, stderr io.Writer) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	channel, err := s.open(ctx)
	if err != nil {
		return 0, err
	}
	out, err2 := &gate{w: stdout}, &gate{w: stderr}
	defer out.shut()
	defer err2.shut()
	channel.Stdout, channel.Stderr = out, err2
	ended := make(chan error, 1)
	if !s.spawn(func() {
		err := channel.Start(command)
		if err == nil {
			err = channel.Wait()
		}
		ended <- err
	}) {
		return 0, s.gone(errClosed)
	}
	select {
	case err := <-ended:
		_ = channel.Close()
		return s.status(err)
	case <-ctx.Done():
	}
	s.kill(channel, ended)
	return 0, context.Cause(ctx)
}

// open opens a channel; a guest that hangs does not hold the caller.
func (s *Session) open(ctx context.Context) (*xssh.Session, error) {
	type result struct {
		channel *xssh.Session
		err     error
	}
	opened := make(chan result, 1)
	if !s.spawn(func() {
		channel, err := s.client.NewSession()
		opened <- result{channel, err}
	}) {
		return nil, s.gone(errClosed)
	}
	select {
	case r := <-opened:
		if r.err != nil {
			return nil, s.gone(r.err)
		}
		return r.channel, nil
	case <-ctx.Done():
		s.spawn(func() {
			if r := <-opened; r.err == nil {
				_ = r.channel.Close()
			}
		})
		return nil, context.Cause(ctx)
	}
}

// kill ends a command: first asked, then not.
func (s *Session) kill(channel *xssh.Session, ended <-chan error) {
	// A guest that hangs does not even take the requests, so they are sent aside
	// and end with the connection.
	s.spawn(func() {
		_ = channel.Signal(xssh.SIGTERM)
	})
	late := time.NewTimer(killTime)
	defer late.Stop()
	select {
	case <-ended:
	case <-late.C:
	}
	s.spawn(func() {
		_ = channel.Signal(xssh.SIGKILL)
		_ = channel.Close()
	})
}

// status maps the end of a command.
func (s *Session) status(err error) (int, error) {
	var exit *xssh.ExitError
	switch {
	case err == nil:
		return 0, nil
	case errors.As(err, &exit):
		if name := exit.Signal(); name != "" {
			if number, known := signals[name]; known {
				return signalBase + number, nil
			}
			return signalBase, nil
		}
		return exit.ExitStatus(), nil
	}
	return 0, s.gone(err)
}

// gate passes writes on until it is shut. The failure of the writer behind it
// does not stop the command: its output is drained.
type gate struct {
	mu sync.Mutex
	w  io.Writer
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.w != nil {
		if _, err := g.w.Write(p); err != nil {
			g.w = nil
		}
	}
	return len(p), nil
}

func (g *gate) shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.w = nil
}
