package queue

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"goldsmith/internal/arm"
	"goldsmith/internal/run"
	"goldsmith/internal/store"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("QUEUE_TEST_DATA"); dir != "" {
		os.Exit(victim(dir))
	}
	goleak.VerifyTestMain(m)
}

func runID(n int) string { return fmt.Sprintf("%08d-0000-4000-8000-000000000000", n) }

type fixture struct {
	*testing.T
	dir   string
	db    *store.DB
	runs  run.Store
	locks Locks
}

func setup(t *testing.T) *fixture {
	t.Helper()
	dir := t.TempDir()
	db, err := store.Open(t.Context(), filepath.Join(dir, "db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return &fixture{T: t, dir: dir, db: db, runs: db.Runs(), locks: Locks{filepath.Join(dir, "runs")}}
}

func (f *fixture) queue(work Work, opts Options) *Queue {
	f.Helper()
	q, err := New(f.db.Writer(), f.runs, f.locks, work, opts)
	if err != nil {
		f.Fatal(err)
	}
	return q
}

func (f *fixture) create(n int) run.Record {
	f.Helper()
	r, err := f.runs.Create(f.Context(), run.Record{ID: runID(n)})
	if err != nil {
		f.Fatal(err)
	}
	return r
}

// once creates and works a run, and returns how it ended.
func (f *fixture) once(ctx context.Context, n int, work Work, opts Options) run.Record {
	f.Helper()
	lock, err := f.locks.Hold(runID(n))
	if err != nil {
		f.Fatal(err)
	}
	defer func() {
		if err := lock.Release(); err != nil {
			f.Error(err)
		}
	}()
	f.create(n)
	r, err := f.queue(work, opts).RunOne(ctx, lock)
	if err != nil {
		f.Fatal(err)
	}
	return r
}

func (f *fixture) wantNoJobs() {
	f.Helper()
	for _, table := range []string{"river_job", "river_queue"} {
		var n int
		if err := f.db.Writer().QueryRowContext(f.Context(), `select count(*) from `+table).Scan(&n); err != nil || n != 0 {
			f.Errorf("%d rows are left in %s: %v", n, table, err)
		}
	}
}

func TestRunOneEnds(t *testing.T) {
	f := setup(t)
	for n, tt := range []struct {
		name    string
		work    Work
		state   run.State
		message string
	}{
		{"success", func(context.Context, *Lease) error { return nil }, run.Succeeded, ""},
		{"failure", func(context.Context, *Lease) error { return errors.New("it broke") }, run.Failed, "it broke"},
		{"panic", func(context.Context, *Lease) error { panic("oops") }, run.Failed, "oops"},
		{"own state", func(ctx context.Context, l *Lease) error {
			_, err := l.Update(ctx, func(r *run.Record) error { r.State = run.PartiallySucceeded; return nil })
			return err
		}, run.PartiallySucceeded, ""},
		{"own cancel", func(context.Context, *Lease) error {
			return arm.Errorf(arm.CodeCanceled, "stop")
		}, run.Canceled, "stop"},
	} {
		r := f.once(t.Context(), n, tt.work, Options{})
		if r.State != tt.state || !strings.Contains(r.Message, tt.message) || r.Owner != "" || r.EndedAt.IsZero() {
			t.Errorf("%s: %+v", tt.name, r)
		}
	}
	f.wantNoJobs()
}

func TestRunOneStartsAtOnce(t *testing.T) {
	f := setup(t)
	var began time.Time
	work := func(_ context.Context, l *Lease) error {
		began = time.Now()
		if r := l.Record(); r.State != run.Running || r.Epoch != 1 || r.BootID == "" || r.Owner == "" {
			t.Errorf("acquired: %+v", r)
		}
		return nil
	}
	start := time.Now()
	f.once(t.Context(), 1, work, Options{})
	t.Logf("from creation to work %v, in all %v", began.Sub(start), time.Since(start))
}

func TestRunOneWorksOnlyItsOwn(t *testing.T) {
	f := setup(t)
	const count = 4
	var mu sync.Mutex
	worked := map[string]string{}
	var wg sync.WaitGroup
	for n := range count {
		wg.Go(func() {
			owner := fmt.Sprint("owner ", n)
			f.once(t.Context(), n, func(_ context.Context, l *Lease) error {
				mu.Lock()
				defer mu.Unlock()
				worked[l.ID()] = l.Record().Owner
				return nil
			}, Options{Owner: owner})
		})
	}
	wg.Wait()
	want := map[string]string{}
	for n := range count {
		want[runID(n)] = fmt.Sprint("owner ", n)
	}
	if diff := cmp.Diff(want, worked); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	f.wantNoJobs()
}

func TestRunOneIsCanceled(t *testing.T) {
	f := setup(t)
	t.Run("by its context", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		interrupted := errors.New("interrupted")
		r := f.once(ctx, 1, func(ctx context.Context, l *Lease) error {
			cancel(interrupted)
			<-ctx.Done()
			if !errors.Is(context.Cause(ctx), interrupted) {
				t.Errorf("cause %v", context.Cause(ctx))
			}
			// Undoing still has the lease.
			_, err := l.Update(context.WithoutCancel(ctx), func(r *run.Record) error { r.Phase = "cleanup"; return nil })
			return errors.Join(context.Cause(ctx), err)
		}, Options{})
		if r.State != run.Canceled || r.Phase != "cleanup" {
			t.Errorf("%+v", r)
		}
	})
	t.Run("before it began", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		r := f.once(ctx, 2, func(ctx context.Context, _ *Lease) error { <-ctx.Done(); return ctx.Err() }, Options{})
		if r.State != run.Canceled {
			t.Errorf("%+v", r)
		}
	})
	t.Run("by request", func(t *testing.T) {
		r := f.once(t.Context(), 3, func(ctx context.Context, l *Lease) error {
			if _, err := f.runs.RequestCancel(ctx, l.ID()); err != nil {
				return err
			}
			<-ctx.Done()
			if !arm.IsCode(context.Cause(ctx), arm.CodeCanceled) {
				t.Errorf("cause %v", context.Cause(ctx))
			}
			return context.Cause(ctx)
		}, Options{Look: 10 * time.Millisecond})
		if r.State != run.Canceled {
			t.Errorf("%+v", r)
		}
	})
	f.wantNoJobs()
}

func TestLostLeaseEndsTheWork(t *testing.T) {
	f := setup(t)
	r := f.once(t.Context(), 1, func(ctx context.Context, l *Lease) error {
		if _, err := f.runs.Expire(ctx, l.ID(), l.Epoch()); err != nil {
			return err
		}
		<-ctx.Done()
		if !errors.Is(context.Cause(ctx), ErrLeaseLost) {
			t.Errorf("cause %v", context.Cause(ctx))
		}
		if _, err := l.Update(context.WithoutCancel(ctx), func(*run.Record) error { return nil }); !arm.IsCode(err, arm.CodePreconditionFailed) {
			t.Errorf("a write without lease: %v", err)
		}
		return context.Cause(ctx)
	}, Options{Look: 10 * time.Millisecond})
	if r.State != run.Running || r.Epoch != 2 {
		t.Errorf("the loser finished the run: %+v", r)
	}
}

func TestServe(t *testing.T) {
	f := setup(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	worked := make(chan string, 10)
	blocking := make(chan struct{})
	q := f.queue(func(ctx context.Context, l *Lease) error {
		worked <- l.ID()
		if l.ID() == runID(3) {
			close(blocking)
			<-ctx.Done()
			return context.Cause(ctx)
		}
		return nil
	}, Options{})
	served := make(chan error, 1)
	go func() { served <- q.Serve(ctx, 2) }()

	first := f.create(1)
	start := time.Now()
	for range 3 { // one bell
		if err := q.Deliver(ctx, first); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-worked; got != runID(1) {
		t.Errorf("worked %s", got)
	}
	t.Logf("from delivery to work %v", time.Since(start))

	// A bell of an old epoch is not answered, the next one is.
	second := f.create(2)
	stale := second
	second, err := f.runs.Expire(ctx, second.ID, second.Epoch)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []run.Record{stale, second} {
		if err := q.Deliver(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	if got := <-worked; got != runID(2) {
		t.Errorf("worked %s", got)
	}
	if err := q.Deliver(ctx, f.create(3)); err != nil {
		t.Fatal(err)
	}
	<-blocking
	if reaped, err := q.Reap(ctx, nil, func(context.Context, run.Record) error { return nil }); err != nil || len(reaped) > 0 {
		t.Errorf("a living run was reaped: %v, %v", reaped, err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	close(worked)
	rest := 0
	for range worked {
		rest++
	}
	if rest != 1 {
		t.Errorf("%d more runs were worked, want run 3 alone", rest)
	}
	r, err := f.runs.Get(t.Context(), runID(3))
	if err != nil || r.State != run.Running || r.Owner != "" || r.Epoch != 2 {
		t.Errorf("after a stop: %+v, %v", r, err)
	}
	second, err = f.runs.Get(t.Context(), runID(2))
	if err != nil || second.State != run.Succeeded || second.Epoch != 2 {
		t.Errorf("run 2: %+v, %v", second, err)
	}
}

// victim is another process that works a run until it is killed.
func victim(dir string) int {
	ctx := context.Background()
	err := func() error {
		db, err := store.Open(ctx, filepath.Join(dir, "db"))
		if err != nil {
			return err
		}
		locks := Locks{filepath.Join(dir, "runs")}
		lock, err := locks.Hold(runID(1))
		if err != nil {
			return err
		}
		if _, err := db.Runs().Create(ctx, run.Record{ID: runID(1)}); err != nil {
			return err
		}
		q, err := New(db.Writer(), db.Runs(), locks, func(ctx context.Context, l *Lease) error {
			if _, err := l.Update(ctx, func(r *run.Record) error {
				r.Undo = []run.Undo{{Kind: "dir", Target: "/x"}}
				return nil
			}); err != nil {
				return err
			}
			fmt.Println("working")
			<-ctx.Done()
			return nil
		}, Options{Lease: time.Hour})
		if err != nil {
			return err
		}
		_, err = q.RunOne(ctx, lock)
		return err
	}()
	fmt.Fprintln(os.Stderr, err)
	return 1
}

func TestReapAfterKill(t *testing.T) {
	f := setup(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "QUEUE_TEST_DATA="+f.dir)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := stdout.Read(make([]byte, 1)); err != nil {
		t.Fatalf("the victim did not begin: %v", err)
	}
	q := f.queue(nil, Options{})
	untouched := func(context.Context, run.Record) error { t.Error("a living run was reaped"); return nil }
	if reaped, err := q.Reap(t.Context(), nil, untouched); err != nil || len(reaped) > 0 {
		t.Errorf("%v, %v", reaped, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed

	// A reaper that fails leaves the run to the next one.
	boom := errors.New("boom")
	if _, err := q.Reap(t.Context(), nil, func(context.Context, run.Record) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("error of the callback: %v", err)
	}
	var calls int
	var mu sync.Mutex
	interrupt := func(ctx context.Context, r run.Record) error {
		mu.Lock()
		defer mu.Unlock()
		calls++
		if diff := cmp.Diff([]run.Undo{{Kind: "dir", Target: "/x"}}, r.Undo); diff != "" {
			t.Errorf("undo records (-want +got):\n%s", diff)
		}
		_, err := f.runs.Update(ctx, r.ID, r.Epoch, func(r *run.Record) error {
			r.State, r.Undo = run.Interrupted, nil
			return nil
		})
		return err
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if _, err := q.Reap(t.Context(), nil, interrupt); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if calls != 1 {
		t.Errorf("%d reapers cleaned up after one run", calls)
	}
	r, err := f.runs.Get(t.Context(), runID(1))
	if err != nil || r.State != run.Interrupted {
		t.Errorf("%+v, %v", r, err)
	}
	f.wantNoJobs()
}
