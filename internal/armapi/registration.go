package armapi

import (
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
)

// Namespaces and types that the front door itself speaks of.
const (
	resourcesNamespace = "Microsoft.Resources"
	featuresNamespace  = "Microsoft.Features"

	TypeGroup    = "Microsoft.Resources/resourceGroups"
	typeProvider = "Microsoft.Resources/providers"
)

// builtin is what every front door answers: the providers themselves and the
// state of operations.
func (a *API) builtin() Provider {
	return Provider{
		Namespace: resourcesNamespace,
		Types: []Type{
			{Name: "providers", Place: InTenant, Hidden: true, Open: true, Get: a.getProvider, List: a.listProviders},
			{Name: "subscriptions/providers", Place: InTenant, Hidden: true, Open: true, Get: a.getProvider, List: a.listProviders},
			{Name: "subscriptions/operationresults", Place: InTenant, Hidden: true, Open: true, Get: a.ops.result},
		},
	}
}

// everywhere is what every namespace has.
func (a *API) everywhere(namespace string) Provider {
	return Provider{
		Namespace: namespace,
		Types:     []Type{{Name: "locations/operations", Place: InSubscription, Hidden: true, Open: true, Get: a.ops.status}},
		Actions:   map[string]Action{"register": a.register(namespace, true), "unregister": a.register(namespace, false)},
	}
}

// ProviderID is where the registration of a namespace is kept.
func ProviderID(subscription, namespace string) string {
	return "/subscriptions/" + subscription + "/providers/" + namespace
}

// Registered reports whether the subscription has registered the namespace.
func (a *API) Registered(ctx context.Context, namespace string) (bool, error) {
	state, err := a.registrationState(ctx, namespace)
	return state == "Registered", err
}

func (a *API) registrationState(ctx context.Context, namespace string) (string, error) {
	rec, err := a.config.Resources.Get(ctx, ProviderID(a.config.Subscription, namespace))
	if arm.IsCode(err, arm.CodeNotFound) {
		if p := a.registry.providers[strings.ToLower(namespace)]; p != nil && p.MustRegister {
			return "NotRegistered", nil
		}
		return "Registered", nil
	}
	if err != nil {
		return "", err
	}
	var props struct {
		RegistrationState string `json:"registrationState"`
	}
	if err := json.Unmarshal(rec.Properties, &props); err != nil {
		return "", arm.Errorf(arm.CodeCorrupt, "the registration of %s does not parse: %w", namespace, err)
	}
	return props.RegistrationState, nil
}

// SetRegistered registers a namespace, or takes its registration away.
func (a *API) SetRegistered(ctx context.Context, namespace string, registered bool) error {
	state := "Registered"
	if !registered {
		state = "Unregistered"
	}
	props, err := json.Marshal(map[string]string{"registrationState": state})
	if err != nil {
		return err
	}
	_, _, err = a.config.Resources.Put(ctx, resource.Record{
		ID: ProviderID(a.config.Subscription, namespace), Type: typeProvider, Name: namespace, Properties: props,
	}, resource.Condition{})
	return err
}

// checkRegistered refuses writes in a namespace that is not registered.
func (a *API) checkRegistered(ctx context.Context, method string, rt route, namespace string) error {
	if method == http.MethodGet || method == http.MethodHead || method == http.MethodDelete || rt.typ == nil || strings.EqualFold(namespace, resourcesNamespace) {
		return nil
	}
	ok, err := a.Registered(ctx, namespace)
	if err != nil || ok {
		return err
	}
	refused := arm.Errorf(codeNotRegistered, "the subscription is not registered to use namespace '%s'. See https://aka.ms/rps-not-found for how to register subscriptions.", namespace).At(namespace)
	// Azure's SDKs, and Terraform with them, register what the first detail's target
	// names and try again. Without details they fail.
	refused.Details = []*arm.Error{arm.Errorf(codeNotRegistered, "%s", refused.Message).At(namespace)}
	return refused
}

// providerDocument is a provider as clients read it. They take the first
// version of a type that is no preview.
func (a *API) providerDocument(ctx context.Context, p *Provider) (map[string]any, error) {
	state, err := a.registrationState(ctx, p.Namespace)
	if err != nil {
		return nil, err
	}
	types := []map[string]any{}
	for _, t := range p.Types {
		if t.Hidden {
			continue
		}
		capabilities, locations := "None", []string{}
		if t.Tracked {
			capabilities = "SupportsTags, SupportsLocation"
			for _, l := range Locations {
				locations = append(locations, l.Display)
			}
		}
		types = append(types, map[string]any{
			"resourceType": t.Name, "locations": locations, "apiVersions": newestFirst(t.Versions), "capabilities": capabilities,
		})
	}
	policy := "RegistrationFree"
	if p.MustRegister {
		policy = "RegistrationRequired"
	}
	return map[string]any{
		"id": ProviderID(a.config.Subscription, p.Namespace), "namespace": p.Namespace,
		"registrationState": state, "registrationPolicy": policy, "resourceTypes": types,
	}, nil
}

func newestFirst(versions []string) []string {
	out := slices.Clone(versions)
	slices.SortFunc(out, func(a, b string) int { return strings.Compare(b, a) })
	if out == nil {
		out = []string{}
	}
	return out
}

func (a *API) getProvider(ctx context.Context, r *Request) (Response, error) {
	p := a.registry.providers[strings.ToLower(r.Name())]
	if p == nil {
		return Response{}, arm.Errorf(codeInvalidNamespace, "the resource namespace '%s' is invalid.", clip(r.Name()))
	}
	doc, err := a.providerDocument(ctx, p)
	return OK(doc), err
}

func (a *API) listProviders(ctx context.Context, r *Request) (Response, error) {
	all := []map[string]any{}
	for _, key := range slices.Sorted(maps.Keys(a.registry.providers)) {
		doc, err := a.providerDocument(ctx, a.registry.providers[key])
		if err != nil {
			return Response{}, err
		}
		all = append(all, doc)
	}
	return ListOf(r, all, ""), nil
}

// register answers POST .../providers/NS/register and /unregister.
func (a *API) register(namespace string, registered bool) Action {
	return Action{Handle: func(ctx context.Context, _ *Request) (Response, error) {
		if err := a.SetRegistered(ctx, namespace, registered); err != nil {
			return Response{}, err
		}
		doc, err := a.providerDocument(ctx, a.registry.providers[strings.ToLower(namespace)])
		return OK(doc), err
	}}
}

// timestamp is t as the documents of Azure show times.
func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.9999999Z") }
