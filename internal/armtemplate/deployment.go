package armtemplate

import (
	"strings"
	"time"

	"goldsmith/internal/jsontree"
)

// Environment is what expressions know of where a template is deployed.
type Environment struct {
	Subscription     string // GUID
	SubscriptionName string
	Tenant           string // GUID
	Group            *Group // nil for a deployment of a subscription
	Name             string // of the deployment
	Location         string // of a deployment of a subscription
	Mode             string // "Incremental" or "Complete"
	Endpoint         string // address of the resource manager, "https://host:port/"
	StorageSuffix    string // of the addresses of storage accounts
	Time             time.Time
	NewGUID          func() string // nil when newGuid() cannot be called
}

// Group is the resource group of a deployment.
type Group struct {
	Name, Location string
	Tags           map[string]string
}

// Deployment is a template with its parameters. It does not change: its resources
// may be evaluated side by side.
type Deployment struct {
	// Resources are those that the template makes, copies unrolled, in the order
	// of the template.
	Resources []*Resource

	template *Template
	env      Environment
	values   map[string]value // of parameters, by lower-case name
	symbols  map[string][]*Resource
}

// Runtime answers what only a running deployment knows. Its errors end the
// evaluation.
type Runtime interface {
	// Reference is the resource at id, read with a version of its type: its
	// properties, or all of it when full.
	Reference(id, apiVersion string, full bool) (*jsontree.Node, error)
	// List is the answer of an action like listKeys. body is nil for none.
	List(action, id, apiVersion string, body *jsontree.Node) (*jsontree.Node, error)
}

// Bind gives a template its parameters: an object of {"value": ...}, or nil. It
// evaluates all but the bodies of resources and the outputs.
func (t *Template) Bind(env Environment, given *jsontree.Node) (*Deployment, error) {
	if isNull(given) {
		given = object()
	}
	d := &Deployment{template: t, env: env, values: map[string]value{}, symbols: map[string][]*Resource{}}
	if given.Kind != jsontree.Object {
		return nil, frame{}.at(given, "parameters").invalid("the parameters must be an object, not %s", given.Kind)
	}
	if err := d.bind(given); err != nil {
		return nil, err
	}
	if err := d.expand(); err != nil {
		return nil, err
	}
	return d, d.order()
}

func (d *Deployment) evaluator(rt Runtime) *evaluator {
	return &evaluator{d: d, runtime: rt, done: map[string]value{}}
}

// Parameters are the values of all parameters as they may be shown:
// {"NAME": {"type": T, "value": V}}, without the value of a secret.
func (d *Deployment) Parameters() *jsontree.Node { return d.parameters(true, false) }

// Given are the values of all parameters in the form that Bind takes. Secrets are
// in it, unless open is asked for.
func (d *Deployment) Given(open bool) *jsontree.Node { return d.parameters(false, !open) }

func (d *Deployment) parameters(typed, secrets bool) value {
	out := object()
	for _, p := range d.template.parameters {
		in := object()
		if typed {
			in = with(in, "type", text(types[strings.ToLower(p.typ)]))
		}
		v := d.values[strings.ToLower(p.name)]
		if p.secret && !secrets {
			if !typed {
				continue
			}
		} else if !isNull(v) || !typed {
			in = with(in, "value", v)
		}
		out.Members = append(out.Members, jsontree.Member{Key: p.name, Value: in})
	}
	return out
}

// SecretTexts are the strings in the values of secure parameters, for hiding them
// wherever they come to stand. Empty ones are left out.
func (d *Deployment) SecretTexts() []string {
	var out []string
	var walk func(value)
	walk = func(v value) {
		if v.Kind == jsontree.String && v.Text != "" {
			out = append(out, v.Text)
		}
		for _, i := range v.Items {
			walk(i)
		}
		for _, m := range live(v) {
			walk(m.Value)
		}
	}
	for _, name := range d.template.Secrets() {
		walk(d.values[strings.ToLower(name)])
	}
	return out
}

// Secret reports whether the deployment has parameters that must not be kept.
func (d *Deployment) Secret() bool { return len(d.template.Secrets()) > 0 }

// Outputs evaluates the outputs as they are shown: {"NAME": {"type", "value"}}.
// Outputs whose condition does not hold are left out, and so are the values of
// secrets. Without a Runtime, those that need one are their expression.
func (d *Deployment) Outputs(rt Runtime) (*jsontree.Node, error) {
	e := d.evaluator(rt)
	e.partial = rt == nil
	out := object()
	for _, m := range d.template.outputs {
		f := frame{}.at(m.Value, dot("outputs", m.Key))
		if c := m.Value.Fold("condition"); c != nil {
			holds, err := e.holds(f.at(c, f.path+".condition"), c)
			if err != nil {
				return nil, err
			}
			if !holds {
				continue
			}
		}
		typ, err := d.template.resolve(f, m.Value)
		if err != nil {
			return nil, err
		}
		name := ""
		if n := typ.Fold("type"); n != nil {
			name = types[strings.ToLower(n.Text)]
		}
		if name == "" {
			return nil, f.invalid("the output '%s' needs a 'type': string, securestring, int, bool, object, secureobject or array", m.Key)
		}
		v, err := e.output(f, m)
		if err != nil {
			return nil, err
		}
		shown := object("type", text(name))
		if !isSecret(name) {
			shown = with(shown, "value", v)
		}
		out.Members = append(out.Members, jsontree.Member{Key: m.Key, Value: shown})
	}
	return out, nil
}

func (e *evaluator) output(f frame, m jsontree.Member) (value, error) {
	if c := m.Value.Fold("copy"); c != nil {
		made, err := e.copies(f.at(c, f.path+".copy"), list([]value{with(c, "name", text(m.Key))}))
		if err != nil {
			return nil, err
		}
		return made[0].Value, nil
	}
	v := m.Value.Fold("value")
	return e.tree(f.at(v, f.path+".value"), v)
}

// holds evaluates a condition.
func (e *evaluator) holds(f frame, n value) (bool, error) {
	v, err := e.tree(f, n)
	if err != nil {
		return false, f.early(err)
	}
	switch {
	case v.Kind == jsontree.Bool:
		return truth(v), nil
	case v.Kind == jsontree.String && (strings.EqualFold(v.Text, "true") || strings.EqualFold(v.Text, "false")):
		return strings.EqualFold(v.Text, "true"), nil
	}
	return false, f.fail("the condition must be true or false, not %s", v.Kind)
}
