// Package filter reads the $filter expressions that clients send: comparisons of
// names with literals, and functions, joined by "and", "or" and parentheses
// (OData 4, 5.1.1).
package filter

import (
	"strings"
	"unicode"

	"goldsmith/internal/arm"
)

// Limits of an expression, which comes from a client.
const (
	maxBytes = 8192
	maxDepth = 32
)

// Expr is an expression. The zero Expr is true.
type Expr struct {
	op    string // "and", "or", "not", "eq", "ne", "call", "" for true
	left  *Expr
	right *Expr
	Term  Term
}

// Term is a comparison "name eq 'value'" or a call "name('value', ...)".
type Term struct {
	Name string   // as written, "tags/a" or "atScope"
	Call bool     // name(args)
	Args []string // literals of a call, or the one that is compared with
}

// Parse reads an expression; "" is true. The error is CodeValidationFailed.
func Parse(text string) (Expr, error) {
	if strings.TrimSpace(text) == "" {
		return Expr{}, nil
	}
	if len(text) > maxBytes {
		return Expr{}, arm.Errorf(arm.CodeValidationFailed, "the $filter has %d bytes; at most %d are read", len(text), maxBytes).At("$filter")
	}
	p := parser{rest: text, whole: text}
	e, err := p.or(0)
	if err == nil && p.space() && p.rest != "" {
		err = p.bad("'and', 'or' or the end is expected")
	}
	return e, err
}

// Match evaluates the expression. holds decides each term; for a "ne" it is asked
// about the "eq". Its error ends the evaluation.
func (e Expr) Match(holds func(Term) (bool, error)) (bool, error) {
	switch e.op {
	case "":
		return true, nil
	case "and", "or":
		ok, err := e.left.Match(holds)
		if err != nil || ok == (e.op == "or") {
			return ok, err
		}
		return e.right.Match(holds)
	case "not":
		ok, err := e.left.Match(holds)
		return !ok, err
	}
	ok, err := holds(e.Term)
	return ok != (e.op == "ne"), err
}

// Terms are all terms of the expression.
func (e Expr) Terms() []Term {
	switch e.op {
	case "":
		return nil
	case "and", "or":
		return append(e.left.Terms(), e.right.Terms()...)
	case "not":
		return e.left.Terms()
	}
	return []Term{e.Term}
}

// Required is the value that "name eq" must have for the expression to hold, ""
// when it need not have any.
func (e Expr) Required(name string) string {
	switch e.op {
	case "and":
		if v := e.left.Required(name); v != "" {
			return v
		}
		return e.right.Required(name)
	case "eq":
		if strings.EqualFold(e.Term.Name, name) {
			return e.Term.Args[0]
		}
	}
	return ""
}

// Unknown is the error of a term that a list does not know.
func Unknown(t Term) error {
	return arm.Errorf(arm.CodeValidationFailed, "the $filter cannot ask for '%s' here", t.Name).At("$filter")
}

type parser struct{ rest, whole string }

func (p *parser) bad(what string) error {
	return arm.Errorf(arm.CodeValidationFailed, "the $filter is not understood at character %d: %s", len(p.whole)-len(p.rest)+1, what).At("$filter")
}

// space skips blanks; it is true, for use in conditions.
func (p *parser) space() bool {
	p.rest = strings.TrimLeftFunc(p.rest, unicode.IsSpace)
	return true
}

// word reads a keyword if it comes next, in any case.
func (p *parser) word(w string) bool {
	p.space()
	if len(p.rest) < len(w) || !strings.EqualFold(p.rest[:len(w)], w) || (len(p.rest) > len(w) && isName(rune(p.rest[len(w)]))) {
		return false
	}
	p.rest = p.rest[len(w):]
	return true
}

func (p *parser) or(depth int) (Expr, error) {
	return p.chain("or", depth, func() (Expr, error) {
		return p.chain("and", depth, func() (Expr, error) { return p.unary(depth) })
	})
}

func (p *parser) chain(op string, depth int, next func() (Expr, error)) (Expr, error) {
	left, err := next()
	for err == nil && p.word(op) {
		var right Expr
		if right, err = next(); err == nil {
			l := left
			left = Expr{op: op, left: &l, right: &right}
		}
	}
	return left, err
}

func (p *parser) unary(depth int) (Expr, error) {
	if depth > maxDepth {
		return Expr{}, p.bad("it is nested too deep")
	}
	if p.word("not") {
		e, err := p.unary(depth + 1)
		return Expr{op: "not", left: &e}, err
	}
	if p.space(); strings.HasPrefix(p.rest, "(") {
		p.rest = p.rest[1:]
		e, err := p.or(depth + 1)
		if err != nil {
			return e, err
		}
		if p.space(); !strings.HasPrefix(p.rest, ")") {
			return e, p.bad("')' is expected")
		}
		p.rest = p.rest[1:]
		return e, nil
	}
	return p.term()
}

func (p *parser) term() (Expr, error) {
	n := strings.IndexFunc(p.rest, func(r rune) bool { return !isName(r) })
	if n < 0 {
		n = len(p.rest)
	}
	if n == 0 {
		return Expr{}, p.bad("a name is expected")
	}
	t := Term{Name: p.rest[:n]}
	p.rest = p.rest[n:]
	if strings.HasPrefix(p.rest, "(") {
		t.Call = true
		p.rest = p.rest[1:]
		err := p.args(&t)
		// "startswith(a, 'b') eq true" is how some write a call.
		if err == nil && p.word("eq") && !p.word("true") {
			err = p.bad("'true' is expected")
		}
		return Expr{op: "call", Term: t}, err
	}
	op := ""
	for _, o := range []string{"eq", "ne"} {
		if p.word(o) {
			op = o
		}
	}
	if op == "" {
		return Expr{}, p.bad("'eq' or 'ne' is expected")
	}
	p.space()
	v, err := p.literal()
	t.Args = []string{v}
	return Expr{op: op, Term: t}, err
}

func (p *parser) args(t *Term) error {
	for p.space(); !strings.HasPrefix(p.rest, ")"); p.space() {
		if len(t.Args) > 0 {
			if !strings.HasPrefix(p.rest, ",") {
				return p.bad("',' or ')' is expected")
			}
			p.rest = p.rest[1:]
			p.space()
		}
		v, err := p.literal()
		if err != nil {
			return err
		}
		t.Args = append(t.Args, v)
	}
	p.rest = p.rest[1:]
	return nil
}

// literal is a string in single quotes, in which a quote is written twice, or a
// bare word.
func (p *parser) literal() (string, error) {
	if !strings.HasPrefix(p.rest, "'") {
		n := strings.IndexFunc(p.rest, func(r rune) bool { return !isName(r) })
		if n < 0 {
			n = len(p.rest)
		}
		if n == 0 {
			return "", p.bad("a value in quotes is expected")
		}
		v := p.rest[:n]
		p.rest = p.rest[n:]
		return v, nil
	}
	var b strings.Builder
	for rest := p.rest[1:]; ; {
		i := strings.IndexByte(rest, '\'')
		if i < 0 {
			return "", p.bad("the closing quote is missing")
		}
		b.WriteString(rest[:i])
		rest = rest[i+1:]
		if !strings.HasPrefix(rest, "'") {
			p.rest = rest
			return b.String(), nil
		}
		b.WriteByte('\'')
		rest = rest[1:]
	}
}

func isName(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("_-./", r)
}
