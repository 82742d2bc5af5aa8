// Package guesttest is a guest without a virtual machine: an SSH server in this
// process that runs commands by a function and keeps files in a directory, and
// that breaks on demand.
package guesttest

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/pkg/sftp"
	"golang.org/x/crypto/ssh"
)

// Handler executes one command line and returns its exit status. ctx ends when
// the client kills the command or goes away.
type Handler func(ctx context.Context, command string, stdin io.Reader, stdout, stderr io.Writer) int

// Config is how a Server behaves.
type Config struct {
	// Dir is the guest's root directory for file transfers; files below its tmp
	// are the guest's /tmp.
	Dir string
	// Handler executes commands; nil for Shell(Dir).
	Handler Handler
	// HostKey is the server's key, Authorized the only one that may sign in. Nil
	// makes a new one for each, see Server.HostKey and Server.UserKey.
	HostKey    ssh.Signer
	Authorized ssh.PublicKey
	// RefuseAuth refuses every key.
	RefuseAuth bool
	// DropAtCommand closes the connection in place of the n-th command, HangAtCommand
	// takes the n-th command and never answers. Both count from 1; 0 for never.
	DropAtCommand, HangAtCommand int
}

// Server is an SSH server. Close ends it and waits for everything it started.
type Server struct {
	config Config
	user   ssh.Signer
	ctx    context.Context
	stop   context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex
	commands []string
	conns    map[net.Conn]struct{}
	frozen   chan struct{} // closed when not frozen
	closed   bool
}

// New makes a server; it serves what Dial or Serve connect.
func New(c Config) (*Server, error) {
	if c.Handler == nil {
		c.Handler = Shell(c.Dir)
	}
	s := &Server{config: c, conns: map[net.Conn]struct{}{}, frozen: make(chan struct{})}
	close(s.frozen)
	if c.HostKey == nil {
		key, err := newKey()
		if err != nil {
			return nil, err
		}
		s.config.HostKey = key
	}
	if c.Authorized == nil {
		key, err := newKey()
		if err != nil {
			return nil, err
		}
		s.user, s.config.Authorized = key, key.PublicKey()
	}
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

func newKey() (ssh.Signer, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	return ssh.NewSignerFromKey(private)
}

// HostKey is what the server shows.
func (s *Server) HostKey() ssh.PublicKey { return s.config.HostKey.PublicKey() }

// UserKey signs in; nil when Config.Authorized was given.
func (s *Server) UserKey() ssh.Signer { return s.user }

// Commands are the command lines executed so far.
func (s *Server) Commands() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.commands...)
}

// Freeze stops the server from reading its connections, as a guest that hangs;
// Thaw lets it go on.
func (s *Server) Freeze() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen = make(chan struct{})
}

// Thaw undoes Freeze.
func (s *Server) Thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case <-s.frozen:
	default:
		close(s.frozen)
	}
}

// Drop closes every connection, as a guest that crashes.
func (s *Server) Drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for conn := range s.conns {
		_ = conn.Close()
	}
}

// Close ends the server.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.Thaw()
	s.Drop()
	s.work.Wait()
	return nil
}

// Dial connects to the server over a pair of sockets.
func (s *Server) Dial(context.Context) (net.Conn, error) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	var ends [2]net.Conn
	for i, fd := range pair {
		f := os.NewFile(uintptr(fd), "guest")
		ends[i], err = net.FileConn(f)
		_ = f.Close()
		if err != nil {
			if i == 0 {
				_ = syscall.Close(pair[1])
			} else {
				_ = ends[0].Close()
			}
			return nil, err
		}
	}
	if err := s.Serve(ends[1]); err != nil {
		return nil, errors.Join(err, ends[0].Close())
	}
	return ends[0], nil
}

// Serve takes a connection over and returns at once.
func (s *Server) Serve(conn net.Conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errors.Join(net.ErrClosed, conn.Close())
	}
	conn = &freezable{conn, s}
	s.conns[conn] = struct{}{}
	s.work.Go(func() {
		s.serve(conn)
		s.mu.Lock()
		delete(s.conns, conn)
		s.mu.Unlock()
	})
	return nil
}

// serve is one connection from its handshake to its end.
func (s *Server) serve(conn net.Conn) {
	defer conn.Close()
	config := &ssh.ServerConfig{
		PublicKeyCallback: func(_ ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if s.config.RefuseAuth || string(key.Marshal()) != string(s.config.Authorized.Marshal()) {
				return nil, errors.New("this key may not sign in")
			}
			return nil, nil
		},
	}
	config.AddHostKey(s.config.HostKey)
	server, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	var work sync.WaitGroup
	defer work.Wait()
	ctx, stop := context.WithCancel(s.ctx)
	defer stop()
	work.Go(func() { answer(requests) })
	for channel := range channels {
		if channel.ChannelType() != "session" {
			_ = channel.Reject(ssh.UnknownChannelType, "only sessions")
			continue
		}
		c, requests, err := channel.Accept()
		if err != nil {
			continue
		}
		work.Go(func() { s.session(ctx, server, c, requests) })
	}
}

// answer says no to every global request; a keepalive wants no more.
func answer(requests <-chan *ssh.Request) {
	for r := range requests {
		if r.WantReply {
			_ = r.Reply(false, nil)
		}
	}
}

// session is one channel: a command or a file transfer.
func (s *Server) session(ctx context.Context, conn ssh.Conn, c ssh.Channel, requests <-chan *ssh.Request) {
	var work sync.WaitGroup
	defer work.Wait()
	defer c.Close()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	started := false
	for r := range requests {
		var text struct{ Value string }
		_ = ssh.Unmarshal(r.Payload, &text)
		var ok bool
		var start func()
		switch r.Type {
		case "exec":
			ok = !started
			start = func() { s.exec(ctx, conn, c, text.Value) }
		case "subsystem":
			ok = !started && text.Value == "sftp" && s.config.Dir != ""
			start = func() { s.transfer(c) }
		case "signal":
			ok = true
			stop(signalled(text.Value))
		case "env":
			ok = true
		}
		if r.WantReply {
			_ = r.Reply(ok, nil)
		}
		// After the reply: a channel that ends before it looks like a lost connection.
		if ok && start != nil {
			started = true
			work.Go(start)
		}
	}
}

// signalled is the signal that ended a command.
type signalled string

func (s signalled) Error() string { return "signal " + string(s) }

// exec executes one command and reports how it ended.
func (s *Server) exec(ctx context.Context, conn ssh.Conn, c ssh.Channel, command string) {
	s.mu.Lock()
	s.commands = append(s.commands, command)
	n := len(s.commands)
	s.mu.Unlock()
	switch n {
	case s.config.DropAtCommand:
		_ = conn.Close()
		return
	case s.config.HangAtCommand:
		<-ctx.Done()
		_ = c.Close()
		return
	}
	status := s.config.Handler(ctx, command, c, c, c.Stderr())
	var signal signalled
	if errors.As(context.Cause(ctx), &signal) {
		_, _ = c.SendRequest("exit-signal", false, ssh.Marshal(struct {
			Signal        string
			Core          bool
			Message, Lang string
		}{string(signal), false, "", ""}))
	} else {
		_, _ = c.SendRequest("exit-status", false, ssh.Marshal(struct{ Status uint32 }{uint32(status)}))
	}
	_ = c.Close()
}

// transfer serves files.
func (s *Server) transfer(c ssh.Channel) {
	defer c.Close()
	root, err := os.OpenRoot(s.config.Dir)
	if err != nil {
		return
	}
	defer root.Close()
	f := files{root}
	server := sftp.NewRequestServer(c, sftp.Handlers{FileGet: f, FilePut: f, FileCmd: f, FileList: f})
	_ = server.Serve()
	_ = server.Close()
}

// freezable is a connection that is not read while its server is frozen.
type freezable struct {
	net.Conn
	server *Server
}

func (f *freezable) Read(p []byte) (int, error) {
	n, err := f.Conn.Read(p)
	f.server.mu.Lock()
	thawed := f.server.frozen
	f.server.mu.Unlock()
	<-thawed
	return n, err
}
