// Package event is the one stream of everything a person or program can see of
// a build. The terminal view, --json, customization.log, lastRunStatus and
// resume-after-reconnect all read it.
package event

import (
	"time"

	"goldsmith/internal/arm"
)

// Kind says what an Event reports.
type Kind string

// The kinds of events.
const (
	RunStarted    Kind = "run.started"    // Text: template name
	RunFinished   Kind = "run.finished"   // State: final run state; Err on failure
	PhaseStarted  Kind = "phase.started"  // Phase; Total: the number of steps, for PhaseCustomize
	PhaseFinished Kind = "phase.finished" // Phase, Elapsed; Err on failure
	StepStarted   Kind = "step.started"   // Step, StepName
	StepFinished  Kind = "step.finished"  // Step, StepName, Elapsed; Err on failure
	StepCached    Kind = "step.cached"    // Step, StepName; Text: how old its result is. It does not run.
	Output        Kind = "output"         // one line a step wrote: Step, StepName, Stream, Text
	Progress      Kind = "progress"       // Text: what moves; Done of Total bytes (Total 0: unknown)
	Decision      Kind = "decision"       // Text: a choice and its reason (accelerator, warm start, cache)
	Warning       Kind = "warning"        // Text; Target where it has one
	Info          Kind = "info"           // Text
	Connection    Kind = "connection"     // a connection to the outside that ended: Target "tcp address:port", Text: its name; Done bytes sent, Total received
	Topology      Kind = "topology"       // how the run is connected, as JSON in Text
	Result        Kind = "result"         // an output of the run: Text, Target = artifact id or path; Err when it failed
)

// Phase is a part of a run. The phases of a run are started in this order.
type Phase string

// The phases of a run.
const (
	PhaseSubmit     Phase = "submit"     // validate, fetch and freeze artifacts
	PhasePrepare    Phase = "prepare"    // resolve source, base disk, staging group
	PhaseStart      Phase = "start"      // restore or boot the build VM until its first command
	PhaseCustomize  Phase = "customize"  // the customizers
	PhaseGeneralize Phase = "generalize" // deprovision and power off
	PhaseCapture    Phase = "capture"    // changed chunks into the image store
	PhaseValidate   Phase = "validate"   // the validations, in a machine booted from the image
	PhaseDistribute Phase = "distribute" // outputs published
	PhaseExport     Phase = "export"     // --output files
	PhaseCleanup    Phase = "cleanup"    // undo of what the run acquired
)

// Event is one entry of a run's stream. Unused fields are empty.
type Event struct {
	Offset   int64         `json:"offset"` // position in the run's stream, from 0, without gaps
	Time     time.Time     `json:"time"`
	Run      string        `json:"run"`
	Kind     Kind          `json:"kind"`
	Phase    Phase         `json:"phase,omitempty"`
	Step     int           `json:"step,omitempty"` // 1-based position in customize[]
	StepName string        `json:"stepName,omitempty"`
	Stream   string        `json:"stream,omitempty"` // "stdout" or "stderr"
	Text     string        `json:"text,omitempty"`
	Target   string        `json:"target,omitempty"`
	State    string        `json:"state,omitempty"`
	Done     int64         `json:"done,omitempty"`  // bytes
	Total    int64         `json:"total,omitempty"` // bytes; steps in a PhaseStarted
	Elapsed  time.Duration `json:"elapsedNs,omitempty"`
	Err      *Failure      `json:"error,omitempty"`
}

// Failure is an error as an event carries it.
type Failure struct {
	Code    arm.Code `json:"code"`
	Message string   `json:"message"`
	Target  string   `json:"target,omitempty"`
	Hint    string   `json:"hint,omitempty"` // likely cause and what to do
}

// FailureOf turns err into a Failure; nil for nil.
func FailureOf(err error) *Failure {
	if err == nil {
		return nil
	}
	return &Failure{Code: arm.CodeOf(err), Message: err.Error()}
}

// Sink takes events. The implementation fills Offset, Time and Run, redacts
// secrets, and must be safe for concurrent use. Emit never blocks on a slow
// reader.
type Sink interface {
	Emit(e Event)
}

// SinkFunc makes a function a Sink.
type SinkFunc func(Event)

// Emit calls f.
func (f SinkFunc) Emit(e Event) { f(e) }

// Discard is a Sink that drops everything.
var Discard Sink = SinkFunc(func(Event) {})
