package cli

import (
	"slices"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"goldsmith/internal/event"
)

const (
	viewOutput    = 5  // last lines of output shown of what runs
	viewTransfers = 4  // transfers shown at once
	viewName      = 44 // widest column of names
	viewBar       = 24 // widest progress bar
	viewElapsed   = 9  // room for an elapsed time and the gap before it
)

// spinner is what runs, frame by frame.
var spinner = []string{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"}

// liveView draws an outline. It is the model of a bubbletea program.
type liveView struct {
	outline       *outline
	style         style
	width, height int // of the terminal
	now           time.Time
	frame         int
	notice        string // what an interrupt has started
	over          bool   // draw nothing any more
}

// newLiveView makes the view of o for a terminal of the usual size.
func newLiveView(o *outline, s style) *liveView {
	return &liveView{outline: o, style: s, width: 80, height: 24}
}

// tick moves the clock and the spinner on.
func (v *liveView) tick(now time.Time) {
	v.now = now
	v.frame++
}

// The weights of lines: where the terminal is too low, the lightest go first,
// and of the same weight the oldest.
const (
	weighInfo = iota
	weighDecision
	weighDone
	weighWarning
	weighOutput
	weighTransfer
	weighFailed
	weighHead
	weighRunning
	weighNotice
)

// viewLine is a line of the view.
type viewLine struct {
	text   string
	weight int
}

// lines is the view: at most one line less than the terminal is high, each at
// most as wide as it.
func (v *liveView) lines() []string {
	if v.over || v.outline.run == "" && len(v.outline.phases) == 0 {
		return nil
	}
	lines := v.notes()
	lines = append(lines, v.head())
	for _, p := range v.outline.phases {
		lines = append(lines, v.part(p)...)
	}
	if v.notice != "" {
		lines = append(lines, viewLine{v.style.warn.Render(v.notice), weighNotice})
	}
	for len(lines) > max(1, v.height-1) {
		lightest := 0
		for i, l := range lines {
			if l.weight < lines[lightest].weight {
				lightest = i
			}
		}
		lines = slices.Delete(lines, lightest, lightest+1)
	}
	texts := make([]string, len(lines))
	for i, l := range lines {
		texts[i] = fit(l.text, v.width)
	}
	return texts
}

// notes are the decisions, warnings and informations.
func (v *liveView) notes() []viewLine {
	weights := map[event.Kind]int{event.Warning: weighWarning, event.Decision: weighDecision, event.Info: weighInfo}
	var lines []viewLine
	for _, n := range v.outline.notes {
		lines = append(lines, viewLine{v.style.note(n), weights[n.Kind]})
	}
	return lines
}

// head says what is built and for how long.
func (v *liveView) head() viewLine {
	o := v.outline
	name := o.template
	if name == "" {
		name = "run"
	}
	elapsed := Elapsed(v.clock().Sub(o.started))
	return viewLine{v.style.strong.Render(name) + "  " + elapsed + v.style.faint.Render("  "+o.run), weighHead}
}

// clock is the time that elapsed times count to: the frame's, unless the events
// are ahead of it.
func (v *liveView) clock() time.Time {
	if v.outline.now.After(v.now) {
		return v.outline.now
	}
	return v.now
}

// part is a phase with its steps, or a step, and under it what it shows while
// it runs.
func (v *liveView) part(p *part) []viewLine {
	o := v.outline
	indent, name := " ", p.name
	if p.step > 0 {
		indent, name = "   ", o.stepLabel(p.step, p.name)
	}
	lines := []viewLine{v.partLine(p, indent, name)}
	for _, step := range o.stepsOf(p) {
		lines = append(lines, v.part(step)...)
	}
	if p.ended {
		return lines
	}
	for _, line := range p.output[max(0, len(p.output)-viewOutput):] {
		lines = append(lines, viewLine{indent + "  " + v.style.faint.Render("│ "+line), weighOutput})
	}
	if p.step == 0 && p == o.running() {
		for _, t := range o.transfers[max(0, len(o.transfers)-viewTransfers):] {
			lines = append(lines, viewLine{indent + "  " + v.transfer(t), weighTransfer})
		}
	}
	return lines
}

// partLine is the line of p itself.
func (v *liveView) partLine(p *part, indent, name string) viewLine {
	mark, weight := v.style.running.Render(spinner[v.frame%len(spinner)]), weighRunning
	if p.ended {
		mark, weight = v.style.mark(p), weighDone
	}
	if p.err != nil {
		weight = weighFailed
	}
	// The elapsed times stand in one column, whatever the indent.
	column := max(1, min(viewName, v.width-viewElapsed)-len(indent)-2)
	took := Elapsed(p.elapsedAt(v.clock()))
	if p.cached != "" {
		took = "cached"
	}
	return viewLine{indent + mark + " " + pad(fit(name, column), column) + "  " + took, weight}
}

// transfer is the line of t: its name, a bar where the total is known, and the
// figures.
func (v *liveView) transfer(t *transfer) string {
	const gaps = 10 // columns between and around the three
	figures := t.figures()
	room := v.width - lipgloss.Width(figures) - gaps
	name := fit(t.name, max(8, min(viewName, room-viewBar/2)))
	width := min(viewBar, room-lipgloss.Width(name))
	if t.total <= 0 || width < 4 {
		return name + "  " + figures
	}
	full := width * t.percent() / 100
	bar := v.style.running.Render(strings.Repeat("█", full)) + v.style.faint.Render(strings.Repeat("░", width-full))
	return name + "  " + bar + "  " + figures
}

// pad fills s up to width columns.
func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-lipgloss.Width(s)))
}
