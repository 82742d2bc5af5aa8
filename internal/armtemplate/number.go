package armtemplate

import (
	"math"
	"strconv"
	"strings"

	"goldsmith/internal/jsontree"
)

func init() {
	register(map[string]function{
		"add":             {2, 2, ofNumbers(add)},
		"sub":             {2, 2, ofNumbers(sub)},
		"mul":             {2, 2, ofNumbers(mul)},
		"div":             {2, 2, (*arguments).div},
		"mod":             {2, 2, (*arguments).mod},
		"min":             {1, -1, extreme(func(a, b int64) bool { return a < b })},
		"max":             {1, -1, extreme(func(a, b int64) bool { return a > b })},
		"int":             {1, 1, (*arguments).integer},
		"float":           {1, 1, (*arguments).float},
		"bool":            {1, 1, (*arguments).toBoolean},
		"range":           {2, 2, (*arguments).span},
		"equals":          {2, 2, (*arguments).equals},
		"less":            {2, 2, order(func(c int) bool { return c < 0 })},
		"lessOrEquals":    {2, 2, order(func(c int) bool { return c <= 0 })},
		"greater":         {2, 2, order(func(c int) bool { return c > 0 })},
		"greaterOrEquals": {2, 2, order(func(c int) bool { return c >= 0 })},
		"not":             {1, 1, (*arguments).not},
		"true":            {0, 0, func(*arguments) (value, error) { return boolean(true), nil }},
		"false":           {0, 0, func(*arguments) (value, error) { return boolean(false), nil }},
		"null":            {0, 0, func(*arguments) (value, error) { return nullValue(), nil }},
	})
	lazyFunctions["if"] = lazyFunction{3, 3, choose}
	lazyFunctions["and"] = lazyFunction{2, -1, until(false)}
	lazyFunctions["or"] = lazyFunction{2, -1, until(true)}
	lazyFunctions["coalesce"] = lazyFunction{1, -1, coalesce}
}

func ofNumbers(do func(x, y int64) (int64, bool)) func(*arguments) (value, error) {
	return func(a *arguments) (value, error) {
		x, err := a.number(0)
		if err != nil {
			return nil, err
		}
		y, err := a.number(1)
		if err != nil {
			return nil, err
		}
		n, ok := do(x, y)
		if !ok {
			return nil, a.fail("the result of %d and %d has more than 64 bits", x, y)
		}
		return number(n), nil
	}
}

func add(x, y int64) (int64, bool) { return x + y, (x+y > x) == (y > 0) }
func sub(x, y int64) (int64, bool) { return x - y, (x-y < x) == (y > 0) }

func mul(x, y int64) (int64, bool) {
	if x == 0 || y == 0 {
		return 0, true
	}
	n := x * y
	return n, n/y == x && !(x == -1 && y == math.MinInt64) && !(y == -1 && x == math.MinInt64)
}

func (a *arguments) div() (value, error) { return a.divide(func(x, y int64) int64 { return x / y }) }

func (a *arguments) mod() (value, error) { return a.divide(func(x, y int64) int64 { return x % y }) }

func (a *arguments) divide(do func(x, y int64) int64) (value, error) {
	return ofNumbers(func(x, y int64) (int64, bool) {
		if y == 0 || (x == math.MinInt64 && y == -1) {
			return 0, false
		}
		return do(x, y), true
	})(a)
}

// extreme is the least or the greatest of numbers, or of an array of them.
func extreme(better func(a, b int64) bool) func(*arguments) (value, error) {
	return func(a *arguments) (value, error) {
		if len(a.args) == 1 && a.args[0].Kind == jsontree.Array {
			a.args = a.args[0].Items
		}
		var best int64
		for i := range a.args {
			n, err := a.number(i)
			if err != nil {
				return nil, err
			}
			if i == 0 || better(n, best) {
				best = n
			}
		}
		if len(a.args) == 0 {
			return nil, a.fail("the array is empty")
		}
		return number(best), nil
	}
}

func (a *arguments) integer() (value, error) {
	if n, ok := whole(a.args[0]); ok {
		return number(n), nil
	}
	if a.args[0].Kind == jsontree.String {
		if n, err := strconv.ParseInt(strings.TrimSpace(a.args[0].Text), 10, 64); err == nil {
			return number(n), nil
		}
	}
	return nil, a.fail("'%s' is not a whole number", clip(show(a.args[0])))
}

func (a *arguments) float() (value, error) {
	s, err := a.word(0)
	if err != nil {
		return nil, err
	}
	f, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return nil, a.fail("'%s' is not a number", clip(s))
	}
	return &jsontree.Node{Kind: jsontree.Number, Text: strconv.FormatFloat(f, 'g', -1, 64)}, nil
}

func (a *arguments) toBoolean() (value, error) {
	switch v := a.args[0]; v.Kind {
	case jsontree.Bool:
		return v, nil
	case jsontree.Number:
		n, ok := whole(v)
		return boolean(!ok || n != 0), nil
	case jsontree.String:
		switch strings.ToLower(v.Text) {
		case "true", "1":
			return boolean(true), nil
		case "false", "0":
			return boolean(false), nil
		}
	}
	return nil, a.fail("'%s' is neither true nor false", clip(show(a.args[0])))
}

func (a *arguments) span() (value, error) {
	start, err := a.number(0)
	if err != nil {
		return nil, err
	}
	count, err := a.number(1)
	if err != nil {
		return nil, err
	}
	if count < 0 || count > maxRange || start > math.MaxInt64-count {
		return nil, a.fail("the count must be 0 to %d", maxRange)
	}
	out := make([]value, count)
	for i := range out {
		out[i] = number(start + int64(i))
	}
	return list(out), nil
}

func (a *arguments) equals() (value, error) {
	if err := a.e.charge(a.f, a.args[0], 0); err != nil {
		return nil, err
	}
	return boolean(same(a.args[0], a.args[1])), nil
}

// order compares two numbers or two strings.
func order(holds func(c int) bool) func(*arguments) (value, error) {
	return func(a *arguments) (value, error) {
		if a.args[0].Kind == jsontree.String && a.args[1].Kind == jsontree.String {
			return boolean(holds(strings.Compare(a.args[0].Text, a.args[1].Text))), nil
		}
		x, err := a.number(0)
		if err != nil {
			return nil, err
		}
		y, err := a.number(1)
		if err != nil {
			return nil, err
		}
		switch {
		case x < y:
			return boolean(holds(-1)), nil
		case x > y:
			return boolean(holds(1)), nil
		}
		return boolean(holds(0)), nil
	}
}

func (a *arguments) not() (value, error) {
	b, err := a.boolean(0)
	return boolean(!b), err
}

// choose is if(): only the branch that is taken is evaluated.
func choose(e *evaluator, f frame, c *call) (value, error) {
	cond, err := e.condition(f, c, 0)
	if err != nil {
		return nil, err
	}
	if cond {
		return e.eval(f, c.args[1])
	}
	return e.eval(f, c.args[2])
}

func (e *evaluator) condition(f frame, c *call, i int) (bool, error) {
	v, err := e.eval(f, c.args[i])
	if err != nil {
		return false, err
	}
	a := arguments{e: e, f: f, name: c.name, args: []value{v}}
	if v.Kind == jsontree.String { // "true" and "false" are taken, as Azure does
		if v, err = a.toBoolean(); err != nil {
			return false, err
		}
		return truth(v), nil
	}
	return a.boolean(0)
}

// until is and() and or(): the first argument that is end decides.
func until(end bool) func(*evaluator, frame, *call) (value, error) {
	return func(e *evaluator, f frame, c *call) (value, error) {
		for i := range c.args {
			b, err := e.condition(f, c, i)
			if err != nil || b == end {
				return boolean(b), err
			}
		}
		return boolean(!end), nil
	}
}

// coalesce is the first argument that is not null.
func coalesce(e *evaluator, f frame, c *call) (value, error) {
	for _, x := range c.args {
		v, err := e.eval(f, x)
		if err != nil || !isNull(v) {
			return v, err
		}
	}
	return nullValue(), nil
}
