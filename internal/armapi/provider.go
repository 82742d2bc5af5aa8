package armapi

import (
	"context"
	"fmt"
	"strings"

	"goldsmith/internal/arm"
)

// Provider is a resource provider: a namespace with its resource types. It is a
// value; the handler asks nothing of it but its fields. Several Providers of one
// namespace are merged.
type Provider struct {
	Namespace string // "Microsoft.Compute"
	Types     []Type
	// Actions are POSTs on the namespace itself, below a subscription or the
	// tenant: ".../providers/Microsoft.Storage/checkNameAvailability".
	Actions map[string]Action
	// Works are the bodies of this provider's long-running operations, by kind.
	Works map[string]Work
	// MustRegister makes writes fail with MissingSubscriptionRegistration until
	// the subscription has registered the namespace. Others are registered from
	// the start and may be unregistered.
	MustRegister bool
	// Bare says for which api-versions errors have no "error" member around
	// them. nil is never.
	Bare func(version string) bool
	// Indent is put before each level of an answer's JSON; "" is compact.
	Indent string
	// ContentType of answers with a body; "" is "application/json; charset=utf-8".
	ContentType string
}

// Place says below what the resources of a type live. Values are or-ed.
type Place int

// The places of a type's resources.
const (
	InGroup        Place = 1 << iota // in a resource group, and listed for a group or a subscription
	InSubscription                   // directly in a subscription
	InTenant                         // in no subscription
	OnAnything                       // an extension: at the tenant, a subscription, a group or any resource
)

// Type is a resource type with what it answers to. A nil handler is 405.
type Type struct {
	Name     string   // below the namespace: "galleries/images"
	Versions []string // api-versions as providers advertise them, newest first; any other is accepted too
	Place    Place    // InGroup when 0
	// Tracked types have a location and tags and appear in lists of resources.
	Tracked bool
	// Hidden types are not advertised.
	Hidden bool
	// Lenient bodies may have unquoted keys, comments and line breaks in strings.
	Lenient bool
	// Open types are read by every authenticated caller, as far as their handlers
	// allow it.
	Open bool
	// Narrows says that List leaves out what is not Visible. Callers without
	// permission on a whole subscription then get what they may read.
	Narrows bool
	// Pattern is the regular expression of a name, anchored; "" is 1 to 260
	// characters without <>%&:\?/# and without a dot or blank at the end.
	Pattern string

	Get    Handler // GET and HEAD of a resource
	List   Handler // GET of a collection
	Put    Handler
	Patch  Handler
	Delete Handler
	// Actions are POSTs on a resource, by their last path segment in any case.
	Actions map[string]Action

	// Permission is what stands before "/read", "/write", "/delete" in the
	// permissions of this type; "" is "<namespace>/<name>".
	Permission string
}

// Action is a POST.
type Action struct {
	Handle Handler
	// Permission is the action that the caller must be allowed, "" for
	// "<type>/<name>/action".
	Permission string
	// Open actions are for every authenticated caller.
	Open bool
}

// Handler answers a request that was authenticated, and authorised for the
// action of its route. Its error becomes the answer: see Status.
type Handler func(ctx context.Context, r *Request) (Response, error)

// route is where a request ends.
type route struct {
	provider   *Provider
	typ        *Type // nil for an action of the namespace
	handle     Handler
	permission string // "" for no check
	list       bool
}

// registry finds providers and types in any case.
type registry struct {
	providers map[string]*Provider
	types     map[string]*Type // by lower-case "namespace/type"
	names     map[string]nameRule
	works     map[string]Work
}

func newRegistry(providers []Provider) (*registry, error) {
	g := &registry{providers: map[string]*Provider{}, types: map[string]*Type{}, names: map[string]nameRule{}, works: map[string]Work{}}
	for _, p := range providers {
		if err := g.add(p); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// add merges a provider into the registry.
func (g *registry) add(p Provider) error {
	key := strings.ToLower(p.Namespace)
	known := g.providers[key]
	if known == nil {
		known = &Provider{Namespace: p.Namespace, Actions: map[string]Action{}}
		g.providers[key] = known
	}
	known.MustRegister = known.MustRegister || p.MustRegister
	if p.Bare != nil {
		known.Bare = p.Bare
	}
	if p.Indent != "" {
		known.Indent = p.Indent
	}
	if p.ContentType != "" {
		known.ContentType = p.ContentType
	}
	for name, a := range p.Actions {
		known.Actions[name] = a
	}
	for _, t := range p.Types {
		if t.Place == 0 {
			t.Place = InGroup
		}
		if t.Permission == "" {
			t.Permission = p.Namespace + "/" + t.Name
		}
		typeKey := key + "/" + strings.ToLower(t.Name)
		if g.types[typeKey] != nil {
			return arm.Errorf(arm.CodeInternal, "the type %s/%s is there twice", p.Namespace, t.Name)
		}
		rule, err := newNameRule(t.Pattern)
		if err != nil {
			return fmt.Errorf("the name pattern of %s/%s: %w", p.Namespace, t.Name, err)
		}
		known.Types = append(known.Types, t)
		g.types[typeKey], g.names[typeKey] = &t, rule
	}
	for kind, work := range p.Works {
		if g.works[kind] != nil {
			return arm.Errorf(arm.CodeInternal, "the operation kind %s is there twice", kind)
		}
		g.works[kind] = work
	}
	return nil
}

// find is the route of a target. It puts the target's namespace and types into
// the casing of their registration.
func (g *registry) find(method string, t *target) (route, error) {
	p := g.providers[strings.ToLower(t.namespace)]
	if p == nil {
		return route{}, arm.Errorf(codeInvalidNamespace, "the resource namespace '%s' is invalid", t.namespace)
	}
	t.namespace = p.Namespace
	if method == "POST" && t.odd && len(t.types) == 1 && !t.inGroup() {
		for name, a := range p.Actions {
			if strings.EqualFold(name, t.types[0]) {
				return actionRoute(p, nil, p.Namespace+"/"+name, a), nil
			}
		}
	}
	types := t.types
	verb := ""
	if method == "POST" {
		if !t.odd {
			return route{}, notAllowed(method, t)
		}
		types, verb = types[:len(types)-1], types[len(types)-1]
	}
	key := strings.ToLower(p.Namespace + "/" + strings.Join(types, "/"))
	typ := g.types[key]
	if typ == nil {
		return route{}, arm.Errorf(codeInvalidType, "the resource type '%s' could not be found in the namespace '%s'", strings.Join(types, "/"), p.Namespace)
	}
	if !typ.Place.holds(t) {
		return route{}, arm.Errorf(codeInvalidType, "the resource type '%s/%s' does not exist at '%s'", p.Namespace, typ.Name, t.scope+"/")
	}
	copy(t.types, strings.Split(typ.Name, "/"))
	rule := g.names[key]
	for i, name := range t.names {
		if i == len(types)-1 && !rule.match(name) {
			return route{}, arm.Errorf(codeInvalidName, "'%s' is not a name for a resource of type '%s/%s'%s", clip(name), p.Namespace, typ.Name, rule.says())
		}
	}
	r := route{provider: p, typ: typ}
	switch {
	case verb != "":
		for name, a := range typ.Actions {
			if strings.EqualFold(name, verb) {
				return actionRoute(p, typ, typ.Permission+"/"+name, a), nil
			}
		}
		return route{}, arm.Errorf(codeInvalidType, "there is no action '%s' on resources of type '%s/%s'", clip(verb), p.Namespace, typ.Name)
	case t.odd && (method == "GET" || method == "HEAD"):
		r.handle, r.permission, r.list = typ.List, typ.Permission+"/read", true
	case t.odd:
	case method == "GET" || method == "HEAD":
		r.handle, r.permission = typ.Get, typ.Permission+"/read"
	case method == "PUT":
		r.handle, r.permission = typ.Put, typ.Permission+"/write"
	case method == "PATCH":
		r.handle, r.permission = typ.Patch, typ.Permission+"/write"
	case method == "DELETE":
		r.handle, r.permission = typ.Delete, typ.Permission+"/delete"
	}
	if r.handle == nil {
		return route{}, notAllowed(method, t)
	}
	if typ.Open && strings.HasSuffix(r.permission, "/read") {
		r.permission = ""
	}
	return r, nil
}

func actionRoute(p *Provider, t *Type, name string, a Action) route {
	r := route{provider: p, typ: t, handle: a.Handle, permission: a.Permission}
	if r.permission == "" {
		r.permission = name + "/action"
	}
	if a.Open {
		r.permission = ""
	}
	return r
}

// holds reports whether resources of this place are at the target's scope.
func (p Place) holds(t *target) bool {
	if p&OnAnything != 0 {
		return true
	}
	switch {
	case t.scope == "":
		return p&InTenant != 0
	case t.inGroup():
		return p&InGroup != 0 && t.plainScope()
	default:
		top := len(t.types) == 1 && t.odd // lists of a whole subscription
		return t.plainScope() && (p&InSubscription != 0 || (p&InGroup != 0 && top))
	}
}

func notAllowed(method string, t *target) error {
	return arm.Errorf(codeMethodNotAllowed, "the method %s is not offered for '%s/%s'", method, t.namespace, strings.Join(t.types, "/"))
}
