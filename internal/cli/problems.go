package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/imagetemplate"
)

// WriteProblems prints what is wrong with the template in file. The table
// format is a line per problem, as compilers write them,
//
//	file:line:column: error: message (/json/pointer)
//
// and a count; nothing at all without problems. JSON is one object with the
// file and its problems.
func WriteProblems(w io.Writer, f Format, file string, problems []imagetemplate.Problem) error {
	if f == FormatJSON {
		if problems == nil {
			problems = []imagetemplate.Problem{}
		}
		return writeJSON(w, struct {
			File     string                  `json:"file"`
			Problems []imagetemplate.Problem `json:"problems"`
		}{file, problems})
	}
	if len(problems) == 0 {
		return nil
	}
	var b strings.Builder
	count := map[imagetemplate.Severity]int{}
	for _, p := range problems {
		count[p.Severity]++
		b.WriteString(problemLine(file, p))
		b.WriteByte('\n')
	}
	var counts []string
	for _, s := range []imagetemplate.Severity{imagetemplate.SeverityError, imagetemplate.SeverityWarning} {
		if n := count[s]; n > 0 {
			counts = append(counts, plural(n, string(s)))
		}
	}
	fmt.Fprintf(&b, "%s\n", strings.Join(counts, ", "))
	_, err := io.WriteString(w, b.String())
	return err
}

// problemLine is p as one line.
func problemLine(file string, p imagetemplate.Problem) string {
	where := terminalText(file)
	if p.Line > 0 {
		where += fmt.Sprintf(":%d", p.Line)
		if p.Column > 0 {
			where += fmt.Sprintf(":%d", p.Column)
		}
	}
	line := fmt.Sprintf("%s: %s: %s", where, p.Severity, strings.Join(terminalLines(p.Message), " "))
	if p.Pointer != "" {
		line += " (" + terminalText(p.Pointer) + ")"
	}
	return line
}

// ProblemsError is the error of a template that must not be built: one detail
// per problem that stops it, nil when none does. With build set, what the
// engine cannot execute yet stops too. Its code is arm.CodePlaceholder when
// unfilled placeholders are all that is wrong, because then the command line
// is; arm.CodeNotSupported when only the engine's limits are in the way; and
// arm.CodeValidationFailed otherwise, or the problem's own for a single one.
func ProblemsError(file string, problems []imagetemplate.Problem, build bool) error {
	var details []*arm.Error
	codes := map[arm.Code]int{}
	for _, p := range problems {
		code := p.Code
		switch {
		case build && p.NotExecutable:
			code = arm.CodeNotSupported
		case p.Severity != imagetemplate.SeverityError:
			continue
		}
		codes[code]++
		details = append(details, &arm.Error{Code: code, Message: p.Message, Target: p.Pointer})
	}
	if len(details) == 0 {
		return nil
	}
	code := arm.CodeValidationFailed
	if len(codes) == 1 && details[0].Code != "" {
		code = details[0].Code
	}
	message := "the template has " + plural(len(details), "error") + ": correct them and try again"
	switch code {
	case arm.CodePlaceholder:
		message = "the template has " + plural(len(details), "unfilled placeholder") + ": give each a value with --set NAME=VALUE"
	case arm.CodeNotSupported:
		message = "the template is valid, but asks for what this engine cannot do yet: remove these fields to build it here"
	}
	return &arm.Error{Code: code, Message: message, Target: file, Details: details}
}

// headline is err without its details, which the user has been shown.
func headline(err error) error {
	var coded *arm.Error
	if !errors.As(err, &coded) {
		return err
	}
	short := *coded
	short.Details = nil
	return &short
}

// plural is "1 error" or "2 errors".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
