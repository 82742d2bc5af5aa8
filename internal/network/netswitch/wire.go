package netswitch

import (
	"errors"
	"net"
	"sync"
	"syscall"

	"goldsmith/internal/network/frame"
)

// keepBuffer is the largest buffer a wire holds on to while it is idle.
const keepBuffer = 256 << 10

// wire is the stream behind a port: frames are pushed without ever blocking,
// and one goroutine writes all that gathered meanwhile in one system call.
type wire struct {
	conn  net.Conn
	limit int
	wake  chan struct{} // holds a token when pending is not empty or closed is set

	mu      sync.Mutex
	pending []byte
	closed  bool
}

func newWire(conn net.Conn, limit int) *wire {
	return &wire{conn: conn, limit: limit, wake: make(chan struct{}, 1)}
}

// push queues a frame and reports whether there was room.
func (w *wire) push(b []byte) bool {
	w.mu.Lock()
	if w.closed || len(w.pending)+frame.PrefixSize+len(b) > w.limit {
		w.mu.Unlock()
		return false
	}
	first := len(w.pending) == 0
	w.pending = frame.Append(w.pending, b)
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
	var spare []byte
	for {
		select {
		case <-w.wake:
		default:
			if cap(spare) > keepBuffer {
				spare = nil // a burst is over
			}
			<-w.wake
		}
		w.mu.Lock()
		batch, closed := w.pending, w.closed
		w.pending = spare[:0]
		w.mu.Unlock()
		if closed {
			return nil
		}
		if _, err := w.conn.Write(batch); err != nil {
			w.close()
			return err
		}
		spare = batch
	}
}

// close ends reading and writing; queued frames are lost with their reader.
func (w *wire) close() {
	w.mu.Lock()
	w.closed = true
	w.pending = nil
	w.mu.Unlock()
	w.signal()
	_ = w.conn.Close()
}

// hungUp reports whether a write failed only because the other end is gone.
func hungUp(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET)
}
