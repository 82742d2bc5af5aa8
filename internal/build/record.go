package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"

	"goldsmith/internal/arm"
	"goldsmith/internal/network"
	"goldsmith/internal/network/capture"
)

// captureSocket is where a run gives its traffic to who connects, below the
// directory of its scratch files.
const captureSocket = "capture"

// recorder shows the traffic of a run's networks to other processes of the user.
type recorder struct {
	hub      capture.Hub
	listener net.Listener
	done     chan struct{}
	work     sync.WaitGroup
}

// newRecorder listens in the run's directory.
func newRecorder(dir string) (*recorder, error) {
	l, err := dialable(dir, func(path string) (net.Listener, error) { return net.Listen("unix", path) })
	if err != nil {
		return nil, fmt.Errorf("listen for captures: %w", err)
	}
	r := &recorder{listener: l, done: make(chan struct{})}
	r.work.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.work.Go(func() {
				defer c.Close()
				_, _ = r.hub.Stream(c, r.done) // it ends with its reader
			})
		}
	})
	return r, nil
}

// watch shows the traffic of a network from now on.
func (r *recorder) watch(n network.Network) {
	if p, ok := n.(*network.Private); ok && r != nil {
		p.SetTap(r.hub.Tap)
	}
}

// close ends every capture.
func (r *recorder) close() error {
	if r == nil {
		return nil
	}
	close(r.done)
	err := r.listener.Close()
	r.work.Wait()
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// dialable opens the socket of a directory by a short path: a socket's own may
// have 107 bytes at most.
func dialable[T any](dir string, open func(path string) (T, error)) (T, error) {
	var none T
	d, err := os.Open(dir)
	if err != nil {
		return none, err
	}
	defer d.Close()
	return open(fmt.Sprintf("/proc/self/fd/%d/%s", d.Fd(), captureSocket))
}

// Capture writes the traffic of a run that is going on to w as pcapng, from now
// until the run ends or ctx does. The error is arm.CodeNotAllowed when the run is
// not going on.
func (e *Engine) Capture(ctx context.Context, runID string, w io.Writer) error {
	conn, err := dialable(filepath.Join(e.dir, workDir(runID)), func(path string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	})
	if err != nil {
		return arm.Errorf(arm.CodeNotAllowed, "run %s has no network now that could be captured: %w", runID, err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	if _, err := io.Copy(w, conn); err != nil && ctx.Err() == nil {
		return fmt.Errorf("capture run %s: %w", runID, err)
	}
	return nil
}
