// Package ssh talks to a guest over one SSH connection: each command and each
// upload is a channel of it. How to reach the guest, and by which keys, is the
// caller's to say.
package ssh

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	"github.com/pkg/sftp"
	xssh "golang.org/x/crypto/ssh"

	"goldsmith/internal/arm"
	"goldsmith/internal/guest"
)

// Times by which a dead guest is noticed: between 10 and 15 seconds, so that a
// guest busy without hardware acceleration still has time to answer.
const (
	defaultInterval = 5 * time.Second
	defaultTimeout  = 10 * time.Second
	// killTime is how long a command may take to end after it was told to.
	killTime = time.Second
)

// Config is who talks to whom.
type Config struct {
	// User signs in with Key, the only method tried.
	User string
	Key  xssh.Signer
	// HostKey is the guest's; a connection to any other is refused.
	HostKey xssh.PublicKey
	// Interval between two questions whether the guest is there, and Timeout of
	// each answer; 0 for 5 and 10 seconds.
	Interval, Timeout time.Duration
}

// Session is a guest.Session over SSH.
type Session struct {
	client *xssh.Client
	stop   context.CancelFunc
	work   sync.WaitGroup

	mu     sync.Mutex
	closed bool         // by Close
	lost   error        // why the connection ended on its own
	files  *sftp.Client // channel for the next upload, nil for none
}

var _ guest.Session = (*Session)(nil)

// Connect signs in over conn, which it takes over. Errors are arm.Errors:
// CodeGuestNotReady when the guest is not the one expected or refuses the key,
// CodeGuestLost when the connection broke, or ctx's cause.
func Connect(ctx context.Context, conn net.Conn, c Config) (*Session, error) {
	if c.Interval <= 0 {
		c.Interval = defaultInterval
	}
	if c.Timeout <= 0 {
		c.Timeout = defaultTimeout
	}
	var wrongKey bool
	config := &xssh.ClientConfig{
		// The fastest of today's algorithms without hardware support, and one
		// more of each kind for guests that restrict themselves to NIST's.
		Config: xssh.Config{
			KeyExchanges: []string{xssh.KeyExchangeCurve25519, xssh.KeyExchangeECDHP256},
			Ciphers:      []string{xssh.CipherChaCha20Poly1305, xssh.CipherAES128GCM, xssh.CipherAES256GCM},
		},
		User: c.User,
		Auth: []xssh.AuthMethod{xssh.PublicKeys(c.Key)},
		HostKeyCallback: func(name string, addr net.Addr, key xssh.PublicKey) error {
			err := xssh.FixedHostKey(c.HostKey)(name, addr, key)
			wrongKey = err != nil
			return err
		},
		HostKeyAlgorithms: []string{c.HostKey.Type()},
	}
	// The handshake knows no context: closing the connection ends it.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	base, channels, requests, err := xssh.NewClientConn(conn, "guest", config)
	if !stop() || err != nil {
		if err == nil {
			err = base.Close()
		}
		_ = conn.Close()
		var refused *xssh.ServerAuthError
		var network net.Error
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case wrongKey:
			return nil, arm.Errorf(arm.CodeGuestNotReady, "the guest did not show the host key that it was given: %w", err)
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &network):
			return nil, arm.Errorf(arm.CodeGuestLost, "the connection to the guest broke while signing in: %w", err)
		case errors.As(err, &refused):
			return nil, arm.Errorf(arm.CodeGuestNotReady, "the guest refuses the build's key: %w", err)
		}
		return nil, arm.Errorf(arm.CodeGuestNotReady, "cannot sign in to the guest as %s: check its sshd settings: %w", c.User, err)
	}
	alive, end := context.WithCancel(context.WithoutCancel(ctx))
	s := &Session{client: xssh.NewClient(base, channels, requests), stop: end}
	s.spawn(func() { s.keepalive(alive, c.Interval, c.Timeout) })
	return s, nil
}

// Close ends the connection, and with it every command on it.
func (s *Session) Close() error {
	s.mu.Lock()
	s.closed = true
	files := s.files
	s.files = nil
	s.mu.Unlock()
	s.stop()
	err := s.client.Close()
	if files != nil {
		_ = files.Close() // its connection is gone; this ends its goroutine
	}
	s.work.Wait()
	if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
		return nil // the guest was first
	}
	return err
}

// keepalive asks the guest at intervals whether it is there, and closes the
// connection when it does not answer in time, so that everything waiting on it
// fails.
func (s *Session) keepalive(ctx context.Context, interval, timeout time.Duration) {
	next := time.NewTicker(interval)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		late := time.AfterFunc(timeout, func() {
			s.fail(errors.New("it did not answer for " + timeout.String()))
			_ = s.client.Close()
		})
		_, _, err := s.client.SendRequest("keepalive@openssh.com", true, nil)
		late.Stop()
		if err != nil {
			s.fail(err)
			return
		}
	}
}

// spawn runs f in a goroutine that Close waits for; after Close it does nothing
// and returns false.
func (s *Session) spawn(f func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.work.Go(f)
	return true
}

// errClosed is the use of a Session after Close.
var errClosed = errors.New("it was closed on this side")

// fail notes why the connection ended; the first reason counts.
func (s *Session) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lost == nil {
		s.lost = err
	}
}

// gone is the error of what cannot be done for want of a connection.
func (s *Session) gone(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return arm.Errorf(arm.CodeGuestLost, "the connection to the guest was closed: %w", err)
	}
	if s.lost != nil {
		err = s.lost
	}
	return arm.Errorf(arm.CodeGuestLost, "the connection to the guest broke: it crashed, powered off or stopped its sshd; see the run's console: %w", err)
}
