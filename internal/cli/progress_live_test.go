//go:build linux

package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"golang.org/x/sys/unix"

	"goldsmith/internal/event"
)

// terminal is a pseudo-terminal whose output is read as a person would.
type terminal struct {
	t      *testing.T
	tty    *os.File // the program's side
	mu     sync.Mutex
	seen   bytes.Buffer
	waiter func() // called with mu held when output arrives
	done   chan struct{}
}

// newTerminal opens a terminal of width x height.
func newTerminal(t *testing.T, width, height uint16) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	tty, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	term := &terminal{t: t, tty: tty, done: make(chan struct{})}
	term.resize(width, height)
	go func() {
		defer close(term.done)
		b := make([]byte, 4096)
		for {
			n, err := master.Read(b) // ends with EIO when the other side is closed
			term.mu.Lock()
			term.seen.Write(b[:n])
			if term.waiter != nil {
				term.waiter()
			}
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		term.hangUp()
		master.Close()
	})
	return term
}

// resize changes the size of the terminal.
func (x *terminal) resize(width, height uint16) {
	x.t.Helper()
	if err := unix.IoctlSetWinsize(int(x.tty.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height}); err != nil {
		x.t.Fatal(err)
	}
}

// hangUp closes the program's side and waits until all output is read.
func (x *terminal) hangUp() string {
	x.tty.Close()
	<-x.done
	return x.seen.String()
}

// await waits until the output contains every text in want.
func (x *terminal) await(want ...string) {
	x.t.Helper()
	found := make(chan struct{})
	check := sync.OnceFunc(func() { close(found) })
	x.mu.Lock()
	x.waiter = func() {
		for _, text := range want {
			if !strings.Contains(x.seen.String(), text) {
				return
			}
		}
		check()
	}
	x.waiter()
	x.mu.Unlock()
	select {
	case <-found:
	case <-time.After(20 * time.Second):
		x.t.Fatalf("%q does not appear", want)
	}
	x.mu.Lock()
	x.waiter = nil
	x.mu.Unlock()
}

// echoes reports whether the terminal echoes what is typed.
func (x *terminal) echoes() bool {
	x.t.Helper()
	settings, err := unix.IoctlGetTermios(int(x.tty.Fd()), unix.TCGETS)
	if err != nil {
		x.t.Fatal(err)
	}
	if settings.Lflag&unix.ISIG == 0 {
		x.t.Error("Ctrl-C is no signal any more")
	}
	return settings.Lflag&unix.ECHO != 0
}

// start shows events on x; the result gives the error of Show.
func (x *terminal) start(p *liveProgress, events <-chan event.Event) <-chan error {
	result := make(chan error, 1)
	go func() { result <- p.Show(context.Background(), events) }()
	return result
}

// live is the renderer for x.
func (x *terminal) live(o ProgressOptions) *liveProgress {
	x.t.Helper()
	o.Location = time.UTC
	if o.Env == nil {
		o.Env = []string{"TERM=xterm-256color"}
	}
	p, err := NewProgress(ProgressAuto, x.tty, true, o)
	if err != nil {
		x.t.Fatal(err)
	}
	return p.(*liveProgress)
}

// finish awaits the end of Show.
func finish(t *testing.T, result <-chan error) {
	t.Helper()
	select {
	case err := <-result:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("Show does not return")
	}
}

const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
)

// checkRestored fails unless the output leaves the terminal as it was.
func checkRestored(t *testing.T, out string) {
	t.Helper()
	if strings.LastIndex(out, showCursor) < strings.LastIndex(out, hideCursor) {
		t.Error("the cursor stays hidden")
	}
	for _, query := range []string{"$p", "\x1b[c", "\x1b[6n", "\x1b]11;?", "\x1b[?u", "\x1b[?2004h", "\x1b[?1049h"} {
		if strings.Contains(out, query) {
			t.Errorf("the terminal is asked for %q", query)
		}
	}
}

func TestLiveProgressOnATerminal(t *testing.T) {
	for _, colour := range []bool{true, false} {
		t.Run(fmt.Sprintf("colour %v", colour), func(t *testing.T) {
			x := newTerminal(t, 80, 24)
			o := ProgressOptions{Env: []string{"TERM=xterm-256color"}}
			if !colour {
				o.Env = append(o.Env, "NO_COLOR=1")
			}
			events := make(chan event.Event)
			result := x.start(x.live(o), events)
			tape := failure()
			for i, e := range tape.events {
				events <- e
				if i == 20 {
					x.await(hideCursor, "download debian-12.qcow2")
					if x.echoes() {
						t.Error("the terminal echoes while the view is drawn")
					}
					x.resize(60, 10)
					if err := syscall.Kill(syscall.Getpid(), syscall.SIGWINCH); err != nil {
						t.Fatal(err)
					}
				}
			}
			close(events)
			finish(t, result)
			if !x.echoes() {
				t.Error("the terminal does not echo afterwards")
			}
			out := x.hangUp()
			checkRestored(t, out)
			style := plainStyle()
			if colour {
				style = liveStyle()
			}
			// What is on the screen in the end.
			for _, want := range []string{"4 CPUs asked for", "2/3 install nginx", style.failed.Render("failed after 59s in step 2/3 install nginx: the script exited with status 3"), "likely cause: ", "goldsmith runs logs " + tapeRun} {
				if !strings.Contains(out[strings.LastIndex(out, showCursor):], want) {
					t.Errorf("%q is not left on the screen", want)
				}
			}
			if !colour && (strings.Contains(out, "\x1b[31m") || strings.Contains(out, "\x1b[36m")) {
				t.Error("there are colours in spite of NO_COLOR")
			}
		})
	}
}

func TestLiveProgressInterrupts(t *testing.T) {
	x := newTerminal(t, 80, 24)
	interrupt := func() {
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGINT); err != nil {
			t.Error(err)
		}
	}
	var restored bool
	second := make(chan struct{})
	events := make(chan event.Event)
	result := x.start(x.live(ProgressOptions{OnInterrupt: func(n int) {
		if n == 2 {
			restored = x.echoes()
			close(second)
		}
	}}), events)
	tape := cancelled()
	working := len(tape.events) - 5 // in the first step
	for _, e := range tape.events[:working] {
		events <- e
	}
	x.await(hideCursor, "Customize")
	interrupt()
	x.await(interruptNotice(1))
	interrupt()
	<-second
	if !restored {
		t.Error("the terminal is not restored before the second interrupt is passed on")
	}
	for _, e := range tape.events[working:] {
		events <- e
	}
	close(events)
	finish(t, result)
	out := x.hangUp()
	checkRestored(t, out)
	for _, want := range []string{interruptNotice(2), "[cleanup] done in", "canceled after 37s"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing", want)
		}
	}
}

// faulty is a view that panics once it knows a step.
type faulty struct{ *liveView }

func (f faulty) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	f.liveView.Update(msg)
	return f, nil
}

func (f faulty) View() tea.View {
	if len(f.outline.steps) > 0 {
		panic("a fault of the view")
	}
	return f.liveView.View()
}

func TestLiveProgressSurvivesAPanicOfTheView(t *testing.T) {
	x := newTerminal(t, 80, 24)
	p := x.live(ProgressOptions{})
	p.model = func(o *outline) tea.Model { return faulty{newLiveView(o, liveStyle())} }
	finish(t, x.start(p, success().channel()))
	if !x.echoes() {
		t.Error("the terminal does not echo afterwards")
	}
	out := x.hangUp()
	checkRestored(t, out)
	for _, want := range []string{"plain lines follow", "succeeded in 48s"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing", want)
		}
	}
}

func TestLiveProgressEndsWithItsContext(t *testing.T) {
	x := newTerminal(t, 80, 24)
	ctx, cancel := context.WithCancelCause(context.Background())
	stop := errors.New("stop")
	events := make(chan event.Event)
	result := make(chan error, 1)
	go func() { result <- x.live(ProgressOptions{}).Show(ctx, events) }()
	for _, e := range success().events[:10] {
		events <- e
	}
	x.await(hideCursor)
	cancel(stop)
	if err := <-result; !errors.Is(err, stop) {
		t.Errorf("Show gives %v, want the cause of its context", err)
	}
	if !x.echoes() {
		t.Error("the terminal does not echo afterwards")
	}
	checkRestored(t, x.hangUp())
}

func TestLiveProgressKeepsUpWithFloods(t *testing.T) {
	x := newTerminal(t, 80, 24)
	tape := newTape()
	tape.untilCustomize()
	for range 50_000 {
		tape.add(time.Millisecond, event.Event{Kind: event.Output, Step: 1, StepName: "flood", Text: strings.Repeat("\x1b[31mx", 50)})
	}
	began := time.Now()
	finish(t, x.start(x.live(ProgressOptions{}), tape.channel()))
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("50000 lines took %v", took)
	}
}
