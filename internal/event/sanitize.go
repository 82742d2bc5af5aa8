package event

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// Sanitize makes text of unknown origin safe to print on a terminal: terminal
// escape sequences and control characters other than tab and newline are
// removed, and invalid UTF-8 becomes U+FFFD. Plain text is returned as it is.
func Sanitize(s string) string {
	if isPlain(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for s != "" {
		if skip := escapeLength(s); skip > 0 {
			s = s[skip:]
			continue
		}
		r, size := utf8.DecodeRuneInString(s)
		s = s[size:]
		if r == '\t' || r == '\n' || !(unicode.IsControl(r) || isDirection(r)) {
			b.WriteRune(r) // writes U+FFFD for an invalid byte
		}
	}
	return b.String()
}

func isPlain(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < ' ' && c != '\t' && c != '\n') || c >= 0x7f {
			return utf8.ValidString(s) && strings.IndexFunc(s, func(r rune) bool {
				return (unicode.IsControl(r) && r != '\t' && r != '\n') || isDirection(r)
			}) < 0
		}
	}
	return true
}

// isDirection reports the characters that reorder text on a screen, by which a
// line can show something else than it holds.
func isDirection(r rune) bool {
	return (r >= 0x202a && r <= 0x202e) || (r >= 0x2066 && r <= 0x2069)
}

// escapeLength is the length of the terminal escape sequence (ECMA-48) at the
// start of s, 0 for none. An unfinished one reaches to the end of s.
func escapeLength(s string) int {
	kind, start := byte(0), 0
	switch {
	case strings.HasPrefix(s, "\x1b"):
		if len(s) == 1 {
			return 1
		}
		kind, start = s[1], 2
	case strings.HasPrefix(s, "\u009b"): // the C1 form of ESC [
		kind, start = '[', 2
	case strings.HasPrefix(s, "\u009d"), strings.HasPrefix(s, "\u0090"): // of ESC ] and ESC P
		kind, start = ']', 2
	default:
		return 0
	}
	switch {
	case kind == '[': // control sequence: parameters, then one final byte
		for i := start; i < len(s); i++ {
			if s[i] >= 0x40 && s[i] <= 0x7e {
				return i + 1
			}
			if s[i] < 0x20 || s[i] > 0x7e {
				return i // broken off
			}
		}
		return len(s)
	case strings.IndexByte("]P_^X", kind) >= 0: // a string up to BEL or ST
		for i := start; i < len(s); i++ {
			switch {
			case s[i] == '\a':
				return i + 1
			case s[i] == '\n':
				return i // no terminal string holds one; do not swallow the rest
			case strings.HasPrefix(s[i:], "\x1b\\"), strings.HasPrefix(s[i:], "\u009c"):
				return i + 2
			}
		}
		return len(s)
	case kind >= 0x20 && kind <= 0x2f: // intermediates, then one final byte
		for i := start; i < len(s); i++ {
			if s[i] >= 0x30 && s[i] <= 0x7e {
				return i + 1
			}
			if s[i] < 0x20 || s[i] > 0x7e {
				return i
			}
		}
		return len(s)
	case kind >= 0x30 && kind <= 0x7e:
		return 2
	}
	return 1
}
