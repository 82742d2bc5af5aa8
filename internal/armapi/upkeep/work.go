package upkeep

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/event"
)

// Frame is one line of the answer of an action that takes its time: what it says
// meanwhile, and at the end its result or its fault. An empty one says that the
// service is still there.
type Frame struct {
	Event  *event.Event    `json:"event,omitempty"`
	Stdout []byte          `json:"stdout,omitempty"` // of a guest
	Stderr []byte          `json:"stderr,omitempty"`
	Result json.RawMessage `json:"result,omitempty"`
	Fault  *armapi.Fault   `json:"fault,omitempty"`
}

const (
	keepAlive    = 15 * time.Second // how often a silent answer says that it lives
	writeTimeout = 30 * time.Second // how long a client may take for one frame
)

// work is an action that says what it does while it works.
func work[T any](do func(context.Context, Input, event.Sink) (T, error)) armapi.Handler {
	return func(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
		var in Input
		if err := r.Decode(&in); err != nil {
			return armapi.Response{}, err
		}
		return stream(ctx, func(ctx context.Context, send func(Frame)) (any, error) {
			return do(ctx, in, events(send))
		}), nil
	}
}

// stream is the answer of work: its frames, and at the end its result. The work
// ends when the client has gone.
func stream(ctx context.Context, work func(ctx context.Context, send func(Frame)) (any, error)) armapi.Response {
	return armapi.Response{Status: http.StatusOK, Stream: func(w http.ResponseWriter) error {
		ctx, cancel := context.WithCancel(ctx)
		frames := make(chan Frame)
		go func() {
			defer close(frames)
			frames <- last(work(ctx, func(f Frame) {
				select {
				case frames <- f:
				case <-ctx.Done():
				}
			}))
		}()
		defer func() { // the work ends before the answer does
			cancel()
			for range frames {
			}
		}()
		tick := time.NewTicker(keepAlive)
		defer tick.Stop()
		out, lines := http.NewResponseController(w), json.NewEncoder(w)
		for {
			var f Frame
			more := true
			select {
			case f, more = <-frames:
			case <-tick.C:
			}
			if !more {
				return nil
			}
			// A recorder in a test has no deadline to set; a connection always has.
			_ = out.SetWriteDeadline(time.Now().Add(writeTimeout))
			if err := lines.Encode(f); err != nil {
				return err
			}
			if err := out.Flush(); err != nil {
				return err
			}
		}
	}}.With("Content-Type", "application/x-ndjson").With("X-Accel-Buffering", "no")
}

// last is the frame that tells how work ended.
func last(result any, err error) Frame {
	var f Frame
	if err == nil {
		if f.Result, err = json.Marshal(result); err != nil {
			err = arm.Errorf(arm.CodeInternal, "encode the result: %w", err)
		}
	}
	if err != nil {
		fault := armapi.FaultOf(err)
		f = Frame{Fault: &fault}
	}
	return f
}

// events sends what happens.
func events(send func(Frame)) event.Sink {
	return event.SinkFunc(func(e event.Event) { send(Frame{Event: &e}) })
}

// stdout and stderr send what a guest writes.
func stdout(send func(Frame)) io.Writer { return sender(func(p []byte) { send(Frame{Stdout: p}) }) }

func stderr(send func(Frame)) io.Writer { return sender(func(p []byte) { send(Frame{Stderr: p}) }) }

// sender is a writer that sends what is written.
type sender func([]byte)

// Write implements io.Writer.
func (s sender) Write(p []byte) (int, error) {
	s(append([]byte(nil), p...)) // p is the writer's own again afterwards
	return len(p), nil
}
