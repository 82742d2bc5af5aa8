package armtemplate

import (
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/jsontree"
)

// order finds what each resource waits for, and refuses circles.
func (d *Deployment) order() error {
	byWord := map[string][]int{}
	byID := map[string]int{}
	for i, r := range d.Resources {
		key := strings.ToLower(r.ID)
		if j, twice := byID[key]; twice && r.Condition && d.Resources[j].Condition && !r.Existing && !d.Resources[j].Existing {
			return r.frame.invalid("the resource '%s' at line '%d' and column '%d' is defined multiple times in a template. Please see https://aka.ms/arm-syntax-resources for usage details.", r.ID, r.node.Line, r.node.Column)
		}
		if _, known := byID[key]; !known || r.Condition {
			byID[key] = i
		}
		words := []string{key, strings.ToLower(r.Name), strings.ToLower(r.short())}
		if r.loop != "" {
			words = append(words, strings.ToLower(r.loop))
		}
		if r.Symbol != "" {
			words = append(words, strings.ToLower(r.Symbol))
		}
		slices.Sort(words)
		for _, w := range slices.Compact(words) {
			byWord[w] = append(byWord[w], i)
		}
	}
	e := d.evaluator(nil)
	for i, r := range d.Resources {
		for _, word := range r.after {
			found := byWord[strings.ToLower(strings.Trim(word, "/"))]
			if found == nil {
				found = byWord[strings.ToLower(word)]
			}
			if found == nil {
				return r.frame.invalid("the resource '%s' is not defined in the template. Please see https://aka.ms/arm-syntax for usage details.", clip(word))
			}
			r.DependsOn = append(r.DependsOn, found...)
		}
		if j, ok := byID[strings.ToLower(parentID(r.ID))]; ok {
			r.DependsOn = append(r.DependsOn, j)
		}
		r.DependsOn = append(r.DependsOn, d.references(e, r)...)
		slices.Sort(r.DependsOn)
		r.DependsOn = slices.DeleteFunc(slices.Compact(r.DependsOn), func(j int) bool { return j == i })
	}
	return d.checkCircles()
}

// short is the id of the resource as dependsOn may give it: TYPE/NAME, with the
// types and names of children in turn.
func (r *Resource) short() string {
	_, after, ok := strings.Cut(r.ID, "/providers/")
	if !ok {
		return r.ID
	}
	return after
}

// parentID is the id of what a child resource is in, or of what an extension is on.
func parentID(id string) string {
	parts := strings.Split(id, "/")
	if len(parts) < 3 {
		return ""
	}
	parts = parts[:len(parts)-2]
	if n := len(parts); n >= 2 && strings.EqualFold(parts[n-2], "providers") {
		parts = parts[:n-2]
	}
	return strings.Join(parts, "/")
}

// references are the resources that r refers to by name: it waits for them.
func (d *Deployment) references(e *evaluator, r *Resource) []int {
	var out []int
	d.eachCall(r, func(c *call) {
		name := strings.ToLower(c.name)
		if (name != "reference" && name != "references") || len(c.args) == 0 || (len(c.args) > 1 && !d.template.symbolic) {
			return
		}
		v, err := e.eval(r.frame, c.args[0])
		if err != nil || v.Kind != jsontree.String {
			return // it is said again when the body is evaluated
		}
		for _, to := range d.find(v.Text) {
			out = append(out, slices.Index(d.Resources, to))
		}
	})
	return out
}

// eachCall visits every call in the body of r.
func (d *Deployment) eachCall(r *Resource, visit func(*call)) {
	var calls func(x expr)
	calls = func(x expr) {
		switch x := x.(type) {
		case *access:
			calls(x.of)
			calls(x.index)
		case *call:
			visit(x)
			for _, arg := range x.args {
				calls(arg)
			}
		}
	}
	var walk func(n value)
	walk = func(n value) {
		if n.Kind == jsontree.String && IsExpression(n.Text) {
			if x, err := parse(n.Text); err == nil {
				calls(x)
			}
		}
		for _, item := range n.Items {
			walk(item)
		}
		for _, m := range live(n) {
			inner := strings.EqualFold(m.Key, "template") && strings.EqualFold(r.Type, TypeDeployment) && r.inner()
			if !inner {
				walk(m.Value)
			}
		}
	}
	for _, m := range live(r.node) {
		if !strings.EqualFold(m.Key, "resources") && !strings.EqualFold(m.Key, "dependsOn") {
			walk(m.Value)
		}
	}
}

// find are the resources of the template with a symbolic name, an id or a name.
func (d *Deployment) find(word string) []*Resource {
	if found := d.symbols[strings.ToLower(word)]; found != nil {
		return found
	}
	var out []*Resource
	for _, r := range d.Resources {
		if strings.EqualFold(r.ID, word) || strings.EqualFold(r.short(), word) {
			return []*Resource{r}
		}
		if strings.EqualFold(r.Name, word) {
			out = append(out, r)
		}
	}
	return out
}

// checkCircles refuses resources that wait for each other.
func (d *Deployment) checkCircles() error {
	waits := make([]int, len(d.Resources))
	then := make([][]int, len(d.Resources))
	var ready []int
	for i, r := range d.Resources {
		waits[i] = len(r.DependsOn)
		for _, j := range r.DependsOn {
			then[j] = append(then[j], i)
		}
		if waits[i] == 0 {
			ready = append(ready, i)
		}
	}
	done := 0
	for ; len(ready) > 0; done++ {
		i := ready[0]
		ready = ready[1:]
		for _, j := range then[i] {
			if waits[j]--; waits[j] == 0 {
				ready = append(ready, j)
			}
		}
	}
	if done == len(d.Resources) {
		return nil
	}
	var names []string
	for i, r := range d.Resources {
		if waits[i] > 0 {
			names = append(names, r.ID)
		}
	}
	first := d.Resources[slices.IndexFunc(waits, func(n int) bool { return n > 0 })]
	return arm.Errorf(CodeInvalid, "deployment template validation failed: 'Circular dependency detected on resource: '%s'. Please see https://aka.ms/arm-syntax-resources for usage details.' These wait for each other: %s",
		first.ID, clip(strings.Join(names, ", "))).At(first.Path)
}
