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

// slowClients ends connections of clients that stop reading or sending.
func slowClients(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		if r.Body != nil && r.Body != http.NoBody {
			r.Body = &patientBody{ReadCloser: r.Body, control: control}
		}
		next.ServeHTTP(&patientWriter{ResponseWriter: w, control: control}, r)
	})
}

// patientBody gives each read of a request's body its time.
type patientBody struct {
	io.ReadCloser
	control *http.ResponseController
}

func (b *patientBody) Read(p []byte) (int, error) {
	// Where deadlines are not supported the server's other limits hold.
	_ = b.control.SetReadDeadline(time.Now().Add(readPatience))
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		_ = b.control.SetReadDeadline(time.Time{}) // the next request has a time of its own
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
