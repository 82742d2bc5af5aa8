package server

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections are made by dial, so that their time is
// that of the test.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { close(p.closed); return nil }

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "test"} }

func (p *pipes) dial() net.Conn {
	ours, theirs := net.Pipe()
	p.conns <- theirs
	return ours
}

// slowScene serves, on the test's time, a handler that reads the request's content
// unless its path is /unread, and answers with as much as its path asks for. Every
// rate bytes of content win their sender a second.
func slowScene(t *testing.T, rate int64, test func(*pipes)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
		s := &Server{cfg: Config{Log: slog.New(slog.DiscardHandler)}}
		server := s.httpServer(t.Context(), slowClients(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/unread" {
				if _, err := io.Copy(io.Discard, r.Body); err != nil {
					http.Error(w, "too slow", http.StatusRequestTimeout)
					return
				}
			}
			if r.URL.Path == "/large" {
				// A reader who takes nothing is an error here; there is nobody to tell.
				_, _ = io.WriteString(w, strings.Repeat("x", 1<<20))
			}
		}), rate))
		done := make(chan error, 1)
		go func() { done <- server.Serve(p) }()
		test(p)
		if err := server.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

// trickle sends a piece again and again, until the other side has closed.
func trickle(c net.Conn, piece string, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if _, err := io.WriteString(c, piece); err != nil {
			return
		}
		<-tick.C
	}
}

func TestSlowClientsAreCutOff(t *testing.T) {
	const post = " HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
	for name, tt := range map[string]struct {
		head, piece string
		every       time.Duration
		rate        int64
		after       time.Duration // what the client has at most
		status      int           // 0 for none
	}{
		"headers that do not come":  {head: "GET / HTTP/1.1\r\nHost: x\r\n", after: headerTimeout},
		"headers by and by":         {head: "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ", piece: "x", every: 3 * time.Second, after: headerTimeout},
		"a body that does not come": {head: "POST /" + post, after: bodyPatience, status: http.StatusRequestTimeout},
		"a body by and by": {
			head: "POST /" + post, piece: "x", every: 7 * time.Second, after: bodyPatience, status: http.StatusRequestTimeout,
		},
		"a blob by and by": {
			head: "POST /" + post, piece: "x", every: 7 * time.Second, rate: 1, after: bodyPatience + 5*time.Second, status: http.StatusRequestTimeout,
		},
		"a slow blob that is fast enough": {
			head: "POST /" + post, piece: strings.Repeat("x", 10), every: 7 * time.Second, rate: 1, after: 100*7*time.Second + headerTimeout, status: http.StatusOK,
		},
		"a body that nobody reads": {
			head: "POST /unread" + post, piece: "x", every: 7 * time.Second, after: bodyPatience, status: http.StatusOK,
		},
	} {
		t.Run(name, func(t *testing.T) {
			slowScene(t, tt.rate, func(p *pipes) {
				began := time.Now()
				c := p.dial()
				ended := make(chan struct{})
				go func() {
					defer close(ended)
					if _, err := io.WriteString(c, tt.head); err == nil && tt.piece != "" {
						trickle(c, tt.piece, tt.every)
					}
				}()
				// Others are answered meanwhile.
				other := p.dial()
				if _, err := io.WriteString(other, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
					t.Error(err)
				}
				if res, err := http.ReadResponse(bufio.NewReader(other), nil); err != nil || res.StatusCode != http.StatusOK || time.Since(began) > 0 {
					t.Errorf("another client: %v %v after %s", res, err, time.Since(began))
				}
				_ = other.Close()

				r := bufio.NewReader(c)
				res, err := http.ReadResponse(r, nil)
				switch {
				case tt.status == 0 && err == nil:
					t.Errorf("answered %s", res.Status)
				case tt.status != 0 && (err != nil || res.StatusCode != tt.status):
					t.Errorf("answered %v %v, want %d", res, err, tt.status)
				}
				if _, err := io.Copy(io.Discard, r); err != nil {
					t.Error(err)
				}
				if took := time.Since(began); took > tt.after+time.Second {
					t.Errorf("the connection was closed after %s, want %s", took, tt.after)
				}
				_ = c.Close()
				<-ended
			})
		})
	}
}

// A client that does not take its answer loses the connection.
func TestSlowReadersAreCutOff(t *testing.T) {
	slowScene(t, 0, func(p *pipes) {
		began := time.Now()
		c := p.dial()
		if _, err := io.WriteString(c, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		timer := time.NewTimer(2 * writePatience)
		defer timer.Stop()
		<-timer.C
		read, err := io.Copy(io.Discard, c)
		if err != nil || read > 1<<16 {
			t.Errorf("%d bytes after %s: %v", read, time.Since(began), err)
		}
		_ = c.Close()
	})
}
