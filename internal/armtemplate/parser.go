package armtemplate

import "strconv"

// expr is a node of a parsed expression: a constant, a call or an access.
type expr interface{ offset() int }

type constant struct {
	v  value
	at int
}

// call is a function with its arguments; name may be "namespace.function".
type call struct {
	name string
	args []expr
	at   int
}

// access is of.name, of['name'] or of[index].
type access struct {
	of    expr
	index expr
	at    int
}

func (c constant) offset() int { return c.at }
func (c *call) offset() int    { return c.at }
func (a *access) offset() int  { return a.at }

// parse reads an expression with its brackets.
func parse(s string) (expr, error) {
	if len(s) > maxExpression {
		return nil, syntax(0, "it has %d characters; at most %d are read", len(s), maxExpression)
	}
	tokens, err := lex(s[1 : len(s)-1])
	if err != nil {
		return nil, err
	}
	p := parser{tokens: tokens}
	x, err := p.expression(0)
	if err != nil {
		return nil, err
	}
	if t := p.peek(); t.kind != tokenEnd {
		return nil, syntax(t.at, "'%s' is more than an expression", t.text)
	}
	return x, nil
}

type parser struct {
	tokens []token
	pos    int
}

func (p *parser) peek() token { return p.tokens[p.pos] }

func (p *parser) next() token {
	t := p.tokens[p.pos]
	if t.kind != tokenEnd {
		p.pos++
	}
	return t
}

func (p *parser) mark(m string) bool {
	if t := p.peek(); t.kind == tokenMark && t.text == m {
		p.pos++
		return true
	}
	return false
}

// expression is a constant or a call with the accesses behind it.
func (p *parser) expression(depth int) (expr, error) {
	if depth > maxDepth {
		return nil, syntax(p.peek().at, "it is nested deeper than %d levels", maxDepth)
	}
	var x expr
	switch t := p.next(); t.kind {
	case tokenText:
		x = constant{text(t.text), t.at}
	case tokenNumber:
		n, err := strconv.ParseInt(t.text, 10, 64)
		if err != nil {
			return nil, syntax(t.at, "'%s' is not a number of 64 bits", t.text)
		}
		x = constant{number(n), t.at}
	case tokenName:
		c, err := p.call(t, depth)
		if err != nil {
			return nil, err
		}
		x = c
	case tokenEnd:
		return nil, syntax(t.at, "a value is missing")
	default:
		return nil, syntax(t.at, "'%s' stands where a value is expected", t.text)
	}
	// Each access nests the tree one deeper, as a call does.
	for ; ; depth++ {
		at := p.peek().at
		switch {
		case depth > maxDepth:
			return nil, syntax(at, "it is nested deeper than %d levels", maxDepth)
		case p.mark("."):
			t := p.next()
			if t.kind != tokenName {
				return nil, syntax(t.at, "the name of a property is expected after the dot")
			}
			x = &access{x, constant{text(t.text), t.at}, at}
		case p.mark("["):
			i, err := p.expression(depth + 1)
			if err != nil {
				return nil, err
			}
			if !p.mark("]") {
				return nil, syntax(p.peek().at, "a closing bracket is missing")
			}
			x = &access{x, i, at}
		default:
			return x, nil
		}
	}
}

func (p *parser) call(name token, depth int) (expr, error) {
	c := &call{name: name.text, at: name.at}
	if p.mark(".") { // a function of the template, in its namespace
		t := p.next()
		if t.kind != tokenName {
			return nil, syntax(t.at, "the name of a function is expected after the dot")
		}
		c.name += "." + t.text
	}
	if !p.mark("(") {
		return nil, syntax(name.at, "'%s' must be followed by its arguments in parentheses: only functions have names", c.name)
	}
	if p.mark(")") {
		return c, nil
	}
	for {
		x, err := p.expression(depth + 1)
		if err != nil {
			return nil, err
		}
		c.args = append(c.args, x)
		if p.mark(")") {
			return c, nil
		}
		if !p.mark(",") {
			return nil, syntax(p.peek().at, "a comma or a closing parenthesis is missing in the arguments of '%s'", c.name)
		}
	}
}
