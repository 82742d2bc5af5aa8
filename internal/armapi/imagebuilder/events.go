package imagebuilder

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/event"
)

// keepAlive is how often a silent stream says that it lives, for proxies.
const keepAlive = 15 * time.Second

// writeTimeout is how long a client may take for one event.
const writeTimeout = 30 * time.Second

// events streams the events of a run as server-sent events, from an offset on,
// until the run has ended. A client that asks for something else gets those
// that are there as a list.
func (p provider) events(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	rec, err := p.findRun(ctx, r, r.Name(), "read")
	if err != nil {
		return armapi.Response{}, err
	}
	from, err := firstOffset(r)
	if err != nil {
		return armapi.Response{}, err
	}
	if !strings.Contains(r.Header.Get("Accept"), "text/event-stream") {
		return p.eventList(ctx, r, rec.ID, from)
	}
	s := stream{provider: p, ctx: ctx, run: rec.ID, from: from}
	return armapi.Response{Status: http.StatusOK, Stream: s.write}.
		With("Content-Type", "text/event-stream").With("X-Accel-Buffering", "no"), nil
}

// eventList is the events that are there, at most a page of them.
func (p provider) eventList(ctx context.Context, r *armapi.Request, runID string, from int64) (armapi.Response, error) {
	size, _, err := r.Page()
	if err != nil {
		return armapi.Response{}, err
	}
	all, err := p.engine.Events(runID, from, size)
	return armapi.ListOf(r, all, ""), err
}

// stream is one reader's stream of events.
type stream struct {
	provider provider
	ctx      context.Context
	run      string
	from     int64
}

// write sends events until the run has ended, or the client has gone.
func (s stream) write(w http.ResponseWriter) error {
	ctx, cancel := context.WithCancel(s.ctx)
	events := make(chan event.Event)
	done := make(chan error, 1)
	go func() {
		defer close(events)
		done <- s.provider.engine.Follow(ctx, s.run, s.from, func(e event.Event) bool {
			select {
			case events <- e:
				return true
			case <-ctx.Done():
				return false
			}
		})
	}()
	defer func() { // the follower ends before the answer does
		cancel()
		for range events {
		}
	}()
	out := http.NewResponseController(w)
	send := func(format string, args ...any) error {
		// A recorder in a test has no deadline to set; a connection always has.
		_ = out.SetWriteDeadline(time.Now().Add(writeTimeout))
		if _, err := fmt.Fprintf(w, format, args...); err != nil {
			return err
		}
		return out.Flush()
	}
	if err := send(": events of run %s\n\n", s.run); err != nil {
		return err
	}
	tick := time.NewTicker(keepAlive)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := send(": alive\n\n"); err != nil {
				return err
			}
		case e, more := <-events:
			if !more {
				return <-done
			}
			data, err := json.Marshal(e)
			if err != nil {
				return arm.Errorf(arm.CodeInternal, "encode event %d of run %s: %w", e.Offset, s.run, err)
			}
			if err := send("id: %d\nevent: %s\ndata: %s\n\n", e.Offset, e.Kind, data); err != nil {
				return err
			}
		}
	}
}
