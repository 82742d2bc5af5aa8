package imagetemplate

import (
	"regexp"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/jsontree"
)

// This file tells an image template from the other documents that travel with
// it, and a body from one that only a deployment can evaluate.

// refuseDocument reports a document of another kind; false when n may be a body.
func refuseDocument(n *jsontree.Node, r *report) bool {
	root := rootPlace(n)
	schema := ""
	if s := n.Fold("$schema"); s != nil {
		schema = strings.ToLower(s.Text)
	}
	resources := n.Fold("resources")
	switch {
	case strings.Contains(schema, "deploymenttemplate"):
		r.fail(root, arm.CodeNotSupported, "this is a deployment template, not an image template; "+
			"pass the image template resource's body")
	case resources != nil && resources.Kind == jsontree.Array:
		r.fail(root, arm.CodeNotSupported, "this looks like a deployment template without its '$schema', "+
			"which must name a deploymentTemplate.json")
	case strings.Contains(schema, "deploymentparameters"):
		r.fail(root, arm.CodeNotSupported, "this is the parameters file of a deployment, not an image template; "+
			"pass the image template resource's body")
	case strings.Contains(schema, "createformui"), strings.Contains(schema, "createuidefinition"):
		r.fail(root, arm.CodeNotSupported, "this describes a form of the portal, not an image template; "+
			"pass the image template resource's body")
	default:
		return false
	}
	return true
}

// expression matches a string that a deployment would evaluate: a call in
// brackets. "[[" escapes a bracket; tests of a shell have no call after it.
var expression = regexp.MustCompile(`(?s)^\[\s*[A-Za-z_][A-Za-z0-9_.]*\s*\(.*\]\s*$`)

// deploymentOnly are members of a resource that only a deployment carries out.
var deploymentOnly = []string{"copy", "condition"}

// refuseExpressions reports, once, that a body has to be evaluated first, and
// has the values in question taken as unknown.
func refuseExpressions(n *jsontree.Node, f *filling, r *report) {
	var first *place
	count := 0
	found := func(at func() place) {
		if count++; first == nil {
			p := at()
			first = &p
		}
	}
	var walk func(t *trail)
	walk = func(t *trail) {
		if t.node.Kind == jsontree.String && expression.MatchString(t.node.Text) {
			f.openValues[t.node] = true
			found(t.place)
		}
		for i := range t.node.Items {
			walk(t.element(i))
		}
		for i, m := range t.node.Members {
			at := t.field(i)
			if expression.MatchString(m.Key) {
				f.openKeys[m.Value] = true
				found(at.key)
			}
			walk(at)
		}
	}
	walk(&trail{node: n})
	if first != nil {
		r.fail(*first, arm.CodeNotSupported, "this is an expression of a deployment template (the first of %d), "+
			"whose value is known only where the template is deployed: write its value", count)
	}
	for _, m := range n.Members {
		if contains(deploymentOnly, m.Key) {
			r.fail(rootPlace(n).key(m), arm.CodeNotSupported, "'%s' belongs to a deployment template: remove it", m.Key)
		}
	}
}
