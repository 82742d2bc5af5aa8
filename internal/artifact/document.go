package artifact

import (
	"context"
	"io"
	"net/http"
	"time"

	"goldsmith/internal/event"
)

// Meta is what a server says about a resource beside its content.
type Meta struct {
	LastModified time.Time // zero when not said
	Size         int64     // bytes, -1 when not said
}

// Bytes fetches a small document such as a digest list, of at most max bytes,
// into memory.
func (f *Fetcher) Bytes(ctx context.Context, uri string, max int64, sink event.Sink) (body []byte, meta Meta, err error) {
	loc, err := f.locate(uri, "")
	if err != nil {
		return nil, Meta{}, err
	}
	ctx, cancel := withLimit(ctx, f.cfg.Timeout)
	defer cancel()
	err = f.attempts(ctx, loc.name, sink, func(ctx context.Context, _ func()) error {
		c, err := f.open(ctx, loc, http.MethodGet, max)
		if err != nil {
			return err
		}
		defer c.close()
		meta = c.meta()
		body, err = io.ReadAll(c)
		return err
	})
	return body, meta, err
}

// Head asks what is known about uri without fetching it.
func (f *Fetcher) Head(ctx context.Context, uri string, sink event.Sink) (meta Meta, err error) {
	loc, err := f.locate(uri, "")
	if err != nil {
		return Meta{}, err
	}
	ctx, cancel := withLimit(ctx, f.cfg.Timeout)
	defer cancel()
	err = f.attempts(ctx, loc.name, sink, func(ctx context.Context, _ func()) error {
		c, err := f.open(ctx, loc, http.MethodHead, DefaultMaxDownload)
		if err != nil {
			return err
		}
		defer c.close()
		meta = c.meta()
		return nil
	})
	return meta, err
}

// meta reads what came with c.
func (c *content) meta() Meta {
	m := Meta{Size: c.size, LastModified: c.modified}
	if c.resp != nil {
		m.LastModified, _ = http.ParseTime(c.resp.Header.Get("Last-Modified")) // zero when absent
	}
	return m
}

// open opens what loc names, wherever it is.
func (f *Fetcher) open(ctx context.Context, loc location, method string, max int64) (*content, error) {
	if loc.web == nil {
		return openFile(loc, max)
	}
	return f.get(ctx, loc, method, nil, max)
}
