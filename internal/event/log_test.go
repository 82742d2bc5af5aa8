package event

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"iter"
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
)

func TestMain(m *testing.M) {
	if path := os.Getenv("EVENT_TEST_WRITE"); path != "" {
		os.Exit(writer(path))
	}
	goleak.VerifyTestMain(m)
}

// writer is another process: it writes an event for every line on its input.
func writer(path string) int {
	l, err := OpenLog(path, "run", nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		l.Emit(Event{Kind: Kind(in.Text()), Text: in.Text()})
	}
	if err := l.Close(); err != nil {
		return 1
	}
	return 0
}

func openLog(t *testing.T, r *Redactor) *Log {
	t.Helper()
	l, err := OpenLog(filepath.Join(t.TempDir(), "events"), "run-1", r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// texts reads a stream to its end; an error ends the test.
func texts(t *testing.T, events iter.Seq2[Event, error]) []string {
	t.Helper()
	var got []string
	for e, err := range events {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprint(e.Offset, " ", e.Text))
	}
	return got
}

func TestLogFillsAndKeepsEvents(t *testing.T) {
	var r Redactor
	r.Add("hunter22")
	l := openLog(t, &r)
	failure := &Failure{Code: arm.CodeStepFailed, Message: "password hunter22", Target: "hunter22", Hint: "\x1b[31mhunter22\x1b[0m"}
	l.Emit(Event{Kind: StepFinished, Step: 2, StepName: "hunter22", Text: "a\x1b[1mb", Elapsed: time.Second, Err: failure})
	l.Emit(Event{Kind: Result, Target: "/x/hunter22"})
	var got []Event
	for e, err := range Read(l.path, 0) {
		if err != nil {
			t.Fatal(err)
		}
		if time.Since(e.Time).Abs() > time.Minute || e.Time.Location() != time.UTC {
			t.Errorf("time %v", e.Time)
		}
		e.Time = time.Time{}
		got = append(got, e)
	}
	want := []Event{
		{Run: "run-1", Kind: StepFinished, Step: 2, StepName: "***", Text: "ab", Elapsed: time.Second, Err: &Failure{
			Code: arm.CodeStepFailed, Message: "password ***", Target: "***", Hint: "***",
		}},
		{Offset: 1, Run: "run-1", Kind: Result, Target: "/x/***"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if failure.Message != "password hunter22" {
		t.Error("the caller's failure was changed")
	}
}

func TestLogContinuesAfterATornEntry(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	emit := func(text string) {
		t.Helper()
		l, err := OpenLog(path, "r", nil)
		if err != nil {
			t.Fatal(err)
		}
		l.Emit(Event{Kind: Info, Text: text})
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l.Emit(Event{Kind: Info, Text: "after close"})
	}
	for n := range 3 {
		emit(fmt.Sprint("n", n))
		file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := file.WriteString(`{"offset":7,"kind":"info","te`); err != nil {
			t.Fatal(err)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"0 n0", "1 n1", "2 n2"}, texts(t, Read(path, 0))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"2 n2"}, texts(t, Read(path, 2))); diff != "" {
		t.Errorf("from 2 (-want +got):\n%s", diff)
	}
}

func TestReadSkipsDamage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	content := `{"offset":0,"kind":"info","text":"a"}` + "\nrubbish\n\n{}\n" + strings.Repeat("x", maxEntry+10) + "\n" +
		`{"offset":1,"kind":"info","text":"b"}` + "\n" + `{"offset":2,"kind":"info","text":"c"}`
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"0 a", "1 b"}, texts(t, Read(path, 0))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFollowersSeeEverythingInOrder(t *testing.T) {
	l := openLog(t, nil)
	const count, writers = 300, 3
	var wg sync.WaitGroup
	follow := func(events iter.Seq2[Event, error], from int64) {
		next := from
		for e, err := range events {
			if err != nil {
				t.Error(err)
				return
			}
			if e.Offset != next {
				t.Errorf("offset %d, want %d", e.Offset, next)
			}
			next++
		}
		if next != count*writers+1 {
			t.Errorf("a follower from %d ended before %d", from, next)
		}
	}
	for _, from := range []int64{0, 17} {
		wg.Go(func() { follow(l.Follow(t.Context(), from), from) })
		wg.Go(func() { follow(Follow(t.Context(), l.path, from), from) })
	}
	var writing sync.WaitGroup
	for range writers {
		writing.Go(func() {
			for range count {
				l.Emit(Event{Kind: Output, Text: strings.Repeat("x", 5000)})
			}
		})
	}
	writing.Wait()
	l.Emit(Event{Kind: RunFinished})
	wg.Wait()
}

func TestFollowAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "events")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "EVENT_TEST_WRITE="+path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	say := func(kind Kind) {
		if _, err := fmt.Fprintln(stdin, kind); err != nil {
			t.Fatal(err)
		}
	}
	// Each event is written only after the one before was seen.
	next := []Kind{Info, Output, RunFinished}
	say(RunStarted)
	var got []Kind
	for e, err := range Follow(t.Context(), path, 0) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Kind)
		if len(next) > 0 {
			say(next[0])
			next = next[1:]
		}
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Kind{RunStarted, Info, Output, RunFinished}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestFollowEnds(t *testing.T) {
	stop := errors.New("enough")
	last := func(events iter.Seq2[Event, error], each func()) (err error) {
		for _, err = range events {
			each()
		}
		return err
	}
	t.Run("by its context", func(t *testing.T) {
		l := openLog(t, nil)
		l.Emit(Event{Kind: Info})
		for name, follow := range map[string]func(ctx context.Context) iter.Seq2[Event, error]{
			"in process": func(ctx context.Context) iter.Seq2[Event, error] { return l.Follow(ctx, 0) },
			"by path":    func(ctx context.Context) iter.Seq2[Event, error] { return Follow(ctx, l.path, 0) },
		} {
			ctx, cancel := context.WithCancelCause(t.Context())
			if err := last(follow(ctx), func() { cancel(stop) }); !errors.Is(err, stop) {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	t.Run("by close", func(t *testing.T) {
		l := openLog(t, nil)
		l.Emit(Event{Kind: Info})
		if err := last(l.Follow(t.Context(), 0), func() { _ = l.Close() }); err != nil {
			t.Error(err)
		}
	})
	t.Run("by removal", func(t *testing.T) {
		l := openLog(t, nil)
		l.Emit(Event{Kind: Info})
		err := last(Follow(t.Context(), l.path, 0), func() { _ = os.Remove(l.path) })
		if !arm.IsCode(err, arm.CodeNotFound) {
			t.Error(err)
		}
	})
	t.Run("without a file", func(t *testing.T) {
		for _, events := range []iter.Seq2[Event, error]{Follow(t.Context(), "/nonexistent", 0), Read("/nonexistent", 0)} {
			if err := last(events, func() {}); !arm.IsCode(err, arm.CodeNotFound) {
				t.Error(err)
			}
		}
	})
}

func TestFailedWriteLosesNoOrder(t *testing.T) {
	l := openLog(t, nil)
	l.Emit(Event{Kind: Info, Text: "a"})
	whole := l.file
	readOnly, err := os.Open(l.path)
	if err != nil {
		t.Fatal(err)
	}
	l.file = readOnly
	l.Emit(Event{Kind: Info, Text: "lost"})
	if err := l.Err(); err == nil || !strings.Contains(err.Error(), l.path) {
		t.Fatalf("a failed write is not reported: %v", err)
	}
	l.file = whole
	// What a short write left behind is removed before the next entry.
	if _, err := whole.WriteAt([]byte(`{"off`), l.size); err != nil {
		t.Fatal(err)
	}
	l.Emit(Event{Kind: Info, Text: "b"})
	if diff := cmp.Diff([]string{"0 a", "1 b"}, texts(t, Read(l.path, 0))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := errors.Join(readOnly.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestProgressIsThinnedOut(t *testing.T) {
	l := openLog(t, nil)
	clock := time.Unix(0, 0)
	l.now = func() time.Time { return clock }
	for n := range int64(1000) {
		clock = clock.Add(time.Millisecond)
		l.Emit(Event{Kind: Progress, Text: "download", Done: n + 1, Total: 2000})
		l.Emit(Event{Kind: Progress, Text: "done", Done: n + 1, Total: n + 1})
	}
	l.Emit(Event{Kind: Output, Text: "line"})
	l.Emit(Event{Kind: PhaseFinished, Phase: PhasePrepare})
	var downloads []int64
	dones := 0
	for e, err := range Read(l.path, 0) {
		if err != nil {
			t.Fatal(err)
		}
		switch e.Text {
		case "download":
			downloads = append(downloads, e.Done)
		case "done":
			dones++
		}
	}
	want := []int64{1, 101, 201, 301, 401, 501, 601, 701, 801, 901, 1000}
	if diff := cmp.Diff(want, downloads); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if dones != 1000 {
		t.Errorf("%d of 1000 completions are shown", dones)
	}
}
