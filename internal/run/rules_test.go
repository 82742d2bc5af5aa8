package run

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"goldsmith/internal/arm"
)

const testID = "00000000-0000-4000-8000-000000000001"

func TestPrepare(t *testing.T) {
	got, err := Prepare(Record{ID: testID, Owner: "somebody", Epoch: 9, LeaseExpires: time.Unix(1, 0), BootID: "b"})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Record{ID: testID, State: Queued, SubState: SubQueued}, got); diff != "" {
		t.Errorf("prepared record (-want +got):\n%s", diff)
	}
	for _, id := range []string{"", "x", "00000000-0000-4000-8000-00000000000A", testID + "/..", " " + testID} {
		if _, err := Prepare(Record{ID: id}); err == nil {
			t.Errorf("id %q was accepted", id)
		}
	}
	if _, err := Prepare(Record{ID: testID, State: Running}); !arm.IsCode(err, arm.CodeNotAllowed) {
		t.Errorf("a run created Running: %v", err)
	}
}

func TestApplyTransitions(t *testing.T) {
	states := []State{Queued, Running, Canceling, Succeeded, PartiallySucceeded, Failed, Canceled, Interrupted, "Nonsense"}
	allowed := map[State][]State{
		Queued:    {Queued, Succeeded, PartiallySucceeded, Failed, Canceled, Interrupted},
		Running:   {Running, Canceling, Succeeded, PartiallySucceeded, Failed, Canceled, Interrupted},
		Canceling: {Canceling, Succeeded, PartiallySucceeded, Failed, Canceled, Interrupted},
	}
	for _, from := range states[:8] {
		want := map[State]bool{from: true}
		for _, to := range allowed[from] {
			want[to] = true
		}
		for _, to := range states {
			_, err := Apply(Record{ID: testID, State: from}, func(r *Record) error { r.State = to; return nil })
			if (err == nil) != want[to] {
				t.Errorf("%s to %s: %v", from, to, err)
			}
		}
	}
}

func TestApplyKeepsTheLease(t *testing.T) {
	before := Record{
		ID: testID, State: Running, Epoch: 3, Owner: "me", BootID: "b",
		LeaseExpires: time.Unix(100, 0), CreatedAt: time.Unix(1, 0), Undo: []Undo{{Kind: "dir", Target: "/a"}},
	}
	after, err := Apply(before, func(r *Record) error {
		r.ID, r.Epoch, r.Owner, r.BootID = "other", 99, "thief", "x"
		r.LeaseExpires, r.CreatedAt = time.Time{}, time.Time{}
		r.Undo[0].Target = "/b"
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := before
	want.Undo = []Undo{{Kind: "dir", Target: "/b"}}
	if diff := cmp.Diff(want, after); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if before.Undo[0].Target != "/a" {
		t.Error("the change reached the stored record")
	}
	ended, err := Apply(before, func(r *Record) error { r.State = Failed; return nil })
	if err != nil || ended.Owner != "" || !ended.LeaseExpires.IsZero() {
		t.Errorf("an ended run keeps its lease: %+v, %v", ended, err)
	}
	boom := errors.New("boom")
	if _, err := Apply(before, func(*Record) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("the error of change is lost: %v", err)
	}
}
