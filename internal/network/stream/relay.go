package stream

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// lingerIdle is how long a connection may stay silent once one side is done.
const lingerIdle = time.Minute

// relayBuffers bound what one direction of a connection has in flight here.
var relayBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// Relay copies between inside and outside until both are done, one failed,
// nothing moved for idle, or ctx ended; it closes both, by a reset unless both
// were done. It returns the bytes from and to inside.
func Relay(ctx context.Context, inside *Conn, outside net.Conn, idle time.Duration) (sent, received int64) {
	var aborted sync.Once
	abort := func() {
		aborted.Do(func() {
			inside.Abort()
			reset(outside)
		})
	}
	stop := context.AfterFunc(ctx, abort)
	watch := WatchIdle(idle, abort)
	var up, down atomic.Int64

	var upward sync.WaitGroup
	upward.Go(func() {
		halfCopy(outside, inside, &up, watch, abort)
	})
	halfCopy(inside, outside, &down, watch, abort)
	upward.Wait()

	watch.End()
	if !stop() {
		abort() // or wait for it
	}
	_ = inside.Close()
	_ = outside.Close()
	return up.Load(), down.Load()
}

// halfCopy moves bytes from src to dst and passes the end of src on.
func halfCopy(dst, src net.Conn, moved *atomic.Int64, watch *Idle, abort func()) {
	buf := relayBuffers.Get().(*[]byte)
	defer relayBuffers.Put(buf)
	for {
		n, err := src.Read(*buf)
		if n > 0 {
			watch.Touch()
			written, werr := dst.Write((*buf)[:n])
			moved.Add(int64(written))
			if werr != nil {
				abort()
				return
			}
		}
		if err == nil {
			continue
		}
		if err != io.EOF {
			abort()
			return
		}
		watch.shorten(lingerIdle)
		if half, ok := dst.(interface{ CloseWrite() error }); ok {
			_ = half.CloseWrite() // a failure shows in the other direction
		}
		return
	}
}

// reset closes a connection without waiting for what it still holds.
func reset(conn net.Conn) {
	switch c := conn.(type) {
	case *Conn:
		c.Abort()
	case *net.TCPConn:
		_ = c.SetLinger(0)
	}
	_ = conn.Close()
}

// Idle calls a function when Touch was not called for a while.
type Idle struct {
	expire func()
	moved  atomic.Bool // since the timer was set

	mu    sync.Mutex
	after time.Duration
	ended bool
	timer *time.Timer
}

// WatchIdle calls expire, once, when after has passed without a Touch.
func WatchIdle(after time.Duration, expire func()) *Idle {
	w := &Idle{expire: expire, after: after}
	w.mu.Lock()
	w.timer = time.AfterFunc(after, w.check)
	w.mu.Unlock()
	return w
}

// Touch says that something moved.
func (w *Idle) Touch() { w.moved.Store(true) }

func (w *Idle) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.ended:
	case w.moved.Swap(false):
		w.timer.Reset(w.after)
	default:
		w.expire()
	}
}

// shorten lowers the time to after, if it was longer.
func (w *Idle) shorten(after time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if after < w.after && !w.ended {
		w.after = after
		w.timer.Reset(after)
	}
}

// End stops the watch; expire is not running afterwards and will not run.
func (w *Idle) End() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = true
	w.timer.Stop()
}
