package resources

import (
	"context"
	"encoding/json"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/resource"
)

const (
	featuresNamespace = "Microsoft.Features"
	typeFeature       = "Microsoft.Features/providers/features"
)

// knownFeatures are the features that are listed though nobody registered them.
var knownFeatures = [][2]string{{"Microsoft.VirtualMachineImages", "VirtualMachineTemplatePreview"}}

func (p *provider) features() armapi.Provider {
	v := []string{"2021-07-01", "2015-12-01"}
	return armapi.Provider{
		Namespace: featuresNamespace,
		Types: []armapi.Type{
			{Name: "features", Place: armapi.InSubscription, Versions: v, List: p.listFeatures},
			{Name: "providers/features", Place: armapi.InSubscription, Versions: v, Permission: "Microsoft.Features/providers/features",
				Get: p.getFeature, List: p.listFeatures,
				Actions: map[string]armapi.Action{"register": {Handle: p.registerFeature}, "unregister": {Handle: p.unregisterFeature}}},
		},
	}
}

// FeatureID is where the state of a feature is kept.
func FeatureID(subscription, namespace, name string) string {
	return "/subscriptions/" + subscription + "/providers/" + featuresNamespace + "/providers/" + namespace + "/features/" + name
}

func (p *provider) featureBody(namespace, name, state string) map[string]any {
	return map[string]any{
		"id": FeatureID(p.Subscription, namespace, name), "name": namespace + "/" + name, "type": typeFeature,
		"properties": map[string]string{"state": state},
	}
}

// state is a feature's state; one that nobody asked for is not registered.
func (p *provider) state(ctx context.Context, namespace, name string) (string, error) {
	rec, err := p.Store.Get(ctx, FeatureID(p.Subscription, namespace, name))
	if arm.IsCode(err, arm.CodeNotFound) {
		return "NotRegistered", nil
	}
	if err != nil {
		return "", err
	}
	return stateOf(rec)
}

func stateOf(rec resource.Record) (string, error) {
	var props struct {
		State string `json:"state"`
	}
	if err := json.Unmarshal(rec.Properties, &props); err != nil {
		return "", arm.Errorf(arm.CodeCorrupt, "the state of %s does not parse: %w", rec.ID, err)
	}
	return props.State, nil
}

func (p *provider) getFeature(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	state, err := p.state(ctx, r.Names[0], r.Name())
	return with(0, p.featureBody(r.Names[0], r.Name(), state), err)
}

// registerFeature registers at once. The feature of the image builder's preview
// registers its provider too, as the real service does.
func (p *provider) registerFeature(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	if err := p.setFeature(ctx, r, "Registered"); err != nil {
		return armapi.Response{}, err
	}
	for _, f := range knownFeatures {
		if strings.EqualFold(f[0], r.Names[0]) && strings.EqualFold(f[1], r.Name()) && p.Register != nil {
			if err := p.Register(ctx, f[0]); err != nil {
				return armapi.Response{}, err
			}
		}
	}
	return armapi.OK(p.featureBody(r.Names[0], r.Name(), "Registered")), nil
}

func (p *provider) unregisterFeature(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	return with(0, p.featureBody(r.Names[0], r.Name(), "Unregistered"), p.setFeature(ctx, r, "Unregistered"))
}

func (p *provider) setFeature(ctx context.Context, r *armapi.Request, state string) error {
	props, err := json.Marshal(map[string]string{"state": state})
	if err != nil {
		return err
	}
	_, _, err = p.Store.Put(ctx, resource.Record{
		ID: FeatureID(p.Subscription, r.Names[0], r.Name()), Type: typeFeature, Name: r.Name(), Properties: props,
	}, resource.Condition{})
	return err
}

func (p *provider) listFeatures(ctx context.Context, r *armapi.Request) (armapi.Response, error) {
	records, _, err := p.Store.List(ctx, resource.Query{Scope: "/subscriptions/" + p.Subscription + "/providers/" + featuresNamespace, Type: typeFeature})
	if err != nil {
		return armapi.Response{}, err
	}
	var list []map[string]any
	seen := map[string]bool{}
	add := func(namespace, name, state string) {
		key := strings.ToLower(namespace + "/" + name)
		if !seen[key] && (len(r.Names) == 0 || strings.EqualFold(r.Names[0], namespace)) {
			list = append(list, p.featureBody(namespace, name, state))
		}
		seen[key] = true
	}
	for _, rec := range records {
		state, err := stateOf(rec)
		if err != nil {
			return armapi.Response{}, err
		}
		parts := strings.Split(rec.ID, "/")
		add(parts[len(parts)-3], rec.Name, state)
	}
	for _, f := range knownFeatures {
		add(f[0], f[1], "NotRegistered")
	}
	return armapi.ListOf(r, list, ""), nil
}
