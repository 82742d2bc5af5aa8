package server

import (
	"io"
	"net/http"
	"time"
)

// A client must take or send something within these times. There is no limit on
// how long a request lasts: logs are followed for hours, and disks are large.
const (
	readPatience  = 30 * time.Second
	writePatience = time.Minute
)

// bodyPatience is the time in which the whole content of a request must arrive
// that is no disk: many small pieces do not make it longer.
const bodyPatience = 30 * time.Second

// leastRate is how many bytes of a disk or another blob must arrive in a second,
// on the average since the request began, beyond bodyPatience.
const leastRate = 4 << 10

// slowClients ends connections of clients that stop reading or sending. The
// content of a request must be there within bodyPatience; if rate is not 0, every
// rate bytes of it that have come are worth another second.
func slowClients(next http.Handler, rate int64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if r.Body != nil && r.Body != http.NoBody {
			body := &patientBody{ReadCloser: r.Body, control: control, rate: rate, by: time.Now().Add(bodyPatience)}
			// Also for content that nobody reads: the HTTP server takes in some of what is
			// left before it sends the answer.
			body.wait()
			r.Body = body
		}
		next.ServeHTTP(&patientWriter{ResponseWriter: w, control: control}, r)
	})
}

// patientBody gives each read of a request's body its time.
type patientBody struct {
	io.ReadCloser
	control *http.ResponseController
	by      time.Time // when all of it must be there
	rate    int64     // bytes that move by on by a second, 0 for none
}

// wait sets the time until which the connection waits for more.
func (b *patientBody) wait() {
	deadline := time.Now().Add(readPatience)
	if b.by.Before(deadline) {
		deadline = b.by
	}
	// Where deadlines are not supported the server's other limits hold.
	_ = b.control.SetReadDeadline(deadline)
}

func (b *patientBody) Read(p []byte) (int, error) {
	b.wait()
	n, err := b.ReadCloser.Read(p)
	if b.rate > 0 {
		b.by = b.by.Add(time.Duration(n) * time.Second / time.Duration(b.rate))
	}
	if err == io.EOF {
		// The request may last. After any other error the time stays over, so that the
		// server does not wait for the rest.
		_ = b.control.SetReadDeadline(time.Time{})
	}
	return n, err
}

// patientWriter gives each write of an answer its time.
type patientWriter struct {
	http.ResponseWriter
	control *http.ResponseController
}

func (w *patientWriter) Write(p []byte) (int, error) {
	_ = w.control.SetWriteDeadline(time.Now().Add(writePatience))
	return w.ResponseWriter.Write(p)
}

// Flush implements http.Flusher.
func (w *patientWriter) Flush() {
	_ = w.control.SetWriteDeadline(time.Now().Add(writePatience))
	_ = w.control.Flush() // the write after it reports a client that has gone
}

// Unwrap is for http.ResponseController.
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
