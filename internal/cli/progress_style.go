package cli

import (
	"charm.land/lipgloss/v2"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
)

// style is how the parts of the progress views look. Colours are the
// terminal's own sixteen, so that they suit its theme; what cannot show them
// gets them stripped on output.
type style struct {
	done, failed, running, strong, faint, warn lipgloss.Style

	doneMark, failedMark, warnMark, noteMark string
}

// mark is the sign of an ended part.
func (s style) mark(p *part) string {
	switch {
	case p.err == nil:
		return s.done.Render(s.doneMark)
	case p.err.Code == arm.CodeCanceled:
		return s.warn.Render("-")
	}
	return s.failed.Render(s.failedMark)
}

// note is the line of a decision, warning or information.
func (s style) note(n event.Event) string {
	if n.Kind != event.Warning {
		return s.faint.Render(s.noteMark + " " + n.Text)
	}
	text := s.warnMark + " " + n.Text
	if n.Target != "" {
		text += " (" + n.Target + ")"
	}
	return s.warn.Render(text)
}

// plainStyle draws without colours or symbols, for logs and files.
func plainStyle() style {
	n := lipgloss.NewStyle()
	return style{
		done: n, failed: n, running: n, strong: n, faint: n, warn: n,
		doneMark: "ok", failedMark: "FAILED", warnMark: "warning:", noteMark: "decision:",
	}
}

// liveStyle draws for a terminal.
func liveStyle() style {
	n := lipgloss.NewStyle()
	return style{
		done:     n.Foreground(lipgloss.Green),
		failed:   n.Foreground(lipgloss.Red).Bold(true),
		running:  n.Foreground(lipgloss.Cyan),
		strong:   n.Bold(true),
		faint:    n.Faint(true),
		warn:     n.Foreground(lipgloss.Yellow),
		doneMark: "✓", failedMark: "✗", warnMark: "!", noteMark: "·",
	}
}

// fit cuts s to width columns, with an ellipsis for what is cut off.
func fit(s string, width int) string {
	switch {
	case width <= 0:
		return ""
	case lipgloss.Width(s) <= width:
		return s
	case width == 1: // MaxWidth(0) would mean no limit
		return "…"
	}
	return lipgloss.NewStyle().Inline(true).MaxWidth(width-1).Render(s) + "…"
}
