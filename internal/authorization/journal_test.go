package authorization

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"goldsmith/internal/audit"
	"goldsmith/internal/rbac"
)

// flaky is an audit.Store in memory that fails when told to.
type flaky struct {
	fail    error
	records []audit.Record
	appends int
}

func (f *flaky) Append(_ context.Context, records []audit.Record, _ int64) error {
	f.appends++
	if f.fail != nil {
		return f.fail
	}
	f.records = append(f.records, records...)
	return nil
}

func (f *flaky) List(context.Context, audit.Query) ([]audit.Record, error) {
	return slices.Clone(f.records), nil
}

func (j *journal) mustAdd(t *testing.T, r Request) {
	t.Helper()
	if err := j.add(t.Context(), r, rbac.Decision{}); err != nil {
		t.Fatal(err)
	}
}

func TestEqualDecisionsOfASecondAreOneRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flaky{}
		var j journal
		j.start(f, 10*time.Second, 0)
		for range 15 {
			j.mustAdd(t, Request{Principal: "p", Action: "a"})
			j.mustAdd(t, Request{Principal: "q", Action: "a"})
			<-time.After(100 * time.Millisecond)
		}
		<-time.After(20 * time.Second)
		synctest.Wait()
		var got []string
		for _, r := range f.records {
			got = append(got, fmt.Sprint(r.Principal, r.Count, r.Last.Sub(r.Time)))
		}
		if want := []string{"p10 900ms", "q10 900ms", "p5 400ms", "q5 400ms"}; !slices.Equal(got, want) {
			t.Errorf("records %v, want %v", got, want)
		}
		if f.appends != 1 {
			t.Errorf("%d writes for one batch", f.appends)
		}
		if err := j.close(); err != nil {
			t.Error(err)
		}
	})
}

func TestWhatCannotBeWrittenIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flaky{fail: errors.New("disk full")}
		var j journal
		j.start(f, time.Second, 0)
		j.mustAdd(t, Request{Principal: "first"})
		<-time.After(1500 * time.Millisecond)
		j.mustAdd(t, Request{Principal: "second"})
		<-time.After(5 * time.Second)
		synctest.Wait()
		if f.appends < 3 || len(f.records) != 0 {
			t.Errorf("%d tries, %d records", f.appends, len(f.records))
		}
		f.fail = nil
		<-time.After(2 * time.Second)
		synctest.Wait()
		if len(f.records) != 2 || f.records[0].Principal != "first" || f.records[1].Principal != "second" {
			t.Errorf("records %v", f.records)
		}
		if err := j.close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAFullJournalHoldsUpAndThenRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &flaky{}
		var j journal
		j.start(f, time.Hour, 0)
		for i := range maxPending + 1 {
			j.mustAdd(t, Request{Principal: fmt.Sprint(i)})
		}
		if len(f.records) != maxPending {
			t.Errorf("%d records were written to make room", len(f.records))
		}
		f.fail = errors.New("disk full")
		for i := range maxPending - 1 {
			j.mustAdd(t, Request{Principal: fmt.Sprint("more", i)})
		}
		if err := j.add(t.Context(), Request{Principal: "one too many"}, rbac.Decision{}); !errors.Is(err, f.fail) {
			t.Errorf("a decision that nobody keeps: %v", err)
		}
		if err := j.close(); !errors.Is(err, f.fail) {
			t.Errorf("closed with %v", err)
		}
	})
}
