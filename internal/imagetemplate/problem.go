package imagetemplate

import (
	"cmp"
	"fmt"
	"slices"
	"unicode/utf8"

	"goldsmith/internal/arm"
	"goldsmith/internal/jsontree"
)

// maxProblems bounds what a hostile file can make Parse report.
const maxProblems = 500

// place is where a value stands: in the file (pointer, line, column) and in the
// words of the real service (owner and field, "ImageTemplate.properties.source"
// and "imageId").
type place struct {
	pointer      string
	owner, field string
	line, column int
}

// path is the value in the real service's words.
func (p place) path() string {
	if p.owner == "" {
		return p.field
	}
	return p.owner + "." + p.field
}

// member is the place of a member of the object at p. name is the field's name
// in the tables, m its spelling and position in the file.
func (p place) member(m jsontree.Member, name string) place {
	return place{
		pointer: jsontree.Pointer(p.pointer, m.Key),
		owner:   p.path(), field: name,
		line: m.Value.Line, column: m.Value.Column,
	}
}

// key is the place of a member's key.
func (p place) key(m jsontree.Member) place {
	at := p.member(m, m.Key)
	at.line, at.column = m.Line, m.Column
	return at
}

// item is the place of element i of the array at p.
func (p place) item(i int, n *jsontree.Node) place {
	return place{
		pointer: fmt.Sprintf("%s/%d", p.pointer, i),
		owner:   p.owner, field: fmt.Sprintf("%s[%d]", p.field, i),
		line: n.Line, column: n.Column,
	}
}

// report collects problems.
type report struct {
	problems []Problem
	failed   bool // an error was found
	dropped  int  // problems beyond maxProblems
}

func (r *report) add(p Problem) {
	r.failed = r.failed || p.Severity == SeverityError
	if r.full() {
		r.dropped++
		return
	}
	r.problems = append(r.problems, p)
}

// full reports whether further problems are only counted.
func (r *report) full() bool { return len(r.problems) >= maxProblems }

func problemAt(at place, s Severity, c arm.Code, message string) Problem {
	return Problem{Severity: s, Code: c, Pointer: at.pointer, Line: at.line, Column: at.column, Message: message}
}

// fail adds an error in words of our own.
func (r *report) fail(at place, c arm.Code, format string, args ...any) {
	r.add(problemAt(at, SeverityError, c, fmt.Sprintf(format, args...)))
}

// warn adds a warning.
func (r *report) warn(at place, format string, args ...any) {
	r.add(problemAt(at, SeverityWarning, arm.CodeValidationFailed, fmt.Sprintf(format, args...)))
}

// notExecutable adds a warning about what a build cannot carry out yet.
func (r *report) notExecutable(at place, format string, args ...any) {
	p := problemAt(at, SeverityWarning, arm.CodeNotSupported, fmt.Sprintf(format, args...))
	p.NotExecutable = true
	r.add(p)
}

// The three sentences below are the real service's; the cause is ours.

// missing reports an absent field of the object at p. cause may be "".
func (r *report) missing(at place, field, cause string) {
	r.fail(at, arm.CodeValidationFailed, "Validation failed: '%s': Missing field '%s'. Please review "+
		"http://aka.ms/azvmimagebuildertmplref for details on fields required in the Image Builder Template.%s",
		at.path(), field, because(cause))
}

// bad reports a value that breaks a rule.
func (r *report) bad(at place, value, format string, args ...any) {
	r.badCode(at, arm.CodeValidationFailed, value, format, args...)
}

func (r *report) badCode(at place, c arm.Code, value, format string, args ...any) {
	r.fail(at, c, "Validation failed: '%s': Field '%s' has a bad value: '%s'. Please review  "+
		"http://aka.ms/azvmimagebuildertmplref  for details on fields requirements in the Image Builder Template.%s",
		at.owner, at.field, shorten(value), because(fmt.Sprintf(format, args...)))
}

// unmarshal reports a body that does not fit the types of a strict version.
// chain is the way from the root to the fault, in the real service's words.
func (r *report) unmarshal(at place, chain, cause string) {
	r.fail(at, arm.CodeValidationFailed, "Unmarshalling entity encountered error: %s. There is an issue with the "+
		"syntax with the JSON template you are submitting. Please check the JSON template for syntax and grammar. "+
		"For more information on the syntax and grammar of the JSON template, visit "+
		"http://aka.ms/azvmimagebuildertmplref.%s", chain, because(cause))
}

func because(cause string) string {
	if cause == "" {
		return ""
	}
	return " Cause: " + cause + "."
}

// shorten keeps a quoted value readable.
func shorten(s string) string {
	const most = 200
	if len(s) <= most {
		return s
	}
	cut := most
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…"
}

// sorted are all problems in file order; those about the file as a whole first.
func (r *report) sorted() []Problem {
	out := slices.Clone(r.problems)
	slices.SortStableFunc(out, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	if r.dropped > 0 {
		out = append(out, Problem{Severity: SeverityError, Code: arm.CodeValidationFailed, Message: fmt.Sprintf(
			"%d more problems were found and are not listed: repair these first", r.dropped)})
		if !r.failed {
			out[len(out)-1].Severity = SeverityWarning
		}
	}
	return out
}
