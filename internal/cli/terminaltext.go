package cli

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"goldsmith/internal/event"
)

// maxTextBytes bounds one line that reaches the terminal, in bytes.
const maxTextBytes = 4096

// tabWidth is the distance of tab stops, in columns.
const tabWidth = 8

// terminalText makes one line of hostile text safe to write to a terminal:
// escape sequences and control characters are dropped, of text overwritten by
// carriage returns the last version stays, tabs become blanks, line feeds
// become a blank, invalid UTF-8 becomes U+FFFD, characters that reorder text
// are dropped (they can make a line read as something else), and a line above
// maxTextBytes ends in a mark that says how long it was.
func terminalText(s string) string {
	if isPlainText(s) {
		return s
	}
	whole := len(s)
	s = lastOverwrite(s)
	var b strings.Builder
	var esc escapes
	b.Grow(min(len(s), maxTextBytes))
	column := 0
	for i := 0; i < len(s); {
		if b.Len() >= maxTextBytes {
			return b.String() + "… (line of " + Bytes(int64(whole)) + ")"
		}
		if n := esc.length(s[i:]); n > 0 {
			i += n
			continue
		}
		r, size := utf8.DecodeRuneInString(s[i:])
		i += size
		switch {
		case r == '\t':
			n := tabWidth - column%tabWidth
			b.WriteString("        "[:n])
			column += n
		case r == '\n':
			b.WriteByte(' ')
			column++
		case unicode.IsControl(r), reorders(r):
		default:
			b.WriteRune(r)
			column++
		}
	}
	return b.String()
}

// isPlainText reports whether s is short printable ASCII, which nearly all
// output is.
func isPlainText(s string) bool {
	if len(s) > maxTextBytes {
		return false
	}
	for i := 0; i < len(s); i++ {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// lastOverwrite is what stays visible of a line that rewrites itself with
// carriage returns, as progress meters do.
func lastOverwrite(s string) string {
	s = strings.TrimRight(s, "\r\n")
	return s[strings.LastIndexByte(s, '\r')+1:]
}

// escapes recognises terminal escape sequences (ECMA-48) in one text.
type escapes struct {
	// unterminated is set once no string terminator is left ahead, so that a
	// text of nothing but openers is still read in linear time.
	unterminated bool
}

// length is the length in bytes of the escape sequence that s, the rest of the
// text, starts with; 0 for none. Of a control string (OSC, DCS, SOS, PM, APC)
// that never ends only the opener counts, so that it hides no text.
func (e *escapes) length(s string) int {
	var kind byte
	switch {
	case s[0] == 0x1b && len(s) == 1:
		return 1
	case s[0] == 0x1b:
		kind = s[1]
	case s[0] == 0xc2 && len(s) > 1 && s[1] >= 0x80 && s[1] <= 0x9f:
		kind = s[1] - 0x40 // a C1 control in UTF-8 means ESC and this byte
	default:
		return 0
	}
	switch {
	case kind == '[':
		return 2 + sequenceLength(s[2:], 0x20, 0x3f, 0x40)
	case strings.IndexByte("]PX^_", kind) >= 0:
		return 2 + e.stringLength(s[2:])
	case kind >= 0x20 && kind <= 0x2f:
		return 2 + sequenceLength(s[2:], 0x20, 0x2f, 0x30)
	case kind >= 0x30 && kind <= 0x7e:
		return 2
	}
	return 1 // a lone ESC before what is not part of a sequence
}

// sequenceLength is the length of bytes in low..high and of one byte in
// final..0x7e after them.
func sequenceLength(s string, low, high, final byte) int {
	n := 0
	for n < len(s) && s[n] >= low && s[n] <= high {
		n++
	}
	if n < len(s) && s[n] >= final && s[n] <= 0x7e {
		n++
	}
	return n
}

// stringLength is the length of a control string's body with its terminator
// (BEL, ESC \ or ST), 0 when it has none.
func (e *escapes) stringLength(s string) int {
	if e.unterminated {
		return 0
	}
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == 0x07:
			return i + 1
		case s[i] == 0x1b && i+1 < len(s) && s[i+1] == '\\':
			return i + 2
		case s[i] == 0xc2 && i+1 < len(s) && s[i+1] == 0x9c:
			return i + 2
		}
	}
	e.unterminated = true
	return 0
}

// reorders reports whether r changes the direction in which its neighbours are
// shown, or separates lines.
func reorders(r rune) bool {
	switch {
	case r >= 0x202a && r <= 0x202e, r >= 0x2066 && r <= 0x2069:
		return true
	case r == 0x200e, r == 0x200f, r == 0x061c, r == 0x2028, r == 0x2029, r == 0xfeff:
		return true
	}
	return false
}

// terminalLines is terminalText of every line of s, without empty lines.
func terminalLines(s string) []string {
	var lines []string
	for line := range strings.SplitSeq(s, "\n") {
		if line = strings.TrimRight(terminalText(line), " "); line != "" {
			lines = append(lines, line)
		}
	}
	return lines
}

// terminalEvent is e with every text in it safe for a terminal. Messages of
// failures become one line.
func terminalEvent(e event.Event) event.Event {
	e.Run = terminalText(e.Run)
	e.Kind = event.Kind(terminalText(string(e.Kind)))
	e.Phase = event.Phase(terminalText(string(e.Phase)))
	e.StepName = terminalText(e.StepName)
	e.Stream = terminalText(e.Stream)
	e.Text = terminalText(e.Text)
	e.Target = terminalText(e.Target)
	e.State = terminalText(e.State)
	if e.Err != nil {
		f := *e.Err
		f.Message = strings.Join(terminalLines(f.Message), "; ")
		f.Hint = strings.Join(terminalLines(f.Hint), " ")
		f.Target = terminalText(f.Target)
		e.Err = &f
	}
	return e
}
