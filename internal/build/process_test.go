package build_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/event"
	"goldsmith/internal/layer"
	"goldsmith/internal/run"
)

// Environment of a worker process: its data directory, the template's name, and
// where it stops for ever, "" for nowhere.
const (
	workerData = "BUILD_TEST_DATA"
	workerName = "BUILD_TEST_NAME"
	workerStop = "BUILD_TEST_STOP"
)

// TestWorker is one build in a process of its own, when a test starts it as such.
// Its standard output has the events.
func TestWorker(t *testing.T) {
	data := os.Getenv(workerData)
	if data == "" {
		return // not started as a worker: there is nothing to test
	}
	l := buildtest.Open(t, data)
	stop := os.Getenv(workerStop)
	halt := func(at string) {
		if at == stop {
			fmt.Printf("halted %s\n", at)
			select {}
		}
	}
	l.SetScript(buildtest.Script{Command: func(_ context.Context, _ *buildtest.Guest, _, text string) (int, bool) {
		if strings.Contains(text, "echo two") {
			halt("script")
		}
		return 0, false
	}})
	out := json.NewEncoder(os.Stdout)
	events := event.SinkFunc(func(e event.Event) {
		if err := out.Encode(e); err != nil {
			t.Error(err)
		}
	})
	req := sweepRequest(l)
	req.Name = os.Getenv(workerName)
	req.Outputs = []string{filepath.Join(filepath.Dir(data), req.Name+".raw")}
	if _, err := l.Engine.Build(t.Context(), req, events); err != nil {
		t.Error(err)
	}
}

// worker is a started worker process.
type worker struct {
	*exec.Cmd
	out *bufio.Reader
}

// startWorker starts this test binary as a worker.
func startWorker(t *testing.T, data, name, stop string) *worker {
	t.Helper()
	return startAs(t, "TestWorker", workerData+"="+data, workerName+"="+name, workerStop+"="+stop)
}

// startAs starts one test of this binary in a process of its own. What it has no
// time to remove when it is killed goes with t's own directory.
func startAs(t *testing.T, test string, env ...string) *worker {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$", "-test.timeout=120s")
	cmd.Env = append(append(os.Environ(), "TMPDIR="+t.TempDir()), env...)
	cmd.Stderr = os.Stderr
	pipe, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &worker{cmd, bufio.NewReader(pipe)}
}

// until reads events until one is as wanted; false when the worker ended first.
// halted is true when the worker says that it stopped.
func (w *worker) until(want func(e event.Event, halted bool) bool) bool {
	for {
		line, err := w.out.ReadString('\n')
		if err != nil {
			return false
		}
		var e event.Event
		halted := strings.HasPrefix(line, "halted ")
		if !halted && json.Unmarshal([]byte(line), &e) != nil {
			continue
		}
		if want(e, halted) {
			return true
		}
	}
}

// kill ends the worker as kill -9 does, and waits for it.
func (w *worker) kill(t *testing.T) {
	t.Helper()
	if err := w.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Error(err)
	}
	_, _ = io.Copy(io.Discard, w.out) // what it had written
	_ = w.Wait()                      // it was killed
}

// A build whose process is killed in any phase is cleaned up after by the next
// command, and the template can be built again.
func TestKill(t *testing.T) {
	type point struct {
		name string
		stop string
		is   func(e event.Event, halted bool) bool
	}
	points := []point{{"script", "script", func(_ event.Event, halted bool) bool { return halted }}}
	for _, b := range boundaries {
		if b.kind == event.PhaseStarted || b.kind == event.RunStarted || b.kind == event.StepStarted {
			points = append(points, point{b.String(), "", func(e event.Event, _ bool) bool { return b.is(e) }})
		}
	}
	points = append(points, point{"export", "", func(e event.Event, _ bool) bool { return e.Kind == event.PhaseStarted && e.Phase == event.PhaseExport }})
	for _, p := range points {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			data := filepath.Join(dir, "data")
			w := startWorker(t, data, "killed", p.stop)
			if !w.until(p.is) {
				t.Errorf("the worker never came to %s", p.name)
			}
			w.kill(t)
			l := buildtest.Open(t, data)
			ended, err := l.Engine.Recover(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			all, err := l.Engine.Runs().List(t.Context(), run.Filter{})
			if err != nil || len(all) != 1 {
				t.Fatalf("%d runs, %v", len(all), err)
			}
			rec := all[0]
			switch {
			case rec.State == run.Succeeded && len(ended) == 0: // it was faster than the kill
			case rec.State != run.Interrupted || len(ended) != 1:
				t.Errorf("the run is %s, and %d runs were ended", rec.State, len(ended))
			}
			var last event.Event
			for e, err := range event.Read(l.Engine.LogPath(rec.ID), 0) {
				if err != nil {
					t.Fatal(err)
				}
				last = e
			}
			if rec.State == run.Interrupted && (last.Kind != event.RunFinished || last.State != string(run.Interrupted) || last.Err == nil) {
				t.Errorf("the log ends with %+v", last)
			}
			l.Recovered()
			l.CheckClean(rec)
			if files, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(files) > 0 {
				t.Errorf("temporary files: %v, %v", files, err)
			}
			if again, err := l.Engine.Recover(t.Context()); err != nil || len(again) > 0 {
				t.Errorf("the second recovery ended %v, %v", again, err)
			}
			req := sweepRequest(l)
			req.Name = "killed"
			rec, events, err := l.Build(t.Context(), req)
			if err != nil {
				t.Fatalf("the next build: %v\n%s", err, events.Text())
			}
			l.CheckClean(rec)
		})
	}
}

// A build that another process works is not taken from it.
func TestRecoverLeavesTheLiving(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	w := startWorker(t, data, "living", "script")
	defer w.kill(t)
	if !w.until(func(_ event.Event, halted bool) bool { return halted }) {
		t.Fatal("the worker ended")
	}
	l := buildtest.Open(t, data)
	ended, err := l.Engine.Recover(t.Context())
	if err != nil || len(ended) > 0 {
		t.Errorf("recovered %v, %v", ended, err)
	}
	// Another build works beside it, on the same warm base.
	rec, events, err := l.Build(t.Context(), l.Request("other", buildtest.Template{VMProfile: buildtest.Object{"osDiskSizeGB": 1}}))
	if err != nil || rec.State != run.Succeeded || !events.Has(event.Decision, "restored the booted base") || events.Has(event.Decision, "booting") {
		t.Errorf("%v\n%s", err, events.Text())
	}
}

// Builds of several goroutines and processes share one directory and one boot.
func TestSeveralBuilds(t *testing.T) {
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	l := buildtest.Open(t, data)
	const here, there = 4, 2
	var workers []*worker
	for i := range there {
		workers = append(workers, startWorker(t, data, fmt.Sprint("there", i), ""))
	}
	type result struct {
		rec    run.Record
		events *buildtest.Recording
		err    error
	}
	results := make(chan result, here)
	for i := range here {
		req := l.Request(fmt.Sprint("here", i), buildtest.Template{
			VMProfile: buildtest.Object{"osDiskSizeGB": 1}, Customize: []buildtest.Object{buildtest.Shell("s", fmt.Sprint("echo number ", i))},
			Distribute: []buildtest.Object{l.ToGallery("shared", "", buildtest.Object{"versioning": buildtest.Object{"scheme": "Latest"}})},
		})
		go func() {
			rec, events, err := l.Build(t.Context(), req)
			results <- result{rec, events, err}
		}()
	}
	versions := map[string]bool{}
	booted := 0
	var recs []run.Record
	for range here {
		r := <-results
		if r.err != nil {
			t.Errorf("%v\n%s", r.err, r.events.Text())
			continue
		}
		versions[r.rec.Outputs[0].ArtifactID] = true
		recs = append(recs, r.rec)
		if r.events.Has(event.Decision, "cold boot") {
			t.Errorf("a build booted for itself:\n%s", r.events.Text())
		}
	}
	if len(versions) != here {
		t.Errorf("versions %v", versions)
	}
	for _, w := range workers {
		if !w.until(func(e event.Event, _ bool) bool {
			return e.Kind == event.RunFinished && e.State == string(run.Succeeded)
		}) {
			t.Error("a worker did not succeed")
		}
		_, _ = io.Copy(io.Discard, w.out)
		if err := w.Wait(); err != nil {
			t.Error(err)
		}
	}
	for _, r := range l.Layers(layer.Filter{Kind: layer.Memory}) {
		if r.Key != "" {
			booted++
		}
	}
	if all := l.Layers(layer.Filter{Kind: layer.Memory}); booted != 1 || len(all) != 1 {
		t.Errorf("%d warm layers, %d of them with a key", len(all), booted)
	}
	for _, rec := range recs {
		l.CheckClean(rec)
	}
}
