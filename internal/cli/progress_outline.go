package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"goldsmith/internal/event"
)

const (
	keptOutput = 20  // last lines of output kept per part, shown when it fails
	keptNotes  = 200 // last decisions and warnings kept
)

// outline is what is known of a run after some of its events: the state that
// the renderers draw from. It must be fed with events that terminalEvent made
// safe.
type outline struct {
	template  string
	run       string
	next      int64     // offset after the last event applied
	started   time.Time // time of the first event
	now       time.Time // time of the last event
	phases    []*part
	steps     []*part
	stepTotal int // 0: unknown
	transfers []*transfer
	moved     *transfer     // of the last Progress event
	notes     []event.Event // decisions, warnings and infos
	results   []event.Event
	finished  *event.Event // the RunFinished
}

// part is a phase or a step of a run.
type part struct {
	phase    event.Phase
	step     int // 0 for a phase
	name     string
	started  time.Time
	elapsed  time.Duration // of an ended part
	ended    bool
	err      *event.Failure
	cached   string   // how old the result of a step is that did not run
	output   []string // the last keptOutput lines
	outputAt time.Time
}

// apply adds e to what is known.
func (o *outline) apply(e event.Event) {
	o.next = e.Offset + 1
	if o.started.IsZero() {
		o.started = e.Time
	}
	if e.Time.After(o.now) {
		o.now = e.Time
	}
	if o.run == "" {
		o.run = e.Run
	}
	switch e.Kind {
	case event.RunStarted:
		o.template = e.Text
	case event.RunFinished:
		o.finished = &e
		o.transfers = nil
	case event.PhaseStarted:
		o.phase(e)
		if e.Phase == event.PhaseCustomize {
			o.stepTotal = int(e.Total)
		}
	case event.PhaseFinished:
		o.phase(e).end(e)
		o.transfers = nil
	case event.StepStarted:
		o.step(e)
	case event.StepFinished:
		o.step(e).end(e)
	case event.StepCached:
		p := o.step(e)
		p.end(e)
		p.cached = e.Text
	case event.Output:
		if p := o.source(e); p != nil {
			p.output = append(p.output, e.Text)
			p.output = p.output[max(0, len(p.output)-keptOutput):]
			p.outputAt = e.Time
		}
	case event.Progress:
		o.move(e)
	case event.Decision, event.Warning, event.Info:
		o.notes = append(o.notes, e)
		o.notes = o.notes[max(0, len(o.notes)-keptNotes):]
	case event.Result:
		o.results = append(o.results, e)
	}
}

// phase is the part of e's phase, made when it is new.
func (o *outline) phase(e event.Event) *part {
	for _, p := range o.phases {
		if p.phase == e.Phase {
			return p
		}
	}
	p := &part{phase: e.Phase, name: phaseTitle(e.Phase), started: e.Time}
	o.phases = append(o.phases, p)
	return p
}

// step is the part of e's step, made when it is new.
func (o *outline) step(e event.Event) *part {
	for _, p := range o.steps {
		if p.step == e.Step {
			return p
		}
	}
	p := &part{phase: event.PhaseCustomize, step: e.Step, name: e.StepName, started: e.Time}
	o.steps = append(o.steps, p)
	return p
}

// end marks p as ended by e.
func (p *part) end(e event.Event) {
	p.ended, p.elapsed, p.err = true, e.Elapsed, e.Err
}

// source is the part that wrote the output e: its step, else its phase, else
// the phase that runs; nil before the first.
func (o *outline) source(e event.Event) *part {
	if e.Step > 0 {
		return o.step(e)
	}
	if e.Phase != "" {
		return o.phase(e)
	}
	return o.running()
}

// running is the newest phase that has not ended, nil when all have.
func (o *outline) running() *part {
	for _, p := range slices.Backward(o.phases) {
		if !p.ended {
			return p
		}
	}
	return nil
}

// move updates the transfer that e reports, and forgets it when it is complete.
func (o *outline) move(e event.Event) {
	i := slices.IndexFunc(o.transfers, func(t *transfer) bool { return t.name == e.Text })
	if i < 0 {
		i = len(o.transfers)
		o.transfers = append(o.transfers, &transfer{name: e.Text})
	}
	o.moved = o.transfers[i]
	if o.moved.sample(e); o.moved.complete() {
		o.transfers = slices.Delete(o.transfers, i, i+1)
	}
}

// label names p as the lines of a log do: "2/3 install nginx" or "customize".
func (o *outline) label(p *part) string {
	if p.step == 0 {
		return string(p.phase)
	}
	return o.stepLabel(p.step, p.name)
}

// stepLabel is "2/3 install nginx", shorter where the total or name is unknown.
func (o *outline) stepLabel(step int, name string) string {
	label := fmt.Sprint(step)
	if o.stepTotal > 0 {
		label += fmt.Sprintf("/%d", o.stepTotal)
	}
	if name != "" {
		label += " " + name
	}
	return label
}

// culprit is the part whose failure ended the run: the first failed step, else
// the first failed phase; nil when none failed.
func (o *outline) culprit() *part {
	for _, parts := range [][]*part{o.steps, o.phases} {
		for _, p := range parts {
			if p.err != nil {
				return p
			}
		}
	}
	return nil
}

// stepsOf are the steps that belong under p; a step has none.
func (o *outline) stepsOf(p *part) []*part {
	if p.step == 0 && p.phase == event.PhaseCustomize {
		return o.steps
	}
	return nil
}

// elapsedAt is how long p took, or has been running at now.
func (p *part) elapsedAt(now time.Time) time.Duration {
	if p.ended {
		return p.elapsed
	}
	return max(0, now.Sub(p.started))
}

// total is how long the run took until its last event.
func (o *outline) total() time.Duration {
	if o.finished != nil && o.finished.Elapsed > 0 {
		return o.finished.Elapsed
	}
	return o.now.Sub(o.started)
}

// phaseTitles are the phases as people read them.
var phaseTitles = map[event.Phase]string{
	event.PhaseSubmit:     "Submit",
	event.PhasePrepare:    "Prepare",
	event.PhaseStart:      "Start the build VM",
	event.PhaseCustomize:  "Customize",
	event.PhaseGeneralize: "Generalize",
	event.PhaseCapture:    "Capture",
	event.PhaseValidate:   "Validate",
	event.PhaseDistribute: "Distribute",
	event.PhaseExport:     "Export",
	event.PhaseCleanup:    "Clean up",
}

// phaseTitle is p as people read it.
func phaseTitle(p event.Phase) string {
	if t, ok := phaseTitles[p]; ok {
		return t
	}
	return strings.ToUpper(string(p[:min(1, len(p))])) + string(p[min(1, len(p)):])
}
