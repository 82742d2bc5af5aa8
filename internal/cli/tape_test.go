package cli

import (
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
)

const tapeRun = "3f2a1b2c-0d4e-4f5a-8b6c-7d8e9f0a1b2c"

// tape records events as a build would emit them.
type tape struct {
	events []event.Event
	now    time.Time
}

func newTape() *tape {
	return &tape{now: time.Date(2026, 3, 4, 12, 0, 0, 0, time.UTC)}
}

// add appends e, after the time has moved on by wait.
func (t *tape) add(wait time.Duration, e event.Event) {
	t.now = t.now.Add(wait)
	e.Offset, e.Time, e.Run = int64(len(t.events)), t.now, tapeRun
	t.events = append(t.events, e)
}

// phase records a phase that lasts as long as during and the rest together.
func (t *tape) phase(p event.Phase, rest time.Duration, during func()) {
	began := t.now
	started := event.Event{Kind: event.PhaseStarted, Phase: p}
	if p == event.PhaseCustomize {
		started.Total = 3
	}
	t.add(0, started)
	if during != nil {
		during()
	}
	t.add(rest, event.Event{Kind: event.PhaseFinished, Phase: p, Elapsed: t.now.Add(rest).Sub(began)})
}

// step records a step that writes lines, a second apart, and ends with err.
func (t *tape) step(n int, name string, err *event.Failure, lines ...string) {
	began := t.now
	t.add(0, event.Event{Kind: event.StepStarted, Step: n, StepName: name})
	for _, line := range lines {
		t.add(time.Second, event.Event{Kind: event.Output, Step: n, StepName: name, Stream: "stdout", Text: line})
	}
	t.add(0, event.Event{Kind: event.StepFinished, Step: n, StepName: name, Elapsed: t.now.Sub(began), Err: err})
}

// download records a download of total bytes in n equal parts, a second apart.
func (t *tape) download(name string, total int64, n int) {
	for i := range n + 1 {
		t.add(time.Second, event.Event{Kind: event.Progress, Text: name, Done: total * int64(i) / int64(n), Total: total})
	}
}

// untilCustomize records a run up to its first step.
func (t *tape) untilCustomize() {
	t.add(0, event.Event{Kind: event.RunStarted, Text: "hello-linux"})
	t.phase(event.PhaseSubmit, 200*time.Millisecond, nil)
	t.phase(event.PhasePrepare, 0, func() {
		t.add(0, event.Event{Kind: event.Decision, Text: "source Debian:debian-12:12-gen2:latest is 12.11.20260301"})
		t.download("download debian-12.qcow2", 300<<20, 30)
	})
	t.phase(event.PhaseStart, 0, func() {
		t.add(0, event.Event{Kind: event.Decision, Text: "accelerator tcg: kvm is there but its guests hang"})
		t.add(0, event.Event{Kind: event.Warning, Text: "4 CPUs asked for, 2 given", Target: "/properties/vmProfile/vmSize"})
		t.add(2500*time.Millisecond, event.Event{Kind: event.Info, Text: "warm start restored"})
	})
}

// success is a run that makes everything.
func success() *tape {
	t := newTape()
	t.untilCustomize()
	t.phase(event.PhaseCustomize, 0, func() {
		t.step(1, "write the page", nil, "writing /srv/hello/index.html")
		t.step(2, "install nginx", nil, "Reading package lists...", "Setting up nginx (1.22.1-9)")
		t.step(3, "", nil, "done")
	})
	t.phase(event.PhaseGeneralize, 4*time.Second, func() {
		t.add(time.Second, event.Event{Kind: event.Output, Stream: "stdout", Text: "WARNING! The waagent service will be stopped."})
	})
	t.phase(event.PhaseCapture, 0, func() { t.download("capture disk", 64<<20, 2) })
	t.phase(event.PhaseDistribute, time.Second, func() {
		t.add(0, event.Event{Kind: event.Result, Text: "managed image", Target: "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/images/hello"})
	})
	t.phase(event.PhaseExport, time.Second, func() {
		t.add(0, event.Event{Kind: event.Result, Text: "file", Target: "web.vhd"})
	})
	t.phase(event.PhaseCleanup, 300*time.Millisecond, nil)
	t.add(0, event.Event{Kind: event.RunFinished, State: "Succeeded"})
	return t
}

// failure is a run whose second step exits with 3.
func failure() *tape {
	t := newTape()
	t.untilCustomize()
	err := &event.Failure{Code: arm.CodeStepFailed, Message: "the script exited with status 3", Target: "/properties/customize/1",
		Hint: "the package mirror is not reachable from the guest: see --package-mirror"}
	t.add(0, event.Event{Kind: event.PhaseStarted, Phase: event.PhaseCustomize, Total: 3})
	t.step(1, "write the page", nil)
	var lines []string
	for i := range 25 {
		lines = append(lines, "line "+string(rune('a'+i)))
	}
	t.step(2, "install nginx", err, lines...)
	t.add(0, event.Event{Kind: event.PhaseFinished, Phase: event.PhaseCustomize, Elapsed: 25 * time.Second, Err: err})
	t.phase(event.PhaseCleanup, 300*time.Millisecond, nil)
	t.add(0, event.Event{Kind: event.RunFinished, State: "Failed", Err: &event.Failure{Code: err.Code, Message: err.Message}})
	return t
}

// cancelled is a run that a person cancels in its first step.
func cancelled() *tape {
	t := newTape()
	t.untilCustomize()
	err := &event.Failure{Code: arm.CodeCanceled, Message: "canceled by the user"}
	t.add(0, event.Event{Kind: event.PhaseStarted, Phase: event.PhaseCustomize, Total: 3})
	t.step(1, "write the page", err, "working")
	t.phase(event.PhaseCleanup, 2*time.Second, nil)
	t.add(0, event.Event{Kind: event.RunFinished, State: "Canceled", Err: err})
	return t
}

// partial is a run one of whose outputs fails.
func partial() *tape {
	t := newTape()
	t.add(0, event.Event{Kind: event.RunStarted, Text: "hello-linux"})
	t.phase(event.PhaseDistribute, time.Second, func() {
		t.add(0, event.Event{Kind: event.Result, Text: "VHD", Target: "https://acct.blob.core.windows.net/vhds/x.vhd"})
		t.add(0, event.Event{Kind: event.Result, Text: "gallery version", Target: "/subscriptions/s/resourceGroups/g/providers/Microsoft.Compute/galleries/x/images/y",
			Err: &event.Failure{Code: arm.CodeNotFound, Message: "the gallery x does not exist", Hint: "create it first: goldsmith gallery create"}})
	})
	t.add(0, event.Event{Kind: event.RunFinished, State: "PartiallySucceeded", Err: &event.Failure{Code: arm.CodeDistributeFailed, Message: "1 of 2 outputs failed"}})
	return t
}

// channel gives the events of t, closed after the last.
func (t *tape) channel() <-chan event.Event {
	c := make(chan event.Event, len(t.events))
	for _, e := range t.events {
		c <- e
	}
	close(c)
	return c
}
