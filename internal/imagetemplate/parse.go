package imagetemplate

import (
	"errors"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/jsontree"
)

// limits of a body. The size is Azure Resource Manager's; the others are far
// above what a template needs.
var limits = jsontree.Limits{Bytes: 4 << 20, Depth: 100, Key: 4096, Values: 100_000}

// Parse turns the bytes of an image template into a Template, or says
// everything that is wrong with them. It never fails otherwise: a Template is
// there exactly when no Problem is an error.
func Parse(file []byte, o Options) Result {
	root, err := jsontree.Parse(file, limits)
	if err != nil {
		report := &report{}
		report.add(brokenJSON(file, err))
		return Result{Problems: report.sorted()}
	}
	return ParseNode(root, o)
}

// ParseNode is Parse of a body that was read already, like the one that the
// evaluation of a deployment template leaves. It changes root.
func ParseNode(root *jsontree.Node, o Options) Result {
	report := &report{}
	if root.Kind != jsontree.Object {
		report.fail(rootPlace(root), arm.CodeInvalidJSON, "an image template is a JSON object, not %s", root.Kind)
		return Result{Problems: report.sorted()}
	}
	if !o.Service && refuseDocument(root, report) {
		return Result{Problems: report.sorted(), Body: root.Append(nil)}
	}
	filling := newFilling(o, report)
	if !o.Service {
		// A request is data: angle brackets and brackets in it mean themselves.
		filling.apply(root)
		refuseExpressions(root, filling, report)
	}
	v, ok := findVersion(root, o, filling, report)
	if !ok {
		return Result{Problems: report.sorted(), Body: root.Append(nil)}
	}
	r := &reader{version: v, service: o.Service, noIdentity: o.NoIdentity, report: report, fill: filling}
	t := r.template(r.members(root, rootPlace(root), templateShape, "", ""))
	result := Result{Template: t, Problems: report.sorted(), Body: root.Append(nil)}
	if report.failed {
		result.Template = nil
	}
	return result
}

// brokenJSON is the problem of a text that was not read.
func brokenJSON(file []byte, err error) Problem {
	p := Problem{Severity: SeverityError, Code: arm.CodeInvalidJSON, Message: err.Error()}
	var e *jsontree.Error
	if !errors.As(err, &e) {
		return p
	}
	p.Line, p.Column, p.Message = e.Line, e.Column, e.Message
	if e.TooLarge {
		p.Code = arm.CodeTooLarge
	} else if strings.Contains(string(file), "/deploymentTemplate.json") {
		p.Message += " (this looks like a deployment template)"
	}
	return p
}

// findVersion is the API version of the options, else of the file.
func findVersion(root *jsontree.Node, o Options, f *filling, report *report) (version, bool) {
	name, at := o.APIVersion, rootPlace(root)
	if name == "" && !o.Service {
		for _, m := range root.Members {
			if m.Overridden || !strings.EqualFold(m.Key, "apiVersion") || m.Value.Kind != jsontree.String {
				continue
			}
			if f.open(m.Value) {
				// The placeholder is reported; without a version nothing can be judged,
				// whether or not placeholders are allowed.
				report.fail(at.key(m), arm.CodeInvalidAPIVersion,
					"the API version is not filled in: give it with --api-version, one of %s", strings.Join(versions, ", "))
				return 0, false
			}
			name, at = m.Value.Text, at.member(m, "apiVersion")
		}
	}
	if name == "" {
		report.fail(at, arm.CodeInvalidAPIVersion, "the file has no apiVersion: give it with --api-version, one of %s",
			strings.Join(versions, ", "))
		return 0, false
	}
	v, ok := parseVersion(name)
	if !ok {
		report.fail(at, arm.CodeInvalidAPIVersion, "The api-version '%s' is invalid. The supported versions are '%s'.",
			shorten(name), strings.Join(versions, ","))
	}
	return v, ok
}
