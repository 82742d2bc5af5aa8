package netswitch

import (
	"errors"
	"net"
	"sync"
	"syscall"

	"goldsmith/internal/network/frame"
)

// chunkSize is how many bytes a wire writes at once at most; the largest frame and
// its length fit.
const chunkSize = 72 << 10

// chunks hold frames on their way to a wire. Those of a wire that is idle are in
// the pool.
var chunks = sync.Pool{New: func() any { b := make([]byte, 0, chunkSize); return &b }}

// wire is the stream behind a port: frames are pushed without ever blocking,
// and one goroutine writes all that gathered meanwhile, many in one system call.
type wire struct {
	conn  net.Conn
	limit int           // bytes in pending, lengths included
	wake  chan struct{} // holds a token when pending is not empty or closed is set

	mu      sync.Mutex
	pending []*[]byte // chunks in their order; whole frames each
	bytes   int       // in pending
	closed  bool
}

func newWire(conn net.Conn, limit int) *wire {
	return &wire{conn: conn, limit: limit, wake: make(chan struct{}, 1)}
}

// push queues a frame and reports whether there was room.
func (w *wire) push(b []byte) bool {
	need := frame.PrefixSize + len(b)
	w.mu.Lock()
	if w.closed || w.bytes+need > w.limit {
		w.mu.Unlock()
		return false
	}
	first := w.bytes == 0
	n := len(w.pending)
	if n == 0 || len(*w.pending[n-1])+need > chunkSize {
		w.pending = append(w.pending, chunks.Get().(*[]byte))
		n++
	}
	c := w.pending[n-1]
	*c = frame.Append(*c, b)
	w.bytes += need
	w.mu.Unlock()
	if first {
		w.signal()
	}
	return true
}

func (w *wire) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// write sends queued frames until close or a write error.
func (w *wire) write() error {
	var batch []*[]byte
	for {
		<-w.wake
		w.mu.Lock()
		batch, w.pending = w.pending, batch[:0]
		w.bytes = 0
		closed := w.closed
		w.mu.Unlock()
		if closed {
			return nil
		}
		for i, c := range batch {
			if _, err := w.conn.Write(*c); err != nil {
				w.close()
				return err
			}
			*c = (*c)[:0]
			chunks.Put(c)
			batch[i] = nil
		}
	}
}

// close ends reading and writing; queued frames are lost with their reader.
func (w *wire) close() {
	w.mu.Lock()
	w.closed = true
	w.pending, w.bytes = nil, 0
	w.mu.Unlock()
	w.signal()
	_ = w.conn.Close()
}

// hungUp reports whether a write failed only because the other end is gone.
func hungUp(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
