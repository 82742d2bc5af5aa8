package build_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/event"
	"goldsmith/internal/machine/machinetest"
	"goldsmith/internal/provision/protocol"
	"goldsmith/internal/run"
)

// endBound is how long a cancelled run may take to undo everything.
const endBound = 10 * time.Second

// sweepRequest is a build that uses every operation of a machine: it is on a
// network of the user's, where the card is plugged anew.
func sweepRequest(l *buildtest.Lab) build.Request {
	putNetwork(l, l, buildtest.Location, "Disabled", "10.7.0.0/24")
	subnets := networkID(l, "virtualNetworks/v/subnets/")
	return l.Request("sweep", buildtest.Template{
		Version: "2024-02-01",
		VMProfile: buildtest.Object{"osDiskSizeGB": 1, "vnetConfig": buildtest.Object{
			"subnetId": subnets + "build", "containerInstanceSubnetId": subnets + "aci"}},
		Customize:  []buildtest.Object{buildtest.Shell("one", "echo one"), buildtest.Shell("two", "echo two")},
		Distribute: []buildtest.Object{l.ToImage("sweep"), l.ToVHD("sweep-vhd")},
	})
}

// checkEnd checks a run that succeeded, failed or was cancelled, and that the
// data directory can be used again.
func checkEnd(t *testing.T, l *buildtest.Lab, rec run.Record, events *buildtest.Recording, want ...run.State) {
	t.Helper()
	ok := false
	for _, s := range want {
		ok = ok || rec.State == s
	}
	if !ok {
		t.Errorf("the run is %s (%s), want %v\n%s", rec.State, rec.Message, want, events.Text())
	}
	all := events.Events()
	if last := all[len(all)-1]; last.Kind != event.RunFinished || last.State != string(rec.State) {
		t.Errorf("the last event is %s %s, the run %s", last.Kind, last.State, rec.State)
	}
	l.CheckClean(rec)
	images, err := l.Engine.Images(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if rec.State == run.Failed && len(images) > 0 {
		t.Errorf("a failed run left images: %v", images)
	}
	l.SetScript(buildtest.Script{})
	again, events, err := l.Build(t.Context(), sweepRequest(l))
	if err != nil {
		t.Errorf("the next build: %v\n%s", err, events.Text())
	}
	l.CheckClean(again)
}

// operations is how many operations a first build performs.
func operations(t *testing.T) int {
	l := buildtest.New(t)
	if _, events, err := l.Build(t.Context(), sweepRequest(l)); err != nil {
		t.Fatalf("%v\n%s", err, events.Text())
	}
	calls := l.Fake.Calls()
	seen := map[machinetest.Op]bool{}
	for _, c := range calls {
		seen[c] = true
	}
	for _, op := range machinetest.Ops {
		if !seen[op] && op != machinetest.PowerDown && op != machinetest.Checkpoint {
			t.Errorf("the sweep does not %s", op)
		}
	}
	return len(calls)
}

// saving are the options of a lab in which op happens.
func saving(op machinetest.Op) []buildtest.Option {
	if op == machinetest.Checkpoint {
		return []buildtest.Option{everyStep}
	}
	return nil
}

// Every operation of the machine fails once, and kills the machine once.
func TestEveryOperationFails(t *testing.T) {
	boom := errors.New("boom")
	for _, op := range machinetest.Ops {
		for how, fail := range map[string]func(*machinetest.Fake){
			"fails": func(f *machinetest.Fake) { f.FailOn(op, boom) },
			"dies":  func(f *machinetest.Fake) { f.DieOn(op, boom) },
		} {
			t.Run(string(op)+" "+how, func(t *testing.T) {
				t.Parallel()
				l := buildtest.New(t, saving(op)...)
				fail(l.Fake)
				rec, events, err := l.Build(t.Context(), sweepRequest(l))
				if (err == nil) != (rec.State == run.Succeeded) {
					t.Errorf("the run is %s and the error %v", rec.State, err)
				}
				// What goes wrong before the first step costs a boot.
				want := run.Succeeded
				if op == machinetest.Seal || (op == machinetest.Checkpoint && how == "dies") {
					want = run.Failed
				}
				checkEnd(t, l, rec, events, want)
			})
		}
	}
}

// The machine dies at the n-th operation, for every n there is.
func TestMachineDiesAnywhere(t *testing.T) {
	n := operations(t)
	for i := range n {
		t.Run(fmt.Sprint("operation ", i+1), func(t *testing.T) {
			t.Parallel()
			l := buildtest.New(t)
			l.Fake.DieAt(i+1, errors.New("boom"))
			rec, events, err := l.Build(t.Context(), sweepRequest(l))
			if (err == nil) != (rec.State == run.Succeeded) {
				t.Errorf("the run is %s and the error %v", rec.State, err)
			}
			checkEnd(t, l, rec, events, run.Succeeded, run.Failed)
		})
	}
}

// The guest's helper fails, and the guest dies, at each request.
func TestEveryHelperRequestFails(t *testing.T) {
	for _, op := range []protocol.Op{protocol.OpReady, protocol.OpIdentify, protocol.OpNetwork, protocol.OpGrow, protocol.OpSync, protocol.OpRelease, protocol.OpGeneralise} {
		for _, dies := range []bool{false, true} {
			t.Run(fmt.Sprint(op, " ", dies), func(t *testing.T) {
				t.Parallel()
				l := buildtest.New(t)
				l.SetScript(buildtest.Script{Helper: func(ctx context.Context, g *buildtest.Guest, now protocol.Op) error {
					if now != op {
						return nil
					}
					if dies {
						g.Board.Crash(errors.New("boom"))
						<-ctx.Done()
					}
					return errors.New("boom")
				}})
				rec, events, err := l.Build(t.Context(), sweepRequest(l))
				if err == nil {
					t.Error("it was built")
				}
				checkEnd(t, l, rec, events, run.Failed)
			})
		}
	}
}

// boundary is an event at which a run is cancelled.
type boundary struct {
	kind  event.Kind
	phase event.Phase
	step  string
}

func (b boundary) String() string { return fmt.Sprintf("%s %s%s", b.kind, b.phase, b.step) }

func (b boundary) is(e event.Event) bool {
	return e.Kind == b.kind && e.Phase == b.phase && e.StepName == b.step
}

var boundaries = func() []boundary {
	all := []boundary{{kind: event.RunStarted}}
	for _, p := range []event.Phase{event.PhasePrepare, event.PhaseStart, event.PhaseCustomize, event.PhaseGeneralize, event.PhaseCapture, event.PhaseDistribute, event.PhaseCleanup} {
		all = append(all, boundary{event.PhaseStarted, p, ""}, boundary{event.PhaseFinished, p, ""})
	}
	for _, s := range []string{"one", "two"} {
		all = append(all, boundary{event.StepStarted, "", s}, boundary{event.StepFinished, "", s})
	}
	return all
}()

// cancellers are the ways to cancel a run.
var cancellers = map[string]func(l *buildtest.Lab, cancel context.CancelCauseFunc, run string){
	"interrupt": func(_ *buildtest.Lab, cancel context.CancelCauseFunc, _ string) {
		cancel(arm.Errorf(arm.CodeCanceled, "interrupted"))
	},
	"request": func(l *buildtest.Lab, _ context.CancelCauseFunc, id string) {
		if _, err := l.Engine.Runs().RequestCancel(context.WithoutCancel(l.Context()), id); err != nil && !arm.IsCode(err, arm.CodeNotAllowed) {
			l.Error(err)
		}
	},
}

func TestCancelAtEveryBoundary(t *testing.T) {
	for _, b := range boundaries {
		for how, cancelBy := range cancellers {
			t.Run(b.String()+" by "+how, func(t *testing.T) {
				t.Parallel()
				l := buildtest.New(t)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				var at time.Time
				events := &buildtest.Recording{}
				events.On = func(e event.Event) {
					if at.IsZero() && b.is(e) {
						at = time.Now()
						cancelBy(l, cancel, e.Run)
					}
				}
				rec, err := l.Engine.Build(ctx, sweepRequest(l), events)
				if at.IsZero() {
					t.Fatalf("the run has no event %s", b)
				}
				if took := time.Since(at); took > endBound {
					t.Errorf("the run ended %s after it was cancelled", took)
				}
				// The build does not wait for its readers: it may have ended meanwhile.
				if (err == nil) != (rec.State == run.Succeeded) {
					t.Errorf("the run is %s and the error %v", rec.State, err)
				}
				checkEnd(t, l, rec, events, run.Canceled, run.Succeeded)
			})
		}
	}
}

// Operations that take for ever end with the cancel.
func TestCancelInLongOperations(t *testing.T) {
	type hang struct {
		name  string
		setup func(l *buildtest.Lab, reached func())
	}
	var hangs []hang
	for _, op := range machinetest.Ops {
		if op != machinetest.PowerDown {
			hangs = append(hangs, hang{string(op), func(l *buildtest.Lab, _ func()) { l.Fake.HangOn(op) }})
		}
	}
	for _, op := range []protocol.Op{protocol.OpReady, protocol.OpIdentify, protocol.OpNetwork, protocol.OpGrow, protocol.OpSync, protocol.OpRelease, protocol.OpGeneralise} {
		hangs = append(hangs, hang{"helper's " + string(op), func(l *buildtest.Lab, reached func()) {
			l.SetScript(buildtest.Script{Helper: func(ctx context.Context, _ *buildtest.Guest, now protocol.Op) error {
				if now == op {
					reached()
					<-ctx.Done()
				}
				return nil
			}})
		}})
	}
	hangs = append(hangs, hang{"script", func(l *buildtest.Lab, reached func()) {
		l.SetScript(command("echo two", func(ctx context.Context, _ *buildtest.Guest) int { reached(); <-ctx.Done(); return 1 }))
	}}, hang{"power-off", func(l *buildtest.Lab, reached func()) {
		l.SetScript(buildtest.Script{KeepOn: true, Helper: func(_ context.Context, _ *buildtest.Guest, op protocol.Op) error {
			if op == protocol.OpGeneralise {
				reached()
			}
			return nil
		}})
	}})
	for _, h := range hangs {
		for how, cancelBy := range cancellers {
			t.Run(h.name+" by "+how, func(t *testing.T) {
				t.Parallel()
				l := buildtest.New(t, saving(machinetest.Op(h.name))...)
				ctx, cancel := context.WithCancelCause(t.Context())
				defer cancel(nil)
				ids := make(chan string, 1)
				reached := make(chan struct{}, 64)
				l.Fake.OnHang(func() { reached <- struct{}{} })
				h.setup(l, func() { reached <- struct{}{} })
				events := &buildtest.Recording{On: func(e event.Event) {
					if e.Kind == event.RunStarted {
						ids <- e.Run
					}
				}}
				ended := make(chan time.Time, 1)
				var rec run.Record
				var err error
				go func() {
					rec, err = l.Engine.Build(ctx, sweepRequest(l), events)
					ended <- time.Now()
				}()
				id := <-ids
				select {
				case <-reached:
				case <-ended:
					t.Fatalf("the run did not hang: %v\n%s", err, events.Text())
				}
				at := time.Now()
				cancelBy(l, cancel, id)
				if took := (<-ended).Sub(at); took > endBound {
					t.Errorf("the run ended %s after it was cancelled", took)
				}
				if !arm.IsCode(err, arm.CodeCanceled) {
					t.Errorf("the error is %v", err)
				}
				if f := failure(events); f.Code != arm.CodeCanceled {
					t.Errorf("the last event says %+v", f)
				}
				if strings.Contains(events.Text(), "clean-up is incomplete") {
					t.Error(events.Text())
				}
				checkEnd(t, l, rec, events, run.Canceled)
			})
		}
	}
}
