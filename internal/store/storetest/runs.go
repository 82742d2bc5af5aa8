package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp/cmpopts"

	"goldsmith/internal/arm"
	"goldsmith/internal/run"
)

// Runs is the suite of run.Store.
func Runs(t *testing.T, open func(t *testing.T) Database) {
	each(t, open, []test{
		{"Create", runCreate}, {"Find", runFind}, {"List", runList}, {"Lease", runLease}, {"Fencing", runFencing},
		{"Update", runUpdate}, {"ConcurrentUpdates", runConcurrentUpdates}, {"Cancel", runCancel},
		{"Expire", runExpire}, {"Delete", runDelete}, {"OneOwner", runOneOwner},
	})
}

func runID(n int) string { return fmt.Sprintf("%08d-0000-4000-8000-000000000000", n) }

func create(t *testing.T, s run.Store, n int) run.Record {
	t.Helper()
	return must(s.Create(t.Context(), run.Record{ID: runID(n), Template: "/Templates/T", Request: json.RawMessage(`{"x": 1}`)}))(t)
}

func acquire(t *testing.T, s run.Store, n int, owner string) run.Record {
	t.Helper()
	return must(s.Acquire(t.Context(), runID(n), owner, "boot", time.Minute))(t)
}

func end(state run.State) func(*run.Record) error {
	return func(r *run.Record) error { r.State = state; return nil }
}

func runCreate(t *testing.T, db Database) {
	s, ctx := db.Runs(), t.Context()
	r := create(t, s, 1)
	same(t, run.Record{
		ID: runID(1), Template: "/Templates/T", State: run.Queued, SubState: run.SubQueued, Request: json.RawMessage(`{"x": 1}`),
	}, r, cmpopts.IgnoreFields(run.Record{}, "CreatedAt"))
	if time.Since(r.CreatedAt).Abs() > time.Minute {
		t.Fatalf("created at %v", r.CreatedAt)
	}
	same(t, r, must(s.Get(ctx, strings.ToUpper(runID(1))))(t))
	_, err := s.Create(ctx, run.Record{ID: runID(1)})
	wantCode(t, err, arm.CodeConflict)
	_, err = s.Create(ctx, run.Record{ID: "../x"})
	wantCode(t, err, arm.CodeInternal)
	_, err = s.Get(ctx, runID(2))
	wantCode(t, err, arm.CodeNotFound)
}

func runFind(t *testing.T, db Database) {
	s, ctx := db.Runs(), t.Context()
	for n := range 13 {
		create(t, s, n+10)
	}
	same(t, runID(12), must(s.Find(ctx, "00000012"))(t).ID)
	same(t, runID(12), must(s.Find(ctx, strings.ToUpper(runID(12))))(t).ID)
	_, err := s.Find(ctx, "0000002")
	wantCode(t, err, arm.CodeUsage)
	for _, id := range []string{runID(20), runID(21), runID(22)} {
		if !strings.Contains(err.Error(), id) {
			t.Errorf("the error does not list %s: %v", id, err)
		}
	}
	_, err = s.Find(ctx, "0")
	wantCode(t, err, arm.CodeUsage)
	if !strings.Contains(err.Error(), "and more") {
		t.Errorf("the list of matches has no end: %v", err)
	}
	_, err = s.Find(ctx, "")
	wantCode(t, err, arm.CodeUsage)
	for _, none := range []string{"9", "%", "_0000012", "0' or 1=1", strings.Repeat("0", 40)} {
		_, err = s.Find(ctx, none)
		wantCode(t, err, arm.CodeNotFound)
	}
}

func runList(t *testing.T, db Database) {
	s, ctx := db.Runs(), t.Context()
	for n := range 5 {
		create(t, s, 5-n)
	}
	_, err := s.Create(ctx, run.Record{ID: runID(9), Template: "/other"})
	ok(t, err)
	acquire(t, s, 3, "me")
	for _, tt := range []struct {
		filter run.Filter
		want   []int
	}{
		{run.Filter{}, []int{9, 1, 2, 3, 4, 5}},
		{run.Filter{Template: "/TEMPLATES/t"}, []int{1, 2, 3, 4, 5}},
		{run.Filter{States: []run.State{run.Running}}, []int{3}},
		{run.Filter{States: []run.State{run.Running, run.Queued}, Limit: 4}, []int{9, 1, 2, 3}},
		{run.Filter{Template: "/none"}, nil},
		{run.Filter{Before: runID(1), Limit: 2}, []int{2, 3}},
		{run.Filter{Before: runID(9), Template: "/templates/t", Limit: 1}, []int{1}},
		{run.Filter{Before: runID(5)}, nil},
		{run.Filter{Before: runID(8)}, nil}, // no such run
	} {
		var want, got []string
		for _, n := range tt.want {
			want = append(want, runID(n))
		}
		for _, r := range must(s.List(ctx, tt.filter))(t) {
			got = append(got, r.ID)
		}
		same(t, want, got)
	}
}

func runLease(t *testing.T, db Database) {
	s, ctx := db.Runs(), t.Context()
	create(t, s, 1)
	r := acquire(t, s, 1, "first")
	if r.State != run.Running || r.Owner != "first" || r.BootID != "boot" || r.Epoch != 1 || r.StartedAt.IsZero() {
		t.Fatalf("acquired: %+v", r)
	}
	if left := time.Until(r.LeaseExpires); left < 50*time.Second || left > 70*time.Second {
		t.Fatalf("the lease has %v left", left)
	}
	_, err := s.Acquire(ctx, runID(1), "second", "boot", time.Minute)
	wantCode(t, err, arm.CodeConflict)

	db.Elapse(40 * time.Second)
	ok(t, s.Renew(ctx, runID(1), 1, time.Minute))
	db.Elapse(40 * time.Second)
	_, err = s.Acquire(ctx, runID(1), "second", "boot", time.Minute)
	wantCode(t, err, arm.CodeConflict)

	db.Elapse(30 * time.Second)
	second := acquire(t, s, 1, "second")
	if second.Epoch != 2 || second.Owner != "second" || !second.StartedAt.Equal(r.StartedAt) {
		t.Fatalf("taken over: %+v", second)
	}
	wantCode(t, s.Renew(ctx, runID(1), 1, time.Minute), arm.CodePreconditionFailed)
	ok(t, s.Renew(ctx, runID(1), 2, time.Minute))
	wantCode(t, s.Renew(ctx, runID(2), 2, time.Minute), arm.CodeNotFound)

	must(s.Update(ctx, runID(1), 2, end(run.Succeeded)))(t)
	wantCode(t, s.Renew(ctx, runID(1), 2, time.Minute), arm.CodePreconditionFailed)
	_, err = s.Acquire(ctx, runID(1), "third", "boot", time.Minute)
	wantCode(t, err, arm.CodeNotAllowed)
	_, err = s.Acquire(ctx, runID(2), "third", "boot", time.Minute)
	wantCode(t, err, arm.CodeNotFound)
	_, err = s.Acquire(ctx, runID(1), "", "boot", time.Minute)
	wantCode(t, err, arm.CodeInternal)
}

func runFencing(t *testing.T, db Database) {
	s, ctx := db.Runs(), t.Context()
	create(t, s, 1)
	acquire(t, s, 1, "first")
	db.Elapse(2 * time.Minute)
	acquire(t, s, 1, "second")
	_, err := s.Update(ctx, runID(1), 1, end(run.Failed))
	wantCode(t, err, arm.CodePreconditionFailed)
	_, err = s.Expire(ctx, runID(1), 1)
	wantCode(t, err, arm.CodePreconditionFailed)
	got := must(s.Get(ctx, runID(1)))(t)
	if got.State != run.Running || got.Owner != "second" {
		t.Fatalf("the first owner's write came through: %+v", got)
	}
	// An expired lease that nobody took is still its owner's.
	db.Elapse(2 * time.Minute)
	must(s.Update(ctx, runID(1), 2, func(r *run.Record) error { r.Phase = "capture"; return nil }))(t)
	ok(t, s.Renew(ctx, runID(1), 2, time.Minute))
}

func runUpdate(t *testing.T, db Database) {
	s, ctx := db.Runs(), t.Context()
	create(t, s, 1)
	acquired := acquire(t, s, 1, "me")
	want := acquired
	want.SubState, want.Phase, want.Message, want.FailedStep = run.SubCustomizing, "customize", "it runs", "step 2"
	want.Outputs = []run.Output{{Name: "o", Kind: "VHD", ArtifactURI: "https://x"}}
	want.Undo = []run.Undo{{Kind: "dir", Target: "/x"}, {Kind: "process", Target: "12 34"}}
	want.Request = json.RawMessage(`[]`)
	got := must(s.Update(ctx, runID(1), 1, func(r *run.Record) error { *r = want; r.Owner = "thief"; return nil }))(t)
	same(t, want, got)
	same(t, want, must(s.Get(ctx, runID(1)))(t))

	got = must(s.Update(ctx, runID(1), 1, func(r *run.Record) error { r.Undo = nil; r.State = run.Failed; return nil }))(t)
	if got.Undo != nil || got.Owner != "" || got.BootID != "" || !got.LeaseExpires.IsZero() || got.EndedAt.IsZero() {
		t.Fatalf("ended: %+v", got)
	}
	// An ended run may be annotated by its last owner, but not revived.
	noted := must(s.Update(ctx, runID(1), 1, func(r *run.Record) error { r.Message = "and why"; return nil }))(t)
	if !noted.EndedAt.Equal(got.EndedAt) {
		t.Fatalf("the end moved from %v to %v", got.EndedAt, noted.EndedAt)
	}
	_, err := s.Update(ctx, runID(1), 1, end(run.Running))
	wantCode(t, err, arm.CodeNotAllowed)
	boom := errors.New("boom")
	if _, err := s.Update(ctx, runID(1), 1, func(*run.Record) error { return boom }); !errors.Is(err, boom) {
		t.Fatalf("error of change: %v", err)
	}
	_, err = s.Update(ctx, runID(2), 1, end(run.Failed))
	wantCode(t, err, arm.CodeNotFound)
}

func runConcurrentUpdates(t *testing.T, db Database) {
	s, ctx := db.Runs(), t.Context()
	create(t, s, 1)
	acquire(t, s, 1, "me")
	const writers, rounds = 4, 8
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for n := range rounds {
				_, err := s.Update(ctx, runID(1), 1, func(r *run.Record) error {
					r.Undo = append(r.Undo, run.Undo{Kind: "dir", Target: fmt.Sprint(w, n)})
					return nil
				})
				if err != nil {
					t.Error(err)
				}
				if err := s.Renew(ctx, runID(1), 1, time.Minute); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := len(must(s.Get(ctx, runID(1)))(t).Undo); got != writers*rounds {
		t.Fatalf("%d undo records, want %d", got, writers*rounds)
	}
}

func runCancel(t *testing.T, db Database) {
	s, ctx := db.Runs(), t.Context()
	create(t, s, 1)
	queued := must(s.RequestCancel(ctx, runID(1)))(t)
	if queued.State != run.Canceled || queued.EndedAt.IsZero() {
		t.Fatalf("a queued run after cancel: %+v", queued)
	}
	_, err := s.RequestCancel(ctx, runID(1))
	wantCode(t, err, arm.CodeNotAllowed)
	_, err = s.Acquire(ctx, runID(1), "me", "boot", time.Minute)
	wantCode(t, err, arm.CodeNotAllowed)

	create(t, s, 2)
	acquire(t, s, 2, "me")
	for range 2 {
		r := must(s.RequestCancel(ctx, runID(2)))(t)
		if r.State != run.Canceling || r.Owner != "me" || r.Epoch != 1 {
			t.Fatalf("a running run after cancel: %+v", r)
		}
	}
	_, err = s.Update(ctx, runID(2), 1, end(run.Running))
	wantCode(t, err, arm.CodeNotAllowed)
	must(s.Update(ctx, runID(2), 1, end(run.Canceled)))(t)
	_, err = s.RequestCancel(ctx, runID(3))
	wantCode(t, err, arm.CodeNotFound)
}

func runExpire(t *testing.T, db Database) {
	s, ctx := db.Runs(), t.Context()
	create(t, s, 1)
	acquire(t, s, 1, "dead")
	r := must(s.Expire(ctx, runID(1), 1))(t)
	if r.State != run.Running || r.Owner != "" || r.BootID != "" || r.Epoch != 2 || !r.LeaseExpires.IsZero() {
		t.Fatalf("expired: %+v", r)
	}
	_, err := s.Update(ctx, runID(1), 1, end(run.Succeeded))
	wantCode(t, err, arm.CodePreconditionFailed)
	wantCode(t, s.Renew(ctx, runID(1), 2, time.Minute), arm.CodePreconditionFailed)
	again := acquire(t, s, 1, "next")
	if again.Epoch != 3 {
		t.Fatalf("epoch %d", again.Epoch)
	}
	must(s.Expire(ctx, runID(1), 3))(t)
	must(s.Update(ctx, runID(1), 4, end(run.Interrupted)))(t)
	_, err = s.Expire(ctx, runID(1), 4)
	wantCode(t, err, arm.CodeNotAllowed)
	_, err = s.Expire(ctx, runID(2), 0)
	wantCode(t, err, arm.CodeNotFound)
	create(t, s, 3)
	if r := must(s.Expire(ctx, runID(3), 0))(t); r.State != run.Queued || r.Epoch != 1 {
		t.Fatalf("a queued run after expire: %+v", r)
	}
}

func runDelete(t *testing.T, db Database) {
	s, ctx := db.Runs(), t.Context()
	create(t, s, 1)
	wantCode(t, s.Delete(ctx, runID(1)), arm.CodeNotAllowed)
	must(s.RequestCancel(ctx, runID(1)))(t)
	l := must2Layer(db.Layers().Insert(ctx, newLayer("l1", "k1", "")))(t)
	ok(t, db.Layers().Pin(ctx, runID(1), l.ID))
	ok(t, s.Delete(ctx, strings.ToUpper(runID(1))))
	if pins := must(db.Layers().PinsOf(ctx, runID(1)))(t); len(pins) != 0 {
		t.Fatalf("the run's pins outlive it: %v", pins)
	}
	wantCode(t, s.Delete(ctx, runID(1)), arm.CodeNotFound)
}

func runOneOwner(t *testing.T, db Database) {
	s, ctx := db.Runs(), t.Context()
	create(t, s, 1)
	const racers = 6
	var wg sync.WaitGroup
	won := make(chan string, racers)
	for n := range racers {
		wg.Go(func() {
			r, err := s.Acquire(ctx, runID(1), fmt.Sprint("racer", n), "boot", time.Minute)
			if err == nil {
				won <- r.Owner
			} else if !arm.IsCode(err, arm.CodeConflict) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Fatalf("%d owners", len(won))
	}
	if got := must(s.Get(ctx, runID(1)))(t); got.Owner != <-won || got.Epoch != 1 {
		t.Fatalf("%+v", got)
	}
}
