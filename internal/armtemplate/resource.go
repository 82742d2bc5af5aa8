package armtemplate

import (
	"slices"
	"strconv"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/jsontree"
)

// Resource is a resource that a template makes.
type Resource struct {
	ID         string // full resource id
	Type       string // full type, as the template writes it
	Name       string // all of its names, with slashes
	APIVersion string
	Symbol     string // in languageVersion 2
	Path       string // of the resource in the template
	Existing   bool   // the template only refers to it
	Condition  bool   // false: it is not deployed
	DependsOn  []int  // places in Deployment.Resources

	d      *Deployment
	node   value
	frame  frame
	loop   string // name of the copy loop, "" for none
	parent *Resource
	after  []string // what dependsOn says
}

// TypeDeployment is the type of nested deployments.
const TypeDeployment = "Microsoft.Resources/deployments"

// aside are the members of a resource in a template that are not part of its body.
var aside = []string{"name", "type", "apiVersion", "dependsOn", "condition", "copy", "comments", "metadata", "resources", "scope", "existing", "resourceGroup", "subscriptionId", "asserts", "import", "extension"}

// expand makes the resources of the template, copies unrolled and children beside
// their parents.
func (d *Deployment) expand() error {
	e := d.evaluator(nil)
	return d.expandAll(e, frame{path: "resources"}, d.template.root.Fold("resources"), nil)
}

func (d *Deployment) expandAll(e *evaluator, f frame, n value, parent *Resource) error {
	for i, item := range n.Items {
		if err := d.expandOne(e, f.at(item, f.path+"["+strconv.Itoa(i)+"]"), item, "", parent); err != nil {
			return err
		}
	}
	for _, m := range live(n) {
		if err := d.expandOne(e, f.at(m.Value, dot(f.path, m.Key)), m.Value, m.Key, parent); err != nil {
			return err
		}
	}
	return nil
}

func (d *Deployment) expandOne(e *evaluator, f frame, n value, symbol string, parent *Resource) error {
	if n.Kind != jsontree.Object {
		return f.invalid("a resource must be an object, not %s", n.Kind)
	}
	c := n.Fold("copy")
	if isNull(c) {
		return d.add(e, f, n, symbol, "", parent)
	}
	at := f.at(c, f.path+".copy")
	name := c.Fold("name")
	if name == nil || name.Kind != jsontree.String {
		return at.invalid("the copy loop of a resource needs a 'name'")
	}
	loopName, err := e.word(at, name, "name")
	if err != nil {
		return err
	}
	count, err := e.count(at, c)
	if err != nil {
		return f.early(err)
	}
	first := len(d.Resources)
	for turn := range count {
		inner := f
		inner.loops = append(slices.Clone(f.loops), loop{loopName, turn})
		if err := d.add(e, inner, n, symbol, loopName, parent); err != nil {
			return err
		}
	}
	return d.batch(e, at, c, first)
}

// batch makes the resources from first on wait for each other as a serial copy
// loop asks: batchSize of them at a time.
func (d *Deployment) batch(e *evaluator, f frame, c value, first int) error {
	mode := c.Fold("mode")
	if mode == nil || strings.EqualFold(mode.Text, "parallel") {
		return nil
	}
	if !strings.EqualFold(mode.Text, "serial") {
		return f.invalid("the mode of a copy loop is 'parallel' or 'serial', not '%s'", clip(mode.Text))
	}
	size := 1
	if b := c.Fold("batchSize"); b != nil {
		v, err := e.tree(f.at(b, f.path+".batchSize"), b)
		if err != nil {
			return f.early(err)
		}
		n, ok := whole(v)
		if !ok || n < 1 || n > maxCopies {
			return f.invalid("the batchSize of a copy loop is a whole number from 1 to %d", maxCopies)
		}
		size = int(n)
	}
	for i := first + size; i < len(d.Resources); i++ {
		start := first + ((i-first)/size-1)*size
		for j := start; j < start+size; j++ {
			d.Resources[i].DependsOn = append(d.Resources[i].DependsOn, j)
		}
	}
	return nil
}

// word is a string that must be known before the deployment runs.
func (e *evaluator) word(f frame, n value, name string) (string, error) {
	at := f.at(n, dot(f.path, name))
	v, err := e.tree(at, n)
	if err != nil {
		return "", at.early(err)
	}
	if v.Kind != jsontree.String {
		return "", at.fail("'%s' must be a string, not %s", name, v.Kind)
	}
	return v.Text, nil
}

// member is a member of a resource that must be a string; "" when it is not there.
func (e *evaluator) optional(f frame, n value, name string) (string, error) {
	m := n.Fold(name)
	if isNull(m) {
		return "", nil
	}
	return e.word(f, m, name)
}

// add makes one resource, and those inside it.
func (d *Deployment) add(e *evaluator, f frame, n value, symbol, loopName string, parent *Resource) error {
	if len(d.Resources) >= maxResources {
		return f.invalid("the template has more than %d resources", maxResources)
	}
	r := &Resource{Symbol: symbol, Path: f.path, Condition: true, d: d, node: n, frame: f, loop: loopName, parent: parent}
	var err error
	if c := n.Fold("condition"); c != nil {
		if r.Condition, err = e.holds(f.at(c, f.path+".condition"), c); err != nil {
			return err
		}
	}
	if parent != nil && !parent.Condition {
		r.Condition = false
	}
	if x := n.Fold("existing"); x != nil {
		r.Existing = truth(x)
	}
	for _, m := range []struct {
		name string
		to   *string
	}{{"type", &r.Type}, {"name", &r.Name}, {"apiVersion", &r.APIVersion}} {
		if n.Fold(m.name) == nil && (m.name != "apiVersion" || !r.Existing) {
			return f.invalid("the template resource has no '%s'", m.name)
		}
		if *m.to, err = e.optional(f, n, m.name); err != nil {
			if !r.Condition && parent == nil {
				return nil // what is not deployed need not have a name
			}
			return err
		}
	}
	if parent != nil {
		r.Type, r.Name = parent.Type+"/"+r.Type, parent.Name+"/"+r.Name
	}
	if err := r.place(e); err != nil {
		return err
	}
	if r.after, err = r.dependencies(e); err != nil {
		return err
	}
	d.Resources = append(d.Resources, r)
	if symbol != "" {
		d.symbols[strings.ToLower(symbol)] = append(d.symbols[strings.ToLower(symbol)], r)
	}
	if children := n.Fold("resources"); children != nil {
		return d.expandAll(e, f.at(children, f.path+".resources"), children, r)
	}
	return nil
}

// place gives the resource its id.
func (r *Resource) place(e *evaluator) error {
	f, env := r.frame, r.d.env
	segments, names := strings.Split(r.Type, "/"), strings.Split(r.Name, "/")
	if len(segments) < 2 || !strings.Contains(segments[0], ".") {
		return f.invalid("'%s' is not a resource type like 'Microsoft.Network/virtualNetworks'", clip(r.Type))
	}
	if r.Condition && (len(segments)-1 != len(names) || slices.Contains(names, "")) {
		return f.invalid("the template resource '%s' for type '%s' at line '%d' and column '%d' has incorrect segment lengths. A nested resource type must have identical number of segments as its resource name. A root resource type must have segment length one greater than its resource name. Please see https://aka.ms/arm-syntax-resources for usage details.", clip(r.Name), clip(r.Type), f.place.Line, f.place.Column)
	}
	base := "/subscriptions/" + env.Subscription
	if env.Group != nil && !strings.EqualFold(r.Type, typeGroup) {
		base = arm.GroupID(env.Subscription, env.Group.Name)
	}
	subscription, err := e.optional(f, r.node, "subscriptionId")
	if err != nil {
		return err
	}
	group, err := e.optional(f, r.node, "resourceGroup")
	if err != nil {
		return err
	}
	if subscription == "" {
		subscription = env.Subscription
	} else if group == "" {
		base = "/subscriptions/" + subscription
	}
	if group != "" {
		base = arm.GroupID(subscription, group)
	}
	scope, err := e.optional(f, r.node, "scope")
	switch {
	case err != nil:
		return err
	case scope == "/":
		base = ""
	case strings.HasPrefix(scope, "/"):
		base = strings.TrimSuffix(scope, "/")
	case scope != "":
		base += "/providers/" + scope
	}
	r.ID = joinID(base, r.Type, names)
	if i := slices.IndexFunc(segments, func(s string) bool { return strings.EqualFold(s, "providers") }); i > 0 && i < len(names) {
		r.Type = names[i-1] + "/" + strings.Join(segments[i+1:], "/")
	}
	return nil
}

func (r *Resource) dependencies(e *evaluator) ([]string, error) {
	n := r.node.Fold("dependsOn")
	if isNull(n) {
		return nil, nil
	}
	f := r.frame.at(n, r.frame.path+".dependsOn")
	v, err := e.tree(f, n)
	if err != nil {
		return nil, f.early(err)
	}
	if v.Kind != jsontree.Array {
		return nil, f.invalid("'dependsOn' must be an array, not %s", v.Kind)
	}
	var out []string
	for _, item := range v.Items {
		if item.Kind != jsontree.String {
			return nil, f.invalid("'dependsOn' holds %s: names and ids of resources are strings", item.Kind)
		}
		out = append(out, item.Text)
	}
	return out, nil
}

// Body is the resource as it is sent to its provider: what the template says of it,
// evaluated. Without a Runtime, strings that need one are their expression.
func (r *Resource) Body(rt Runtime) (*jsontree.Node, error) {
	e := r.d.evaluator(rt)
	e.partial = rt == nil
	out := object()
	for _, m := range live(r.node) {
		if slices.ContainsFunc(aside, func(s string) bool { return strings.EqualFold(s, m.Key) }) {
			continue
		}
		f := r.frame.at(m.Value, dot(r.frame.path, m.Key))
		v, err := r.member(e, f, m)
		if err != nil {
			return nil, err
		}
		out.Members = append(out.Members, jsontree.Member{Key: m.Key, Value: v, Line: m.Line, Column: m.Column})
	}
	return out, nil
}

func (r *Resource) member(e *evaluator, f frame, m jsontree.Member) (value, error) {
	template := m.Value.Fold("template")
	if !strings.EqualFold(r.Type, TypeDeployment) || !strings.EqualFold(m.Key, "properties") || template == nil {
		return e.tree(f, m.Value)
	}
	// The template of a nested deployment is evaluated there, unless it says that
	// its expressions are those of the outer one.
	v, err := e.tree(f, with(m.Value, "template", nullValue()))
	if err != nil {
		return nil, err
	}
	if !r.inner() {
		f.outer = true
		if template, err = e.tree(f.at(template, f.path+".template"), template); err != nil {
			return nil, err
		}
	}
	return with(v, "template", template), nil
}

// inner reports whether a nested deployment evaluates its template itself.
func (r *Resource) inner() bool {
	scope := r.node.Fold("properties").Fold("expressionEvaluationOptions").Fold("scope")
	return scope != nil && strings.EqualFold(scope.Text, "inner")
}
