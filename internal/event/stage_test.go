package event

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What a stage passes on is, event by event, what the log then holds, however
// many events of a progress are held back.
func TestStage(t *testing.T) {
	var passed []Event
	s := NewStage("r", nil, SinkFunc(func(e Event) { passed = append(passed, e) }))
	s.Emit(Event{Kind: PhaseStarted, Phase: PhaseSubmit})
	for i := range int64(50) {
		s.Emit(Event{Kind: Progress, Text: "import", Done: i, Total: 50, Time: time.Unix(1, i)})
	}
	s.Emit(Event{Kind: Info, Text: "\x1b[31mred"})
	s.Emit(Event{Kind: PhaseFinished, Phase: PhaseSubmit})
	path := filepath.Join(t.TempDir(), "log")
	log, err := OpenLog(path, "r", nil)
	if err != nil {
		t.Fatal(err)
	}
	log.Adopt(s)
	log.Emit(Event{Kind: RunStarted})
	if err := log.Close(); err != nil {
		t.Fatal(err)
	}
	var stored []Event
	for e, err := range Read(path, 0) {
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, e)
	}
	if len(passed) != 5 || len(stored) != 6 {
		t.Fatalf("%d events were passed on and %d stored", len(passed), len(stored))
	}
	if diff := cmp.Diff(passed, stored[:5]); diff != "" {
		t.Errorf("passed on and stored differ:\n%s", diff)
	}
	for i, e := range stored {
		if e.Offset != int64(i) {
			t.Errorf("event %d has offset %d", i, e.Offset)
		}
	}
	if passed[2].Text == "\x1b[31mred" {
		t.Error("a control sequence was passed on")
	}
}
