package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/event"
	"goldsmith/internal/run"
)

// history is where runs are: in the data directory, or at a service.
type history interface {
	list(ctx context.Context, limit int) ([]run.Record, error)
	find(ctx context.Context, ref string) (run.Record, error)
	events(ctx context.Context, r run.Record, follow bool) iter.Seq2[event.Event, error]
	cancel(ctx context.Context, r run.Record) (run.Record, error)
	// files are where the events and the console of a run are on this host, "" at
	// a service.
	files(r run.Record) (events, console string)
}

// withHistory runs f on the runs of the service or data directory that the user
// named.
func (a *app) withHistory(ctx context.Context, f func(history) error) error {
	r, err := a.remote(ctx)
	if err != nil {
		return err
	}
	if r != nil {
		return f(remoteRuns{r})
	}
	return a.withEngine(ctx, func(e *build.Engine) error { return f(localRuns{e}) })
}

// localRuns are the runs of the data directory.
type localRuns struct{ engine *build.Engine }

func (l localRuns) list(ctx context.Context, limit int) ([]run.Record, error) {
	return l.engine.Runs().List(ctx, run.Filter{Limit: limit})
}

func (l localRuns) find(ctx context.Context, ref string) (run.Record, error) {
	return l.engine.Runs().Find(ctx, ref)
}

func (l localRuns) events(ctx context.Context, r run.Record, follow bool) iter.Seq2[event.Event, error] {
	if follow && !r.State.Ended() {
		return event.Follow(ctx, l.engine.LogPath(r.ID), 0)
	}
	return event.Read(l.engine.LogPath(r.ID), 0)
}

func (l localRuns) cancel(ctx context.Context, r run.Record) (run.Record, error) {
	return l.engine.Runs().RequestCancel(ctx, r.ID)
}

func (l localRuns) files(r run.Record) (string, string) {
	return l.engine.LogPath(r.ID), l.engine.ConsolePath(r.ID)
}

// extension is the version of the interface's part that Azure does not have.
const extension = "2026-01-01"

// remoteRuns are the runs of a service.
type remoteRuns struct{ *remote }

// remoteRun is a run as a service shows it.
type remoteRun struct {
	Name       string `json:"name"`
	Properties struct {
		Template   string       `json:"templateId"`
		State      run.State    `json:"runState"`
		SubState   run.SubState `json:"runSubState"`
		Phase      string       `json:"phase"`
		Message    string       `json:"message"`
		FailedStep string       `json:"failedStep"`
		Outputs    []run.Output `json:"outputs"`
		CreatedAt  time.Time    `json:"createdAt"`
		StartedAt  time.Time    `json:"startTime"`
		EndedAt    time.Time    `json:"endTime"`
	} `json:"properties"`
}

func (r remoteRun) record() run.Record {
	p := r.Properties
	return run.Record{
		ID: r.Name, Template: p.Template, State: p.State, SubState: p.SubState, Phase: p.Phase, Message: p.Message,
		FailedStep: p.FailedStep, Outputs: p.Outputs, CreatedAt: p.CreatedAt, StartedAt: p.StartedAt, EndedAt: p.EndedAt,
	}
}

func (r remoteRuns) path(rest string) string {
	return r.below("/providers/Goldsmith.Builds/runs%s", rest)
}

func (r remoteRuns) list(ctx context.Context, limit int) ([]run.Record, error) {
	values, err := list[remoteRun](ctx, r.remote, r.path(""), extension, nil, limit)
	out := make([]run.Record, len(values))
	for i, v := range values {
		out[i] = v.record()
	}
	return out, err
}

func (r remoteRuns) find(ctx context.Context, ref string) (run.Record, error) {
	if len(ref) == 36 {
		return r.get(ctx, ref)
	}
	all, err := r.list(ctx, 0)
	if err != nil {
		return run.Record{}, err
	}
	var found []run.Record
	for _, rec := range all {
		if strings.HasPrefix(rec.ID, strings.ToLower(ref)) {
			found = append(found, rec)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return run.Record{}, run.ErrNotFound(ref)
	}
	return run.Record{}, arm.Errorf(arm.CodeUsage, "%d runs begin with %q: say more of the id", len(found), ref)
}

func (r remoteRuns) get(ctx context.Context, id string) (run.Record, error) {
	var v remoteRun
	err := r.call(ctx, http.MethodGet, r.path("/"+url.PathEscape(id)), extension, nil, &v)
	return v.record(), err
}

func (r remoteRuns) cancel(ctx context.Context, rec run.Record) (run.Record, error) {
	var v remoteRun
	err := r.call(ctx, http.MethodPost, r.path("/"+rec.ID+"/cancel"), extension, nil, &v)
	return v.record(), err
}

func (remoteRuns) files(run.Record) (string, string) { return "", "" }

func (r remoteRuns) events(ctx context.Context, rec run.Record, follow bool) iter.Seq2[event.Event, error] {
	if follow || rec.State.Ended() {
		return r.follow(ctx, rec.ID) // the stream of an ended run ends
	}
	return func(yield func(event.Event, error) bool) {
		query := url.Values{"offset": {"0"}}
		for {
			page, err := list[event.Event](ctx, r.remote, r.path("/"+rec.ID+"/events"), extension, query, 0)
			if err != nil {
				yield(event.Event{}, err)
				return
			}
			for _, e := range page {
				if !yield(e, nil) {
					return
				}
			}
			if len(page) == 0 {
				return
			}
			query = url.Values{"offset": {fmt.Sprint(page[len(page)-1].Offset + 1)}}
		}
	}
}

// maxReconnects is how often in a row a broken stream is taken up again without
// an event.
const maxReconnects = 5

// follow yields the events of a run until it has ended. A stream that breaks is
// taken up behind the last event.
func (r remoteRuns) follow(ctx context.Context, id string) iter.Seq2[event.Event, error] {
	return func(yield func(event.Event, error) bool) {
		next := int64(0)
		for failures := 0; ; {
			query := url.Values{"offset": {fmt.Sprint(next)}}
			resp, err := r.send(ctx, http.MethodGet, r.path("/"+id+"/events"), extension, query, nil, "text/event-stream")
			if err == nil {
				before := next
				var more bool
				next, more, err = readStream(resp, next, yield)
				if !more || err == nil {
					return
				}
				if next > before {
					failures = 0
				}
			}
			if failures++; failures > maxReconnects || ctx.Err() != nil || arm.IsCode(err, arm.CodeNotFound) {
				yield(event.Event{}, err)
				return
			}
		}
	}
}

// maxEventBytes bounds one line of a stream.
const maxEventBytes = 4 << 20

// readStream yields the events of a stream of server-sent events. next is the
// offset behind the last one; more is false when the reader wants no more. The
// error is nil at the stream's proper end, which follows run.finished.
func readStream(resp *http.Response, from int64, yield func(event.Event, error) bool) (next int64, more bool, err error) {
	defer resp.Body.Close()
	next = from
	ended := false
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, maxEventBytes)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e event.Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return next, true, arm.Errorf(arm.CodeInternal, "an event of the service does not decode: %w", err)
		}
		next, ended = e.Offset+1, ended || e.Kind == event.RunFinished
		if !yield(e, nil) {
			return next, false, nil
		}
	}
	if err := lines.Err(); err != nil {
		return next, true, arm.Errorf(arm.CodeInternal, "the stream of events broke: %w", err)
	}
	if !ended {
		return next, true, arm.Errorf(arm.CodeInternal, "the stream of events ended before the run")
	}
	return next, true, nil
}
