package cli

import (
	"fmt"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
	"goldsmith/internal/run"
)

// summary is what is left to read when the run has ended (or its events have):
// the time of every phase and step, the results, and for a failure the step
// that failed, its last output, the likely cause and where the full log is.
func (o *outline) summary(s style, logCommand func(run string) string) string {
	if o.run == "" && len(o.phases) == 0 {
		return ""
	}
	var b strings.Builder
	o.writeTimes(&b, s)
	o.writeResults(&b, s)
	state := run.State("")
	if o.finished != nil {
		state = run.State(o.finished.State)
	}
	took := Elapsed(o.total())
	switch state {
	case run.Succeeded:
		fmt.Fprintf(&b, "%s\n", s.done.Render("succeeded in "+took))
		return b.String()
	case run.PartiallySucceeded:
		o.writePartial(&b, s, took)
	case run.Canceled:
		fmt.Fprintf(&b, "%s\n", s.warn.Render("canceled after "+took))
	case "":
		if o.refused() {
			fmt.Fprintf(&b, "%s\n", s.failed.Render("not submitted: no run was made"))
			return b.String()
		}
		fmt.Fprintf(&b, "%s\n", s.warn.Render("the events end here, after "+took+", before the run does"))
	default:
		o.writeFailure(&b, s, strings.ToLower(string(state))+" after "+took)
	}
	if o.run != "" {
		fmt.Fprintf(&b, "full log: %s\n", s.strong.Render(logCommand(o.run)))
	}
	return b.String()
}

// refused says that the submission failed, so that there is no run to look at.
func (o *outline) refused() bool {
	return len(o.phases) == 1 && o.phases[0].phase == event.PhaseSubmit && o.phases[0].err != nil
}

// remarks are the decisions and warnings of the run, a line each.
func (o *outline) remarks(s style) string {
	var b strings.Builder
	for _, n := range o.notes {
		if n.Kind != event.Info {
			b.WriteString(s.note(n) + "\n")
		}
	}
	return b.String()
}

// writeTimes writes the table of phases and steps.
func (o *outline) writeTimes(b *strings.Builder, s style) {
	var lines [][]string
	add := func(indent string, p *part, name string) {
		mark, note := s.mark(p), ""
		switch {
		case !p.ended:
			mark, note = "-", " (not finished)"
		case p.err != nil && p.err.Code == arm.CodeCanceled:
			note = " (canceled)"
		}
		took := Elapsed(p.elapsedAt(o.now))
		if p.cached != "" {
			took = p.cached
		}
		lines = append(lines, []string{"  " + mark, indent + name, took + note})
	}
	if len(o.phases) > 0 {
		b.WriteString("phases and steps\n")
	}
	for _, p := range o.phases {
		add("", p, p.name)
		for _, step := range o.stepsOf(p) {
			add("  ", step, o.stepLabel(step.step, step.name))
		}
	}
	b.WriteString(alignColumns(lines))
}

// writeResults writes what the run made.
func (o *outline) writeResults(b *strings.Builder, s style) {
	var lines [][]string
	for _, r := range o.results {
		if r.Err == nil {
			lines = append(lines, []string{"  " + s.done.Render(s.doneMark), r.Text, r.Target})
		}
	}
	if len(lines) > 0 {
		b.WriteString("results\n" + alignColumns(lines))
	}
}

// writePartial writes the outputs that failed.
func (o *outline) writePartial(b *strings.Builder, s style, took string) {
	failed := 0
	var lines strings.Builder
	for _, r := range o.results {
		if r.Err == nil {
			continue
		}
		failed++
		name := strings.TrimSpace(r.Text + " " + r.Target)
		fmt.Fprintf(&lines, "  %s %s: %s\n", s.failed.Render(s.failedMark), name, r.Err.Message)
		if r.Err.Hint != "" {
			fmt.Fprintf(&lines, "    likely cause: %s\n", r.Err.Hint)
		}
	}
	head := fmt.Sprintf("partially succeeded after %s: %s failed", took, plural(failed, "output"))
	if failed == 0 {
		head = "partially succeeded after " + took
		if f := o.finished.Err; f != nil {
			head += ": " + f.Message
		}
	}
	fmt.Fprintf(b, "%s\n%s", s.failed.Render(head), lines.String())
}

// writeFailure writes why the run failed.
func (o *outline) writeFailure(b *strings.Builder, s style, head string) {
	p := o.culprit()
	if p != nil && len(p.output) > 0 {
		fmt.Fprintf(b, "last output of %s\n", o.label(p))
		for _, line := range p.output {
			fmt.Fprintf(b, "  %s %s\n", s.faint.Render("|"), line)
		}
	}
	if p != nil && p.step > 0 {
		head += " in step " + o.label(p)
	} else if p != nil {
		head += " in phase " + o.label(p)
	}
	final := o.finished.Err
	if final == nil && p != nil {
		final = p.err
	}
	if final != nil && final.Message != "" {
		head += ": " + final.Message
	}
	fmt.Fprintf(b, "%s\n", s.failed.Render(head))
	if hint := o.hint(p); hint != "" {
		fmt.Fprintf(b, "likely cause: %s\n", hint)
	}
}

// hint is the likely cause: the run's own word on it, else the failed part's.
func (o *outline) hint(p *part) string {
	for _, f := range []*event.Failure{o.finished.Err, failureOf(p)} {
		if f != nil && f.Hint != "" {
			return f.Hint
		}
	}
	return ""
}

// failureOf is p's failure, nil without one.
func failureOf(p *part) *event.Failure {
	if p == nil {
		return nil
	}
	return p.err
}
