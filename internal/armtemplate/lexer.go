package armtemplate

import (
	"strings"

	"goldsmith/internal/arm"
)

// tokenKind is what a token is.
type tokenKind int

const (
	tokenEnd tokenKind = iota
	tokenName
	tokenText
	tokenNumber
	tokenMark // one of ( ) [ ] , .
)

type token struct {
	kind tokenKind
	text string
	at   int // byte in the expression, from 0
}

// IsExpression reports whether a string of a template is an expression: it stands
// in square brackets, and does not begin with two.
func IsExpression(s string) bool {
	return len(s) >= 2 && s[0] == '[' && s[len(s)-1] == ']' && s[1] != '['
}

// literal is a string that is no expression: "[[" at its beginning stands for "[".
func literal(s string) string {
	if strings.HasPrefix(s, "[[") && strings.HasSuffix(s, "]") {
		return s[1:]
	}
	return s
}

// lex splits what stands between the brackets of an expression.
func lex(s string) ([]token, error) {
	var out []token
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case strings.IndexByte("()[],.", c) >= 0:
			out = append(out, token{tokenMark, s[i : i+1], i})
			i++
		case c == '\'':
			t, next, err := lexText(s, i)
			if err != nil {
				return nil, err
			}
			out = append(out, t)
			i = next
		case isLetter(c):
			start := i
			for i < len(s) && (isLetter(s[i]) || isDigit(s[i])) {
				i++
			}
			out = append(out, token{tokenName, s[start:i], start})
		case isDigit(c) || ((c == '-' || c == '+') && i+1 < len(s) && isDigit(s[i+1])):
			start := i
			for i++; i < len(s) && isDigit(s[i]); i++ {
			}
			out = append(out, token{tokenNumber, strings.TrimPrefix(s[start:i], "+"), start})
		default:
			return nil, syntax(i, "the character %q is not part of the language", rune(c))
		}
	}
	return append(out, token{tokenEnd, "", len(s)}), nil
}

// lexText reads a string in single quotes, in which two stand for one.
func lexText(s string, start int) (token, int, error) {
	var b strings.Builder
	for i := start + 1; i < len(s); i++ {
		if s[i] != '\'' {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == '\'' {
			b.WriteByte('\'')
			i++
			continue
		}
		return token{tokenText, b.String(), start}, i + 1, nil
	}
	return token{}, 0, syntax(start, "the string that begins here has no closing quote")
}

func isLetter(c byte) bool {
	return c == '_' || c == '$' || ('a' <= c && c <= 'z') || ('A' <= c && c <= 'Z')
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// syntax is the error of an expression that does not parse, at a byte of it.
func syntax(at int, format string, args ...any) error {
	e := arm.Errorf(CodeInvalid, format, args...)
	return arm.Errorf(CodeInvalid, "the language expression does not parse at character %d: %s", at+2, e.Message)
}
