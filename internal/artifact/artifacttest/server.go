// Package artifacttest is an in-process web server that behaves like the ones
// content is fetched from, and misbehaves on request.
package artifacttest

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"
)

// File is what the server has at a path.
type File struct {
	Body     []byte
	ETag     string    // with its quotes; "" sends none
	Modified time.Time // zero sends no Last-Modified
	NoRanges bool      // answers every request with the whole body
}

// Fault answers one request in place of the file, which it may still serve.
type Fault func(w http.ResponseWriter, r *http.Request, f File)

// Server serves files over HTTP on a loopback address.
type Server struct {
	*httptest.Server
	mu       sync.Mutex
	files    map[string]File
	faults   map[string][]Fault
	requests map[string][]*http.Request
}

// New starts a server that ends with the test.
func New(t testing.TB) *Server {
	s := newServer()
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// NewTLS is New with HTTPS.
func NewTLS(t testing.TB) *Server {
	s := newServer()
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	return s
}

func newServer() *Server {
	return &Server{files: map[string]File{}, faults: map[string][]Fault{}, requests: map[string][]*http.Request{}}
}

// Put makes f available at path, which starts with a slash.
func (s *Server) Put(path string, f File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[path] = f
}

// Fail makes the next requests for path meet one fault each; a nil fault is none.
func (s *Server) Fail(path string, faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[path] = append(s.faults[path], faults...)
}

// Requests lists what was asked for path so far.
func (s *Server) Requests(path string) []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]*http.Request(nil), s.requests[path]...)
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := r.URL.Path
	s.mu.Lock()
	s.requests[path] = append(s.requests[path], r.Clone(r.Context()))
	f, ok := s.files[path]
	var fault Fault
	if queue := s.faults[path]; len(queue) > 0 {
		fault, s.faults[path] = queue[0], queue[1:]
	}
	s.mu.Unlock()
	switch {
	case fault != nil:
		fault(w, r, f)
	case !ok:
		http.NotFound(w, r)
	default:
		f.serve(w, r)
	}
}

func (f File) serve(w http.ResponseWriter, r *http.Request) {
	f.header(w)
	if f.NoRanges {
		r = r.Clone(r.Context())
		r.Header.Del("Range")
	}
	http.ServeContent(w, r, "", f.Modified, bytes.NewReader(f.Body))
}

func (f File) header(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/octet-stream")
	if f.ETag != "" {
		w.Header().Set("ETag", f.ETag)
	}
}

// Status answers with a status code and header lines in pairs.
func Status(code int, header ...string) Fault {
	return func(w http.ResponseWriter, _ *http.Request, _ File) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(code)
	}
}

// Redirect answers 302 to location.
func Redirect(location string) Fault { return Status(http.StatusFound, "Location", location) }

// Cut breaks the connection after n bytes of the body.
func Cut(n int) Fault {
	return func(w http.ResponseWriter, r *http.Request, f File) {
		f.serve(&cutting{ResponseWriter: w, left: n}, r)
	}
}

type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(p []byte) (int, error) {
	if len(p) < c.left {
		c.left -= len(p)
		return c.ResponseWriter.Write(p)
	}
	_, _ = c.ResponseWriter.Write(p[:c.left]) // the client may be gone
	_ = http.NewResponseController(c.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// Stall sends n bytes of the body and then nothing until the client goes away.
func Stall(n int) Fault {
	return func(w http.ResponseWriter, r *http.Request, f File) {
		f.header(w)
		w.Header().Set("Content-Length", strconv.Itoa(len(f.Body)))
		_, _ = w.Write(f.Body[:n]) // the client may be gone
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}
}

// Endless sends zeros until the client goes away; size is what it announces, 0
// for nothing.
func Endless(size int64) Fault {
	return func(w http.ResponseWriter, r *http.Request, _ File) {
		if size > 0 {
			w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		}
		for buf := make([]byte, 32<<10); r.Context().Err() == nil; {
			if _, err := w.Write(buf); err != nil {
				return
			}
		}
	}
}

// Wait holds the answer back until release is closed or the client goes away.
func Wait(release <-chan struct{}) Fault {
	return func(w http.ResponseWriter, r *http.Request, f File) {
		select {
		case <-release:
			f.serve(w, r)
		case <-r.Context().Done():
		}
	}
}
