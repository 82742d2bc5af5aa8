package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"

	"goldsmith/internal/event"
)

// colourless is liveStyle without colours, for golden files that can be read.
func colourless() style {
	s, p := liveStyle(), plainStyle()
	s.done, s.failed, s.running, s.strong, s.faint, s.warn = p.done, p.failed, p.running, p.strong, p.faint, p.warn
	return s
}

// viewAfter is the view of a terminal of width x height after the events.
func viewAfter(events []event.Event, width, height int) *liveView {
	v := newLiveView(&outline{}, colourless())
	v.Update(tea.WindowSizeMsg{Width: width, Height: height})
	v.Update(liveEvents(events))
	v.Update(liveTick(events[len(events)-1].Time.Add(1500 * time.Millisecond)))
	return v
}

func TestLiveView(t *testing.T) {
	at := func(tape *tape, last event.Event) []event.Event {
		for i, e := range tape.events {
			if e.Kind == last.Kind && e.Phase == last.Phase && e.Text == last.Text && e.Step == last.Step && e.Done >= last.Done {
				return tape.events[:i+1]
			}
		}
		t.Fatalf("no event like %+v", last)
		return nil
	}
	moments := map[string][]event.Event{
		"download":  at(success(), event.Event{Kind: event.Progress, Text: "download debian-12.qcow2", Done: 150 << 20}),
		"customize": at(failure(), event.Event{Kind: event.Output, Step: 2, Text: "line h"}),
		"capture":   at(success(), event.Event{Kind: event.Progress, Text: "capture disk", Done: 32 << 20}),
		"failed":    at(failure(), event.Event{Kind: event.PhaseStarted, Phase: event.PhaseCleanup}),
		"ended":     failure().events,
	}
	for name, events := range moments {
		for _, size := range [][2]int{{80, 24}, {120, 40}, {40, 12}, {20, 5}} {
			t.Run(fmt.Sprintf("%s-%dx%d", name, size[0], size[1]), func(t *testing.T) {
				v := viewAfter(events, size[0], size[1])
				if name == "customize" && size[0] == 80 {
					v.Update(liveInterrupt(1))
				}
				content := v.View().Content
				golden(t, fmt.Sprintf("view-%s-%dx%d.golden", name, size[0], size[1]), content+"\n")
			})
		}
	}
}

func TestLiveViewFitsEveryTerminal(t *testing.T) {
	for _, tape := range []*tape{success(), failure(), cancelled(), partial()} {
		for i := 1; i <= len(tape.events); i += 5 {
			for _, width := range []int{1, 2, 5, 13, 33, 80, 200} {
				for _, height := range []int{1, 2, 7, 30} {
					v := viewAfter(tape.events[:i], width, height)
					lines := strings.Split(v.View().Content, "\n")
					if len(lines) > max(1, height-1) {
						t.Fatalf("%dx%d after event %d: %d lines", width, height, i, len(lines))
					}
					for _, line := range lines {
						if lipgloss.Width(line) > width {
							t.Fatalf("%dx%d after event %d: line %q is %d columns wide", width, height, i, line, lipgloss.Width(line))
						}
					}
				}
			}
		}
	}
}

func TestLiveViewEndsEmpty(t *testing.T) {
	v := viewAfter(success().events, 80, 24)
	if v.View().Content == "" {
		t.Error("the view is empty before its end")
	}
	v.Update(liveOver{})
	if got := v.View().Content; got != "" {
		t.Errorf("the view ends as %q, want nothing", got)
	}
}

func TestTransferRate(t *testing.T) {
	tape := newTape()
	tr := &transfer{name: "x"}
	move := func(wait time.Duration, done int64) {
		tape.add(wait, event.Event{Kind: event.Progress, Text: "x", Done: done, Total: 1 << 30})
		tr.sample(tape.events[len(tape.events)-1])
	}
	move(0, 512<<20) // resumed: what was there before is no speed
	if got := tr.rate(); got != 0 {
		t.Errorf("rate after one sample is %v", got)
	}
	for i := range 100 {
		move(time.Second, 512<<20+int64(i+1)<<20)
	}
	if got := tr.rate(); got != 1<<20 {
		t.Errorf("steady rate is %v, want 1 MiB/s", got)
	}
	for i := range 15 {
		move(time.Second, 612<<20+int64(i+1)*4<<20)
	}
	if got := tr.rate(); got != 4<<20 {
		t.Errorf("rate after a change is %v, want 4 MiB/s", got)
	}
	if got, want := tr.figures(), "65% of 1.0 GiB, 4.0 MiB/s, 1m28s left"; got != want {
		t.Errorf("figures are %q, want %q", got, want)
	}
	for range 5000 {
		move(time.Millisecond, 700<<20)
	}
	if len(tr.samples) > 257 {
		t.Errorf("%d samples are kept", len(tr.samples))
	}
	move(time.Second, 0) // again from the beginning
	if got := tr.rate(); got != 0 {
		t.Errorf("rate after a restart is %v", got)
	}
}
