package armtemplate

import (
	"errors"
	"strconv"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/jsontree"
)

// evaluator evaluates expressions of one deployment. It is for one goroutine and
// one task: its work is bounded.
type evaluator struct {
	d       *Deployment
	runtime Runtime // nil while resources are not there yet
	// partial leaves strings whose value only a running deployment has as they are.
	partial bool
	work    int
	done    map[string]value // variables
	doing   []string         // variables that are being evaluated
}

// frame is where an expression stands: what names mean there.
type frame struct {
	place     value  // the template's value, for line and column
	path      string // of the place, "resources[0].properties.name"
	loops     []loop // innermost last
	params    map[string]value
	functions bool // inside a function of the template: no variables, no runtime
	defaults  bool // in the default value of a parameter
	lambdas   *lambda
	outer     bool // in the template of a nested deployment that is evaluated from outside
	depth     int
}

// loop is a turn of a copy loop.
type loop struct {
	name  string
	index int64
}

type lambda struct {
	name  string
	v     value
	outer *lambda
}

// errRuntime says that a value is known only while the deployment runs.
var errRuntime = errors.New("the value is known only while the deployment runs")

// errInner says that an expression is left to the nested deployment it is in.
var errInner = errors.New("the value is known only in the nested deployment")

func (f frame) at(place value, path string) frame {
	f.place, f.path = place, path
	return f
}

// fail is an error of the expression at f.
func (f frame) fail(format string, args ...any) error {
	e := arm.Errorf(CodeInvalid, format, args...)
	return f.wrap(e)
}

// wrap says where in the template an error is, once.
func (f frame) wrap(err error) error {
	var known *arm.Error
	if errors.Is(err, errRuntime) || errors.Is(err, errInner) || (errors.As(err, &known) && known.Target != "") {
		return err
	}
	if !errors.As(err, &known) {
		known = arm.Errorf(CodeInvalid, "%w", err)
	}
	line, column := 0, 0
	if f.place != nil {
		line, column = f.place.Line, f.place.Column
	}
	code := known.Code
	out := arm.Errorf(code, "unable to process template language expressions at '%s', line '%d' and column '%d': %w", f.path, line, column, err)
	return out.At(f.path)
}

// spend counts n values of work.
func (e *evaluator) spend(f frame, n int) error {
	if e.work += n; e.work > maxWork {
		return f.fail("the template asks for too much: evaluating it touches more than %d values", maxWork)
	}
	return nil
}

// charge counts the values in v, so that a small template cannot make a huge one.
func (e *evaluator) charge(f frame, v value, depth int) error {
	if depth > maxDepth {
		return f.fail("the value is nested deeper than %d levels", maxDepth)
	}
	if err := e.spend(f, 1+len(v.Text)/32); err != nil {
		return err
	}
	for _, i := range v.Items {
		if err := e.charge(f, i, depth+1); err != nil {
			return err
		}
	}
	for _, m := range v.Members {
		if err := e.charge(f, m.Value, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// tree evaluates every expression in n, keys included, and unrolls copies of
// properties.
func (e *evaluator) tree(f frame, n value) (value, error) {
	if f.depth++; f.depth > 4*maxDepth {
		return nil, f.fail("the value is nested deeper than %d levels", maxDepth)
	}
	if err := e.spend(f, 1); err != nil {
		return nil, err
	}
	f.place = n
	switch n.Kind {
	case jsontree.String:
		return e.str(f, n)
	case jsontree.Array:
		out := &jsontree.Node{Kind: jsontree.Array, Line: n.Line, Column: n.Column, Items: make([]value, 0, len(n.Items))}
		for i, item := range n.Items {
			v, err := e.tree(f.at(item, f.path+"["+strconv.Itoa(i)+"]"), item)
			if err != nil {
				return nil, err
			}
			out.Items = append(out.Items, v)
		}
		return out, nil
	case jsontree.Object:
		return e.members(f, n)
	}
	return n, nil
}

func (e *evaluator) members(f frame, n value) (value, error) {
	out := &jsontree.Node{Kind: jsontree.Object, Line: n.Line, Column: n.Column, Members: make([]jsontree.Member, 0, len(n.Members))}
	for _, m := range live(n) {
		at := f.at(m.Value, dot(f.path, m.Key))
		if strings.EqualFold(m.Key, "copy") && m.Value.Kind == jsontree.Array {
			made, err := e.copies(at, m.Value)
			if err != nil {
				return nil, err
			}
			out.Members = append(out.Members, made...)
			continue
		}
		key := m.Key
		if len(key) > 0 && key[0] == '[' {
			k, err := e.str(at, text(key))
			if err != nil {
				return nil, err
			}
			if k.Kind != jsontree.String {
				return nil, at.fail("the name of a property must be a string, not %s", k.Kind)
			}
			key = k.Text
		}
		v, err := e.tree(at, m.Value)
		if err != nil {
			return nil, err
		}
		out.Members = append(out.Members, jsontree.Member{Key: key, Value: v, Line: m.Line, Column: m.Column})
	}
	return out, nil
}

// str evaluates a string of the template.
func (e *evaluator) str(f frame, n value) (value, error) {
	if !IsExpression(n.Text) {
		if t := literal(n.Text); t != n.Text {
			return at(text(t), n), nil
		}
		return n, nil
	}
	x, err := parse(n.Text)
	if err != nil {
		return nil, f.wrap(err)
	}
	v, err := e.eval(f, x)
	if (errors.Is(err, errRuntime) && e.partial) || (errors.Is(err, errInner) && f.outer) {
		return n, nil
	}
	if err != nil {
		return nil, f.wrap(err)
	}
	if err := e.charge(f, v, 0); err != nil {
		return nil, err
	}
	return at(v, n), nil
}

// copies unrolls [{"name":N,"count":C,"input":I}]: each becomes an array N.
func (e *evaluator) copies(f frame, loops value) ([]jsontree.Member, error) {
	var out []jsontree.Member
	for i, l := range loops.Items {
		at := f.at(l, f.path+"["+strconv.Itoa(i)+"]")
		name := l.Fold("name")
		if name == nil || name.Kind != jsontree.String {
			return nil, at.fail("a copy loop needs a 'name'")
		}
		count, err := e.count(at, l)
		if err != nil {
			return nil, err
		}
		input := l.Fold("input")
		if input == nil {
			return nil, at.fail("the copy loop '%s' needs an 'input'", name.Text)
		}
		made := make([]value, 0, count)
		for turn := range count {
			inner := at.at(input, at.path+".input")
			inner.loops = append(inner.loops[:len(inner.loops):len(inner.loops)], loop{name.Text, turn})
			v, err := e.tree(inner, input)
			if err != nil {
				return nil, err
			}
			made = append(made, v)
		}
		out = append(out, jsontree.Member{Key: name.Text, Value: list(made)})
	}
	return out, nil
}

// count is how often a copy loop turns.
func (e *evaluator) count(f frame, l value) (int64, error) {
	c := l.Fold("count")
	if c == nil {
		return 0, f.fail("a copy loop needs a 'count'")
	}
	v, err := e.tree(f.at(c, dot(f.path, "count")), c)
	if err != nil {
		return 0, err
	}
	n, ok := whole(v)
	if !ok || n < 0 || n > maxCopies {
		return 0, f.fail("the copy count must be a whole number from 0 to %d, not %s", maxCopies, clip(show(v)))
	}
	return n, nil
}

// eval is the value of an expression.
func (e *evaluator) eval(f frame, x expr) (value, error) {
	if f.depth++; f.depth > 8*maxDepth {
		return nil, f.fail("the expression is nested too deep")
	}
	if err := e.spend(f, 1); err != nil {
		return nil, err
	}
	switch x := x.(type) {
	case constant:
		return x.v, nil
	case *access:
		of, err := e.eval(f, x.of)
		if err != nil {
			return nil, err
		}
		index, err := e.eval(f, x.index)
		if err != nil {
			return nil, err
		}
		return f.member(of, index)
	case *call:
		return e.call(f, x)
	}
	return nil, f.fail("the expression is not one")
}

// member is of.name or of[index].
func (f frame) member(of, index value) (value, error) {
	switch of.Kind {
	case jsontree.Array:
		i, ok := whole(index)
		if !ok {
			return nil, f.fail("the language expression property '%s' can't be evaluated: an array is indexed by a number", clip(show(index)))
		}
		if i < 0 || i >= int64(len(of.Items)) {
			return nil, f.fail("the language expression property array index '%d' is out of bounds: the array has %d elements", i, len(of.Items))
		}
		return of.Items[i], nil
	case jsontree.Object:
		if index.Kind != jsontree.String {
			return nil, f.fail("the language expression property '%s' can't be evaluated: an object is indexed by a string", clip(show(index)))
		}
		if v := of.Fold(index.Text); v != nil {
			return v, nil
		}
		var names []string
		for _, m := range live(of) {
			names = append(names, m.Key)
		}
		return nil, f.fail("the language expression property '%s' doesn't exist, available properties are '%s'", clip(index.Text), clip(strings.Join(names, ", ")))
	}
	return nil, f.fail("the language expression property '%s' can't be evaluated, property selection is not supported on values of type '%s'", clip(show(index)), kindName(of))
}

// call evaluates a function.
func (e *evaluator) call(f frame, c *call) (value, error) {
	name := strings.ToLower(c.name)
	if strings.Contains(name, ".") {
		return e.ownFunction(f, c)
	}
	if lazy := lazyFunctions[name]; lazy.do != nil {
		if err := f.arity(c.name, len(c.args), lazy.min, lazy.max); err != nil {
			return nil, err
		}
		return lazy.do(e, f, c)
	}
	fn, ok := functions[name]
	if !ok {
		if listing(name) {
			fn = function{1, 3, (*arguments).listAction}
		} else {
			return nil, f.fail("the template function '%s' is not valid%s. Please see https://aka.ms/arm-functions for usage details.", clip(c.name), suggestion(name))
		}
	}
	if err := f.arity(c.name, len(c.args), fn.min, fn.max); err != nil {
		return nil, err
	}
	a := &arguments{e: e, f: f, name: c.name, args: make([]value, 0, len(c.args))}
	for _, x := range c.args {
		v, err := e.eval(f, x)
		if err != nil {
			return nil, err
		}
		if err := e.spend(f, len(v.Text)/32); err != nil {
			return nil, err
		}
		a.args = append(a.args, v)
	}
	v, err := fn.do(a)
	if err != nil {
		return nil, err
	}
	return v, e.spend(f, 1+len(v.Items)+len(v.Members)+len(v.Text)/32)
}

func (f frame) arity(name string, n, least, most int) error {
	switch {
	case n < least || (most >= 0 && n > most):
		want := strconv.Itoa(least)
		if most < 0 {
			want = "at least " + want
		} else if most != least {
			want += " to " + strconv.Itoa(most)
		}
		return f.fail("the template function '%s' takes %s arguments, not %d", name, want, n)
	}
	return nil
}

// ownFunction is a call of a function that the template defines.
func (e *evaluator) ownFunction(f frame, c *call) (value, error) {
	def := e.d.template.functions[strings.ToLower(c.name)]
	if def == nil {
		return nil, f.fail("the template function '%s' is not valid: the template defines no such function", clip(c.name))
	}
	if f.functions {
		return nil, f.fail("the function '%s' cannot be called from a function of the template", clip(c.name))
	}
	inner := frame{functions: true, params: map[string]value{}, depth: f.depth}
	params := def.Fold("parameters")
	var n int
	if params != nil {
		n = len(params.Items)
	}
	if err := f.arity(c.name, len(c.args), n, n); err != nil {
		return nil, err
	}
	for i, x := range c.args {
		v, err := e.eval(f, x)
		if err != nil {
			return nil, err
		}
		if p := params.Items[i].Fold("name"); p != nil {
			inner.params[strings.ToLower(p.Text)] = v
		}
	}
	out := def.Fold("output").Fold("value")
	if out == nil {
		return nil, f.fail("the function '%s' of the template has no output", c.name)
	}
	return e.tree(inner.at(out, "functions."+c.name+".output.value"), out)
}

// variable is a variable of the template. Each is evaluated once.
func (e *evaluator) variable(f frame, name string) (value, error) {
	key := strings.ToLower(name)
	if v := e.done[key]; v != nil {
		return v, nil
	}
	def := e.d.template.variables[key]
	if def.value == nil {
		return nil, f.fail("the template variable '%s' is not found. Please see https://aka.ms/arm-syntax-variables for usage details.", clip(name))
	}
	for _, d := range e.doing {
		if d == key {
			return nil, f.fail("the template variable '%s' refers to itself", name)
		}
	}
	e.doing = append(e.doing, key)
	defer func() { e.doing = e.doing[:len(e.doing)-1] }()
	inner := frame{depth: f.depth}.at(def.value, "variables."+name)
	var v value
	var err error
	partial := e.partial
	e.partial = false // a part of a variable may be all that somebody wants of it
	if def.loop {
		var made []jsontree.Member
		if made, err = e.copies(inner, list([]value{def.value})); err == nil {
			v = made[0].Value
		}
	} else {
		v, err = e.tree(inner, def.value)
	}
	e.partial = partial
	if err != nil {
		return nil, err
	}
	e.done[key] = v
	return v, nil
}

func dot(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// clip shortens what a template has for a message.
func clip(s string) string {
	const most = 120
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}
