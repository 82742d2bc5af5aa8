package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
)

// show renders t and returns what was written.
func show(t *testing.T, mode ProgressMode, events <-chan event.Event, o ProgressOptions) string {
	t.Helper()
	o.Location = time.UTC
	var out bytes.Buffer
	p, err := NewProgress(mode, &out, false, o)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Show(context.Background(), events); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestPlainProgress(t *testing.T) {
	for name, tape := range map[string]*tape{
		"success": success(), "failure": failure(), "cancelled": cancelled(), "partial": partial(),
		"cut-off": {events: failure().events[:48]}, "empty": {},
	} {
		t.Run(name, func(t *testing.T) {
			golden(t, "plain-"+name+".golden", show(t, ProgressPlain, tape.channel(), ProgressOptions{}))
		})
	}
}

func TestPlainProgressIsThrottled(t *testing.T) {
	tests := map[string]struct {
		seconds float64 // between two of 1000 events
		total   int64
		min     int
		max     int
	}{
		"fast":          {0.001, 1000, 11, 11},
		"slow":          {1, 1000, 200, 210},
		"unknown total": {0.01, 0, 2, 3},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			tape := newTape()
			for i := range 1000 {
				tape.add(time.Duration(test.seconds*float64(time.Second)), event.Event{Kind: event.Progress, Text: "x", Done: int64(i + 1), Total: test.total})
			}
			lines := strings.Count(show(t, ProgressPlain, tape.channel(), ProgressOptions{}), "x: ")
			if lines < test.min || lines > test.max {
				t.Errorf("%d lines, want %d to %d", lines, test.min, test.max)
			}
		})
	}
}

func TestJSONProgressRoundTrips(t *testing.T) {
	tape := failure()
	tape.add(0, event.Event{Kind: event.Output, Step: 1, Text: "\x1b[2J\r\n\t\u202e<&>"})
	lines := strings.Split(strings.TrimSuffix(show(t, ProgressJSON, tape.channel(), ProgressOptions{}), "\n"), "\n")
	if len(lines) != len(tape.events) {
		t.Fatalf("%d lines for %d events", len(lines), len(tape.events))
	}
	for i, line := range lines {
		want, err := json.Marshal(tape.events[i])
		if err != nil {
			t.Fatal(err)
		}
		if line != string(want) {
			t.Errorf("line %d is %s, want %s", i, line, want)
		}
		var got event.Event
		if err := json.Unmarshal([]byte(line), &got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tape.events[i], got); diff != "" {
			t.Errorf("event %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestNewProgressChoosesARenderer(t *testing.T) {
	term := []string{"TERM=xterm"}
	tests := []struct {
		mode ProgressMode
		tty  bool
		env  []string
		want string
	}{
		{ProgressAuto, true, term, "*cli.liveProgress"},
		{"", true, term, "*cli.liveProgress"},
		{ProgressAuto, true, []string{"TERM=dumb"}, "*cli.plainProgress"},
		{ProgressAuto, true, []string{"X=1"}, "*cli.plainProgress"},
		{ProgressAuto, false, term, "*cli.plainProgress"},
		{ProgressTTY, true, term, "*cli.liveProgress"},
		{ProgressPlain, true, term, "*cli.plainProgress"},
		{ProgressJSON, true, term, "*cli.jsonProgress"},
	}
	for _, test := range tests {
		p, err := NewProgress(test.mode, &bytes.Buffer{}, test.tty, ProgressOptions{Env: test.env})
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%T", p); got != test.want {
			t.Errorf("mode %q on a terminal (%v) with %v is %s, want %s", test.mode, test.tty, test.env, got, test.want)
		}
	}
	for _, mode := range []ProgressMode{ProgressTTY, "fancy"} {
		if _, err := NewProgress(mode, &bytes.Buffer{}, false, ProgressOptions{}); !arm.IsCode(err, arm.CodeUsage) {
			t.Errorf("mode %q without a terminal: %v, want a usage error", mode, err)
		}
	}
}

// brokenPipe fails every write.
type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, syscall.EPIPE }

func TestShowEndsEarly(t *testing.T) {
	stop := errors.New("stop")
	for _, mode := range []ProgressMode{ProgressPlain, ProgressJSON} {
		p, err := NewProgress(mode, brokenPipe{}, false, ProgressOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Show(context.Background(), success().channel()); !errors.Is(err, syscall.EPIPE) {
			t.Errorf("%s: a broken pipe gives %v", mode, err)
		}
		ctx, cancel := context.WithCancelCause(context.Background())
		cancel(stop)
		if err := p.Show(ctx, nil); !errors.Is(err, stop) {
			t.Errorf("%s: an ended context gives %v", mode, err)
		}
	}
}

// interrupter is a writer that interrupts this process at its first write.
type interrupter struct {
	bytes.Buffer
	once sync.Once
}

func (w *interrupter) Write(b []byte) (n int, err error) {
	w.once.Do(func() { err = syscall.Kill(syscall.Getpid(), syscall.SIGINT) })
	if err != nil {
		return 0, err
	}
	return w.Buffer.Write(b)
}

func TestInterrupts(t *testing.T) {
	for _, mode := range []ProgressMode{ProgressPlain, ProgressJSON} {
		t.Run(string(mode), func(t *testing.T) {
			events := make(chan event.Event, 1)
			events <- event.Event{Kind: event.RunStarted, Run: tapeRun}
			var out interrupter
			var seen []int
			p, err := NewProgress(mode, &out, false, ProgressOptions{OnInterrupt: func(n int) {
				seen = append(seen, n)
				if n == 2 {
					close(events)
				} else if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
					t.Error(err)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Show(context.Background(), events); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff([]int{1, 2}, seen); diff != "" {
				t.Errorf("interrupts (-want +got):\n%s", diff)
			}
			if text := out.String(); mode == ProgressPlain && (!strings.Contains(text, interruptNotice(1)) || !strings.Contains(text, interruptNotice(2))) {
				t.Errorf("the notices are missing in %q", text)
			}
		})
	}
}
