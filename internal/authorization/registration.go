package authorization

import (
	"context"
	"encoding/json"

	"goldsmith/internal/arm"
	"goldsmith/internal/preflight"
	"goldsmith/internal/resource"
)

// Types of the records that registrations are kept in.
const (
	TypeProvider = "Microsoft.Resources/providers"
	TypeFeature  = "Microsoft.Features/providers/features"
)

// registeredState is the state of a provider or feature that counts.
const registeredState = "Registered"

// RegistrationID is the id of the record that says whether the Image Builder
// service is registered in a subscription.
func RegistrationID(subscription string) string {
	return "/subscriptions/" + subscription + "/providers/" + preflight.Namespace
}

// FeatureID is the id of the record of the preview feature, which is registered
// for API versions up to 2019-05-01-preview.
func FeatureID(subscription string) string {
	return "/subscriptions/" + subscription + "/providers/Microsoft.Features/providers/" + preflight.Namespace + "/features/" + preflight.Feature
}

// Registered reports whether the Image Builder service is registered in a
// subscription for an API version: the preview feature up to
// 2019-05-01-preview, the resource provider later.
func Registered(ctx context.Context, resources resource.Store, subscription, apiVersion string) (bool, error) {
	id := RegistrationID(subscription)
	if preflight.ByService(apiVersion) {
		id = FeatureID(subscription)
	}
	rec, err := resources.Get(ctx, id)
	if arm.IsCode(err, arm.CodeNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return isRegistered(rec)
}

func isRegistered(rec resource.Record) (bool, error) {
	var p struct {
		RegistrationState string `json:"registrationState"` // of a provider
		State             string `json:"state"`             // of a feature
	}
	if err := json.Unmarshal(rec.Properties, &p); err != nil {
		return false, arm.Errorf(arm.CodeCorrupt, "the stored registration does not parse: %w", err).At(rec.ID)
	}
	return p.RegistrationState == registeredState || p.State == registeredState, nil
}

// Register registers the service in a subscription for an API version. made
// tells which records are new or changed.
func Register(ctx context.Context, resources resource.Store, subscription, apiVersion string) (made []string, err error) {
	records := []resource.Record{{
		ID: RegistrationID(subscription), Type: TypeProvider, Name: preflight.Namespace,
		Properties: json.RawMessage(`{"registrationState":"` + registeredState + `"}`),
	}}
	if preflight.ByService(apiVersion) {
		records = append(records, resource.Record{
			ID: FeatureID(subscription), Type: TypeFeature, Name: preflight.Feature,
			Properties: json.RawMessage(`{"state":"` + registeredState + `"}`),
		})
	}
	for _, rec := range records {
		have, err := resources.Get(ctx, rec.ID)
		if err == nil {
			if ok, err := isRegistered(have); err != nil || ok {
				if err != nil {
					return made, err
				}
				continue
			}
		} else if !arm.IsCode(err, arm.CodeNotFound) {
			return made, err
		}
		if _, _, err := resources.Put(ctx, rec, resource.Condition{}); err != nil {
			return made, err
		}
		made = append(made, rec.ID)
	}
	return made, nil
}
