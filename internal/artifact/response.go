package artifact

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/dustin/go-humanize"

	"goldsmith/internal/arm"
)

// minPerWindow is how many bytes must come per Config.Stall: about 270 B/s at
// the default, below any line worth waiting for.
const minPerWindow = 16 << 10

// content is an open response body or file.
type content struct {
	io.Reader
	resp     *http.Response // nil for a file
	size     int64          // -1 when unknown
	modified time.Time      // of a file
	close    func()
}

// get sends one request and judges its answer. want lists the statuses that are
// not errors. The body may be read up to max bytes.
func (f *Fetcher) get(ctx context.Context, loc location, method string, header http.Header, max int64, want ...int) (*content, error) {
	ctx, cancel := context.WithCancelCause(withMirror(ctx, loc.base))
	req, err := http.NewRequestWithContext(ctx, method, loc.web.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, arm.Errorf(arm.CodeFetchFailed, "the request cannot be made: %w", cause(err))
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", "goldsmith")
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := f.client.Do(req)
	if err != nil {
		cancel(nil)
		return nil, classify(err)
	}
	shut := func() {
		cancel(nil)
		_ = resp.Body.Close() // a half-read body has nothing left to say
	}
	ok := resp.StatusCode == http.StatusOK
	for _, s := range want {
		ok = ok || s == resp.StatusCode
	}
	if !ok {
		err := statusError(resp, time.Now())
		shut()
		return nil, err
	}
	if enc := resp.Header.Get("Content-Encoding"); enc != "" && enc != "identity" && resp.StatusCode < 300 {
		shut()
		return nil, arm.Errorf(arm.CodeFetchFailed, "the server sent content encoded as %q although it was asked for the plain bytes; store the file without Content-Encoding", enc)
	}
	if method != http.MethodHead && resp.ContentLength > max {
		shut()
		return nil, tooLarge(resp.ContentLength, max)
	}
	w := watch(resp.Body, f.cfg.Stall, cancel)
	return &content{
		Reader: &limited{r: &bodyReader{ctx: ctx, r: w}, left: max, max: max},
		resp:   resp,
		size:   resp.ContentLength,
		close:  func() { w.stop(); shut() },
	}, nil
}

func tooLarge(size, max int64) *arm.Error {
	what := "more"
	if size > 0 {
		what = humanize.IBytes(uint64(size))
	}
	return arm.Errorf(arm.CodeTooLarge, "the content is above its cap: %s where at most %s are taken", what, humanize.IBytes(uint64(max)))
}

// limited fails with CodeTooLarge once more than max bytes come.
type limited struct {
	r         io.Reader
	left, max int64
}

func (l *limited) Read(p []byte) (int, error) {
	if int64(len(p)) > l.left+1 {
		p = p[:l.left+1]
	}
	n, err := l.r.Read(p)
	l.left -= int64(n)
	if l.left < 0 {
		return 0, tooLarge(0, l.max)
	}
	return n, err
}

// bodyReader makes the errors of a body transient and says why it was cut off.
type bodyReader struct {
	ctx context.Context
	r   io.Reader
}

func (b *bodyReader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err == nil || err == io.EOF {
		return n, err
	}
	var stall *stalled
	switch {
	case errors.As(context.Cause(b.ctx), &stall):
		err = stall
	case errors.Is(err, io.ErrUnexpectedEOF):
		err = errors.New("the connection was cut before the content was complete")
	}
	return n, &transient{err: cause(err)}
}

type stalled struct{ window time.Duration }

func (s *stalled) Error() string {
	return fmt.Sprintf("the transfer stalled: less than %s in %s", humanize.IBytes(minPerWindow), s.window)
}

// watchdog cancels a transfer that brings less than minPerWindow in a window.
type watchdog struct {
	r      io.Reader
	read   atomic.Int64
	window time.Duration
	ticker *time.Ticker
	quit   chan struct{}
	done   chan struct{}
}

// watch owns one goroutine until stop.
func watch(r io.Reader, window time.Duration, cancel context.CancelCauseFunc) *watchdog {
	w := &watchdog{r: r, window: window, ticker: time.NewTicker(window), quit: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		var last int64
		for {
			select {
			case <-w.quit:
				return
			case <-w.ticker.C:
				now := w.read.Load()
				if now-last < minPerWindow {
					cancel(&stalled{window: window})
					return
				}
				last = now
			}
		}
	}()
	return w
}

func (w *watchdog) Read(p []byte) (int, error) {
	n, err := w.r.Read(p)
	w.read.Add(int64(n))
	return n, err
}

func (w *watchdog) stop() {
	w.ticker.Stop()
	close(w.quit)
	<-w.done
}
