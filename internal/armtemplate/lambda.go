package armtemplate

import (
	"slices"
	"strings"

	"goldsmith/internal/jsontree"
)

func init() {
	for name, f := range map[string]lazyFunction{
		"lambda": {1, -1, func(_ *evaluator, f frame, c *call) (value, error) {
			return nil, f.fail("lambda() stands only as an argument of a function that takes one")
		}},
		"lambdavariables": {1, 1, lambdaVariable},
		"map":             {2, 2, mapItems},
		"filter":          {2, 2, filterItems},
		"reduce":          {3, 3, reduceItems},
		"sort":            {2, 2, sortItems},
		"toobject":        {2, 3, toObject},
		"groupby":         {2, 2, groupBy},
		"mapvalues":       {2, 2, mapValues},
	} {
		lazyFunctions[name] = f
	}
}

func lambdaVariable(e *evaluator, f frame, c *call) (value, error) {
	name, err := e.eval(f, c.args[0])
	if err != nil {
		return nil, err
	}
	for l := f.lambdas; l != nil; l = l.outer {
		if strings.EqualFold(l.name, name.Text) {
			return l.v, nil
		}
	}
	return nil, f.fail("the lambda variable '%s' is not defined here", clip(show(name)))
}

// body is a lambda: its variables and what it evaluates.
type body struct {
	e     *evaluator
	f     frame
	names []string
	x     expr
}

// lambdaAt is argument i of c, which must be a lambda of at least n variables.
func (e *evaluator) lambdaAt(f frame, c *call, i, n int) (body, error) {
	l, ok := c.args[i].(*call)
	if !ok || !strings.EqualFold(l.name, "lambda") || len(l.args) < n+1 {
		return body{}, f.fail("the template function '%s': argument %d must be a lambda of %d variables", c.name, i+1, n)
	}
	b := body{e: e, f: f, x: l.args[len(l.args)-1]}
	for _, x := range l.args[:len(l.args)-1] {
		name, err := e.eval(f, x)
		if err != nil {
			return b, err
		}
		b.names = append(b.names, name.Text)
	}
	return b, nil
}

// do evaluates the lambda for values; those it has no name for are left out.
func (b body) do(values ...value) (value, error) {
	f := b.f
	for i, name := range b.names {
		if i < len(values) {
			f.lambdas = &lambda{name, values[i], f.lambdas}
		}
	}
	v, err := b.e.eval(f, b.x)
	if err != nil {
		return nil, err
	}
	return v, b.e.charge(f, v, 0)
}

// itemsAt is the array that argument 0 of c is, with its lambda at argument i.
func (e *evaluator) itemsAt(f frame, c *call, i, n int) ([]value, body, error) {
	v, err := e.eval(f, c.args[0])
	if err != nil {
		return nil, body{}, err
	}
	if v.Kind != jsontree.Array {
		return nil, body{}, f.fail("the template function '%s': argument 1 must be an array, not %s", c.name, v.Kind)
	}
	b, err := e.lambdaAt(f, c, i, n)
	return v.Items, b, err
}

func mapItems(e *evaluator, f frame, c *call) (value, error) {
	items, b, err := e.itemsAt(f, c, 1, 1)
	if err != nil {
		return nil, err
	}
	out := make([]value, len(items))
	for i, v := range items {
		if out[i], err = b.do(v, number(int64(i))); err != nil {
			return nil, err
		}
	}
	return list(out), nil
}

func filterItems(e *evaluator, f frame, c *call) (value, error) {
	items, b, err := e.itemsAt(f, c, 1, 1)
	if err != nil {
		return nil, err
	}
	var out []value
	for i, v := range items {
		keep, err := b.do(v, number(int64(i)))
		if err != nil {
			return nil, err
		}
		if truth(keep) {
			out = append(out, v)
		}
	}
	return list(out), nil
}

func reduceItems(e *evaluator, f frame, c *call) (value, error) {
	items, b, err := e.itemsAt(f, c, 2, 2)
	if err != nil {
		return nil, err
	}
	sum, err := e.eval(f, c.args[1])
	for i, v := range items {
		if err != nil {
			return nil, err
		}
		sum, err = b.do(sum, v, number(int64(i)))
	}
	return sum, err
}

func sortItems(e *evaluator, f frame, c *call) (value, error) {
	items, b, err := e.itemsAt(f, c, 1, 2)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(items)
	slices.SortStableFunc(out, func(x, y value) int {
		if err != nil {
			return 0
		}
		var less value
		if less, err = b.do(x, y); err != nil {
			return 0
		}
		if truth(less) {
			return -1
		}
		if less, err = b.do(y, x); err == nil && truth(less) {
			return 1
		}
		return 0
	})
	return list(out), err
}

func toObject(e *evaluator, f frame, c *call) (value, error) {
	items, key, err := e.itemsAt(f, c, 1, 1)
	if err != nil {
		return nil, err
	}
	each := func(v value) (value, error) { return v, nil }
	if len(c.args) == 3 {
		b, err := e.lambdaAt(f, c, 2, 1)
		if err != nil {
			return nil, err
		}
		each = func(v value) (value, error) { return b.do(v) }
	}
	a := arguments{e: e, f: f, name: c.name}
	for _, item := range items {
		k, err := key.do(item)
		if err != nil {
			return nil, err
		}
		v, err := each(item)
		if err != nil {
			return nil, err
		}
		a.args = append(a.args, text(show(k)), v)
	}
	return a.createObject()
}

func groupBy(e *evaluator, f frame, c *call) (value, error) {
	items, key, err := e.itemsAt(f, c, 1, 1)
	if err != nil {
		return nil, err
	}
	out := &jsontree.Node{Kind: jsontree.Object}
	for _, item := range items {
		k, err := key.do(item)
		if err != nil {
			return nil, err
		}
		group := out.Fold(show(k))
		if group == nil {
			group = list(nil)
			out.Members = append(out.Members, jsontree.Member{Key: show(k), Value: group})
		}
		group.Items = append(group.Items, item)
	}
	return out, nil
}

func mapValues(e *evaluator, f frame, c *call) (value, error) {
	v, err := e.eval(f, c.args[0])
	if err != nil {
		return nil, err
	}
	if v.Kind != jsontree.Object {
		return nil, f.fail("the template function '%s': argument 1 must be an object, not %s", c.name, v.Kind)
	}
	b, err := e.lambdaAt(f, c, 1, 1)
	if err != nil {
		return nil, err
	}
	out := &jsontree.Node{Kind: jsontree.Object}
	for _, m := range live(v) {
		made, err := b.do(m.Value)
		if err != nil {
			return nil, err
		}
		out.Members = append(out.Members, jsontree.Member{Key: m.Key, Value: made})
	}
	return out, nil
}
