package cli

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"goldsmith/internal/event"
)

// The steps in which plain lines report a transfer: whichever comes first.
const (
	plainProgressPercent = 10
	plainProgressPeriod  = 5 * time.Second
)

// plainProgress writes a line per event.
type plainProgress struct {
	out     io.Writer
	options ProgressOptions
}

// Show implements Progress.
func (p *plainProgress) Show(ctx context.Context, events <-chan event.Event) error {
	interrupts, stop := p.options.interrupts()
	defer stop()
	w := newPlainWriter(p.out, p.options)
	if err := eachEvent(ctx, events, interrupts, w.event, w.interrupted); err != nil {
		return err
	}
	return w.finish()
}

// plainWriter turns events into lines.
type plainWriter struct {
	out      io.Writer
	options  ProgressOptions
	outline  *outline
	reported map[string]plainReport // by what moves
}

// newPlainWriter makes a writer for the events of a run from its first on.
func newPlainWriter(out io.Writer, o ProgressOptions) *plainWriter {
	return &plainWriter{out: out, options: o, outline: &outline{}, reported: map[string]plainReport{}}
}

// interrupted says what the nth interrupt does, and has it done.
func (w *plainWriter) interrupted(n int) error {
	_, err := fmt.Fprintln(w.out, interruptNotice(n))
	w.options.OnInterrupt(n)
	return err
}

// finish writes what there is to say after the last event.
func (w *plainWriter) finish() error {
	_, err := io.WriteString(w.out, w.outline.summary(plainStyle(), w.options.LogCommand))
	return err
}

// plainReport is when and how far a transfer was last reported.
type plainReport struct {
	at      time.Time
	percent int
}

// event writes the line of e, if it has one.
func (w *plainWriter) event(e event.Event) error {
	e = terminalEvent(e)
	w.outline.apply(e)
	line := w.line(e)
	if line == "" {
		return nil
	}
	_, err := fmt.Fprintf(w.out, "%s %s\n", e.Time.In(w.options.Location).Format(time.TimeOnly), line)
	return err
}

// line is what the log says of e.
func (w *plainWriter) line(e event.Event) string {
	switch e.Kind {
	case event.RunStarted:
		return strings.TrimSpace("run " + e.Run + " started: " + e.Text)
	case event.RunFinished:
		return fmt.Sprintf("run %s ended: %s", e.Run, e.State)
	case event.PhaseStarted:
		return fmt.Sprintf("[%s] started", e.Phase)
	case event.PhaseFinished:
		return fmt.Sprintf("[%s] %s", e.Phase, ending(e))
	case event.StepStarted:
		return fmt.Sprintf("[%s] started", w.outline.stepLabel(e.Step, e.StepName))
	case event.StepFinished:
		return fmt.Sprintf("[%s] %s", w.outline.label(w.outline.step(e)), ending(e))
	case event.StepCached:
		return fmt.Sprintf("[%s] %s", w.outline.stepLabel(e.Step, e.StepName), e.Text)
	case event.Output:
		if p := w.outline.source(e); p != nil {
			return fmt.Sprintf("[%s] %s", w.outline.label(p), e.Text)
		}
		return e.Text
	case event.Progress:
		return w.progress(e)
	case event.Decision:
		return "decision: " + e.Text
	case event.Warning:
		if e.Target != "" {
			return fmt.Sprintf("warning: %s (%s)", e.Text, e.Target)
		}
		return "warning: " + e.Text
	case event.Info:
		return e.Text
	case event.Topology:
		return "" // network show draws it
	case event.Connection:
		return fmt.Sprintf("outside connection %s %s: %d bytes sent, %d received", e.Target, e.Text, e.Done, e.Total)
	case event.Result:
		name := strings.TrimSpace(e.Text + " " + e.Target)
		if e.Err != nil {
			return fmt.Sprintf("output failed: %s: %s", name, e.Err.Message)
		}
		return "result: " + name
	}
	return strings.TrimSpace(string(e.Kind) + " " + e.Text)
}

// ending is how a phase or step ended.
func ending(e event.Event) string {
	if e.Err != nil {
		return fmt.Sprintf("failed after %s: %s", Elapsed(e.Elapsed), e.Err.Message)
	}
	return "done in " + Elapsed(e.Elapsed)
}

// progress is the line of a Progress event, "" while it is too early for one.
func (w *plainWriter) progress(e event.Event) string {
	t := w.outline.moved
	percent := t.percent()
	last, seen := w.reported[t.name]
	switch {
	case !seen, percent < last.percent: // new, or started again
	case t.complete() && last.percent < 100:
	case percent >= last.percent+plainProgressPercent:
	case !t.complete() && e.Time.Sub(last.at) >= plainProgressPeriod:
	default:
		return ""
	}
	if !t.complete() {
		percent -= percent % plainProgressPercent // report at whole tens
	}
	w.reported[t.name] = plainReport{at: e.Time, percent: percent}
	return t.name + ": " + t.figures()
}
