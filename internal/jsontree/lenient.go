package jsontree

import (
	"bytes"
	"unicode/utf8"
)

// Strict rewrites a text in the looser JSON that Azure Resource Manager reads
// into JSON. Beyond JSON it accepts comments, unquoted keys, single quotes,
// line breaks in strings, and a comma before a closing bracket. What is wrong
// otherwise stays as it is, for Parse to refuse: the result need not be JSON.
func Strict(text []byte) []byte {
	s := stricter{in: bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))}
	s.out = make([]byte, 0, len(s.in)+len(s.in)/16)
	for s.pos < len(s.in) {
		s.next()
	}
	return s.out
}

type stricter struct {
	in, out []byte
	pos     int
}

// next copies one token.
func (s *stricter) next() {
	switch c := s.in[s.pos]; {
	case c == '"' || c == '\'':
		s.quoted(c)
	case c == '/' && s.at(1) == '/':
		s.skipTo([]byte("\n"), 0)
	case c == '/' && s.at(1) == '*':
		s.skipTo([]byte("*/"), 2)
	case isWord(c):
		s.word()
	case c == ',':
		s.comma()
	default:
		s.out = append(s.out, c)
		s.pos++
	}
}

func (s *stricter) at(ahead int) byte {
	if s.pos+ahead < len(s.in) {
		return s.in[s.pos+ahead]
	}
	return 0
}

// skipTo leaves out what stands before end, and length bytes of end. Line breaks
// stay, so that later errors name the right line.
func (s *stricter) skipTo(end []byte, length int) {
	n := bytes.Index(s.in[s.pos+length:], end)
	stop := len(s.in)
	if n >= 0 {
		stop = s.pos + length + n + length
	} else if length > 0 { // a comment without an end is refused
		s.out = append(s.out, s.in[s.pos:]...)
		s.pos = stop
		return
	}
	for ; s.pos < stop; s.pos++ {
		if s.in[s.pos] == '\n' {
			s.out = append(s.out, '\n')
		}
	}
}

// quoted copies a string with double quotes, escaping what a strict one must.
func (s *stricter) quoted(quote byte) {
	s.out = append(s.out, '"')
	for s.pos++; s.pos < len(s.in); s.pos++ {
		switch c := s.in[s.pos]; {
		case c == quote:
			s.out = append(s.out, '"')
			s.pos++
			return
		case c == '\\' && s.at(1) == '\'':
			s.out = append(s.out, '\'')
			s.pos++
		case c == '\\' && s.pos+1 < len(s.in):
			s.out = append(s.out, c, s.in[s.pos+1])
			s.pos++
		case c == '"':
			s.out = append(s.out, '\\', '"')
		case c < 0x20:
			const hex = "0123456789abcdef"
			s.out = append(s.out, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			s.out = append(s.out, c)
		}
	}
}

// word copies a bare word, in quotes when it is a key.
func (s *stricter) word() {
	start := s.pos
	for s.pos < len(s.in) && (isWord(s.in[s.pos]) || isDigit(s.in[s.pos])) {
		s.pos++
	}
	word := s.in[start:s.pos]
	if !s.afterKeyPlace() || s.peek() != ':' {
		s.out = append(s.out, word...)
		return
	}
	s.out = append(s.out, '"')
	s.out = append(s.out, word...)
	s.out = append(s.out, '"')
}

// afterKeyPlace reports whether what was written ends where a key may begin.
func (s *stricter) afterKeyPlace() bool {
	before := bytes.TrimRight(s.out, " \t\r\n")
	return len(before) > 0 && (before[len(before)-1] == '{' || before[len(before)-1] == ',')
}

// comma leaves out a comma that only a closing bracket follows.
func (s *stricter) comma() {
	s.pos++
	if next := s.peek(); next == '}' || next == ']' {
		return
	}
	s.out = append(s.out, ',')
}

// peek is the next byte that is neither blank nor comment, 0 at the end.
func (s *stricter) peek() byte {
	ahead := stricter{in: s.in, pos: s.pos}
	for ahead.pos < len(ahead.in) {
		switch c := ahead.in[ahead.pos]; {
		case c == ' ' || c == '\t' || c == '\r' || c == '\n':
			ahead.pos++
		case c == '/' && (ahead.at(1) == '/' || ahead.at(1) == '*'):
			before := ahead.pos
			ahead.next()
			ahead.out = ahead.out[:0]
			if ahead.pos == before {
				return c
			}
		default:
			return c
		}
	}
	return 0
}

func isWord(c byte) bool {
	return c == '_' || c == '$' || c >= utf8.RuneSelf || ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z')
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
