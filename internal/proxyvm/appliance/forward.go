// Package appliance is what the proxy VM does: it forwards the connections that
// come to its port. It needs nothing that a machine without files lacks.
package appliance

import (
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits.
const (
	maxConnections = 256
	dialTimeout    = 30 * time.Second
)

// DialFunc opens a connection to the target.
type DialFunc func(ctx context.Context) (net.Conn, error)

// Forward forwards every connection that l accepts, except those from probe, which
// learn that somebody listens and nothing else. It returns when l fails, and all
// connections have ended.
func Forward(ctx context.Context, l net.Listener, probe netip.Addr, dial DialFunc) error {
	ctx, cancel := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer cancel()
	slots := make(chan struct{}, maxConnections)
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		from, err := netip.ParseAddrPort(c.RemoteAddr().String())
		if err == nil && from.Addr().Unmap() == probe {
			_ = c.Close()
			continue
		}
		select {
		case slots <- struct{}{}:
			all.Go(func() {
				defer func() { <-slots }()
				carry(ctx, c, dial)
			})
		default:
			_ = c.Close()
		}
	}
}

// carry forwards one connection until both sides are done or one fails.
func carry(ctx context.Context, from net.Conn, dial DialFunc) {
	defer from.Close()
	dctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	to, err := dial(dctx)
	if err != nil {
		return
	}
	defer to.Close()
	end := sync.OnceFunc(func() {
		_ = from.Close()
		_ = to.Close()
	})
	defer context.AfterFunc(ctx, end)()
	var back sync.WaitGroup
	back.Go(func() { half(from, to, end) })
	half(to, from, end)
	back.Wait()
}

// half copies one direction and passes its end on.
func half(dst, src net.Conn, end func()) {
	if _, err := io.Copy(dst, src); err != nil {
		end()
		return
	}
	if h, ok := dst.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite() // a failure shows in the other direction
	}
}
