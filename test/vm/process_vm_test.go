//go:build vm

package vm

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"goldsmith/internal/event"
)

// process is a running build. Its events are read as they come.
type process struct {
	host   host
	cmd    *exec.Cmd
	began  time.Time
	cancel context.CancelFunc
	stderr bytes.Buffer // to be read when done is closed
	done   chan struct{}
	err    error // how the process ended, when done is closed

	mu      sync.Mutex
	events  []event.Event
	changed chan struct{} // closed at the next event
}

// build starts to build a template, every step of it: the data directory is shared
// with earlier tests. The test's end ends the build; a test that fails logs the
// build's events.
func (h host) build(t *testing.T, template string, args ...string) *process {
	t.Helper()
	return h.rebuild(t, template, append([]string{"--no-cache"}, args...)...)
}

// rebuild is build with what earlier builds left.
func (h host) rebuild(t *testing.T, template string, args ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	p := &process{host: h, cancel: cancel, done: make(chan struct{}), changed: make(chan struct{})}
	p.cmd = h.command(ctx, append([]string{"build", template, "--json"}, args...)...)
	p.cmd.Stderr = &p.stderr
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.began = time.Now()
	if err := p.cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	go func() {
		defer close(p.done)
		lines := bufio.NewScanner(stdout)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			p.take(lines.Bytes())
		}
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(func() {
		cancel()
		<-p.done
		if t.Failed() {
			t.Logf("the build's events:\n%s", p.plain(t))
		}
	})
	return p
}

// take adds a line of the program's output.
func (p *process) take(line []byte) {
	var e event.Event
	if err := json.Unmarshal(line, &e); err != nil {
		e = event.Event{Kind: "unreadable", Text: string(line)}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, e)
	close(p.changed)
	p.changed = make(chan struct{})
}

// seen is the events so far, and what is closed when there are more.
func (p *process) seen() ([]event.Event, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.events, p.changed
}

// run is the id of the run.
func (p *process) run(t *testing.T) string {
	t.Helper()
	return p.await(t, ofKind(event.RunStarted)).Run
}

// await waits for the first event that matches.
func (p *process) await(t *testing.T, match func(event.Event) bool) event.Event {
	t.Helper()
	ended := false
	for next := 0; ; {
		events, more := p.seen()
		for ; next < len(events); next++ {
			if match(events[next]) {
				return events[next]
			}
		}
		if ended {
			t.Fatalf("the build ended (%v) without the event that the test waits for\n%s", p.err, &p.stderr)
		}
		select {
		case <-more:
		case <-p.done:
			ended = true // one more look: the last events may have come together with the end
		case <-t.Context().Done():
			t.Fatal(context.Cause(t.Context()))
		}
	}
}

// all is every event of a build that has ended and that match accepts.
func (p *process) all(match func(event.Event) bool) (found []event.Event) {
	events, _ := p.seen()
	for _, e := range events {
		if match(e) {
			found = append(found, e)
		}
	}
	return found
}

// text is what step n of a build wrote, a line each.
func (p *process) text(n int) string {
	var b strings.Builder
	for _, e := range p.all(ofKind(event.Output)) {
		if e.Step == n {
			b.WriteString(e.Text + "\n")
		}
	}
	return b.String()
}

// ends waits for the end of the build, which must be with exit code want, and
// returns its standard error.
func (p *process) ends(t *testing.T, want int) string {
	t.Helper()
	<-p.done // bounded by the process's own context
	code, err := exitCode(p.err)
	if err != nil {
		t.Fatalf("the build ended with %v\n%s", err, &p.stderr)
	}
	if code != want {
		t.Fatalf("the build ended with exit code %d, want %d\n%s", code, want, &p.stderr)
	}
	return p.stderr.String()
}

// signal sends a signal to the build.
func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

// interruptAndWait cancels a build whose rest the test has no use for.
func (p *process) interruptAndWait(t *testing.T) {
	t.Helper()
	p.signal(t, syscall.SIGINT)
	p.ends(t, 130)
}

// plain is what runs logs shows of the run.
func (p *process) plain(t *testing.T) string {
	for _, e := range p.all(func(e event.Event) bool { return e.Run != "" }) {
		r := p.host.run(t, "runs", "logs", e.Run)
		return r.stdout + r.stderr
	}
	return "no event came\n" + p.stderr.String()
}

// ofKind matches events of one kind.
func ofKind(k event.Kind) func(event.Event) bool {
	return func(e event.Event) bool { return e.Kind == k }
}

// saying matches a line of a step's output.
func saying(line string) func(event.Event) bool {
	return func(e event.Event) bool { return e.Kind == event.Output && e.Text == line }
}

// deciding matches a decision that contains text.
func deciding(text string) func(event.Event) bool {
	return func(e event.Event) bool { return e.Kind == event.Decision && strings.Contains(e.Text, text) }
}
