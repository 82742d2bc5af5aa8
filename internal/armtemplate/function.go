package armtemplate

import (
	"slices"
	"strings"

	"goldsmith/internal/jsontree"
	"goldsmith/internal/suggest"
)

// function is a function of the language, over its evaluated arguments.
type function struct {
	min, max int // number of arguments; max -1 for any
	do       func(*arguments) (value, error)
}

// lazyFunction decides itself which of its arguments are evaluated.
type lazyFunction struct {
	min, max int
	do       func(*evaluator, frame, *call) (value, error)
}

// functions and lazyFunctions are by lower-case name. Both are filled by init,
// because functions evaluate expressions, which call functions.
var (
	functions     = map[string]function{}
	lazyFunctions = map[string]lazyFunction{}
)

// FunctionNames are the functions of the language, in lower case, sorted.
func FunctionNames() []string {
	var out []string
	for name := range functions {
		out = append(out, name)
	}
	for name := range lazyFunctions {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func register(all map[string]function) {
	for name, f := range all {
		functions[strings.ToLower(name)] = f
	}
}

func suggestion(name string) string {
	if near := suggest.Nearest(name, FunctionNames(), 1); len(near) > 0 {
		return " (did you mean '" + near[0] + "'?)"
	}
	return ""
}

// arguments are those of one call.
type arguments struct {
	e    *evaluator
	f    frame
	name string
	args []value
}

func (a *arguments) fail(format string, args ...any) error {
	return a.f.fail("the template function '"+strings.ReplaceAll(a.name, "%", "%%")+"': "+format, args...)
}

func (a *arguments) has(i int) bool { return i < len(a.args) }

func (a *arguments) wrong(i int, want string) error {
	return a.fail("argument %d must be %s, not %s", i+1, want, a.args[i].Kind)
}

// text is argument i as a string. Numbers and booleans are none.
func (a *arguments) text(i int) (string, error) {
	if a.args[i].Kind != jsontree.String {
		return "", a.wrong(i, "a string")
	}
	return a.args[i].Text, nil
}

// word is argument i as text, where numbers and booleans are taken too.
func (a *arguments) word(i int) (string, error) {
	switch a.args[i].Kind {
	case jsontree.Array, jsontree.Object, jsontree.Null:
		return "", a.wrong(i, "a string")
	}
	return show(a.args[i]), nil
}

func (a *arguments) number(i int) (int64, error) {
	n, ok := whole(a.args[i])
	if !ok {
		return 0, a.wrong(i, "a whole number")
	}
	return n, nil
}

func (a *arguments) boolean(i int) (bool, error) {
	if a.args[i].Kind != jsontree.Bool {
		return false, a.wrong(i, "true or false")
	}
	return truth(a.args[i]), nil
}

func (a *arguments) list(i int) ([]value, error) {
	if a.args[i].Kind != jsontree.Array {
		return nil, a.wrong(i, "an array")
	}
	return a.args[i].Items, nil
}

func (a *arguments) object(i int) (value, error) {
	if a.args[i].Kind != jsontree.Object {
		return nil, a.wrong(i, "an object")
	}
	return a.args[i], nil
}

// words are all arguments as text.
func (a *arguments) words() ([]string, error) {
	out := make([]string, len(a.args))
	for i := range a.args {
		var err error
		if out[i], err = a.word(i); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// made is a string that a function makes.
func (a *arguments) made(s string) (value, error) {
	if len(s) > maxText {
		return nil, a.fail("the string has %d bytes; at most %d are made", len(s), maxText)
	}
	return text(s), nil
}
