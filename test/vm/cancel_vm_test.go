//go:build vm

package vm

import (
	"strings"
	"syscall"
	"testing"
	"time"

	"goldsmith/internal/run"
)

// undoTime is how long a cancelled build may take to undo everything.
const undoTime = 10 * time.Second

// TestEndings ends a build in the middle of a step, in every way there is.
func TestEndings(t *testing.T) {
	tests := map[string]struct {
		end    func(*testing.T, *process)
		code   int           // 0: killed, without one
		within time.Duration // from the end to the last process being gone
		state  run.State     // after the next command
	}{
		"interrupt": {
			func(t *testing.T, p *process) { p.signal(t, syscall.SIGINT) }, 130, undoTime, run.Canceled,
		},
		"interrupt twice": {
			func(t *testing.T, p *process) {
				// The guest cannot hinder the second: it is not asked.
				p.signal(t, syscall.SIGINT)
				p.signal(t, syscall.SIGTERM)
			}, 130, 5 * time.Second, "",
		},
		"runs cancel": {
			func(t *testing.T, p *process) { p.host.must(t, "runs", "cancel", p.run(t)) }, 130, undoTime, run.Canceled,
		},
		"kill": {
			func(t *testing.T, p *process) { p.signal(t, syscall.SIGKILL) }, 0, 5 * time.Second, run.Interrupted,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			h := shared(t)
			p := h.build(t, h.template(t, templateSpec{Name: "vm-ending", Customize: []step{
				shell("first", "echo first"), shell("wait", "echo begun", "sleep 600"),
			}}))
			p.await(t, saying("begun"))
			id := p.run(t)
			pids := machines(t, id)
			if len(pids) < 2 {
				t.Fatalf("the machine has processes %v, want QEMU and its guardian", pids)
			}
			start := time.Now()
			test.end(t, p)
			if test.code != 0 {
				p.ends(t, test.code)
			} else {
				<-p.done
			}
			awaitEnds(t, pids, test.within-time.Since(start))
			took := time.Since(start)
			t.Logf("over after %v", took.Round(millisecond))
			if took > test.within {
				t.Errorf("it took %v, more than %v", took, test.within)
			}
			if test.state == run.Canceled {
				h.checkUndone(t, id) // by itself, without a next command
			}
			r := h.run(t, "runs", "list")
			if state := h.record(t, id).State; test.state != "" && state != test.state {
				t.Errorf("the run is %s, want %s", state, test.state)
			}
			if test.state == run.Interrupted && !strings.Contains(r.stderr, "was interrupted") {
				t.Errorf("the next command says nothing of the interrupted run: %q", r.stderr)
			}
			h.checkUndone(t, id)
			if len(h.images(t, "vm-ending")) > 0 {
				t.Error("there is an image")
			}
		})
	}
}
