package deployments

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/armapi"
	"goldsmith/internal/armtemplate"
	"goldsmith/internal/jsontree"
	"goldsmith/internal/resource"
)

// States of deployments, as they are on the wire.
const (
	accepted  = "Accepted"
	running   = "Running"
	succeeded = "Succeeded"
	failed    = "Failed"
	canceled  = "Canceled"
)

// kept is what a deployment needs to go on after a restart. It is never served.
type kept struct {
	Run        string          `json:"run"` // GUID of the request and of its operation
	Caller     armapi.Caller   `json:"caller"`
	Host       string          `json:"host"`
	Mode       string          `json:"mode"`
	Location   string          `json:"location,omitempty"`
	Time       time.Time       `json:"time"`
	Template   json.RawMessage `json:"template"`
	Parameters json.RawMessage `json:"parameters"` // all values but secrets
	Secret     bool            `json:"secret,omitempty"`
	Nesting    int             `json:"nesting,omitempty"` // how many deployments it is in
	Canceled   bool            `json:"canceled,omitempty"`
}

func (k kept) encode() (json.RawMessage, error) {
	raw, err := json.Marshal(k)
	if err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "encode a deployment: %w", err)
	}
	return raw, nil
}

func keptOf(rec resource.Record) (kept, error) {
	var k kept
	if err := json.Unmarshal(rec.Internal, &k); err != nil {
		return k, arm.Errorf(arm.CodeCorrupt, "the deployment %s does not parse: %w", rec.ID, err)
	}
	return k, nil
}

// served are the properties of a deployment.
type served struct {
	TemplateHash      string          `json:"templateHash"`
	Parameters        json.RawMessage `json:"parameters"`
	Mode              string          `json:"mode"`
	ProvisioningState string          `json:"provisioningState"`
	Timestamp         string          `json:"timestamp"`
	Duration          string          `json:"duration"`
	CorrelationID     string          `json:"correlationId"`
	Providers         []providerPart  `json:"providers"`
	Dependencies      []dependency    `json:"dependencies"`
	Outputs           json.RawMessage `json:"outputs,omitempty"`
	OutputResources   []idPart        `json:"outputResources,omitempty"`
	ValidatedResource []idPart        `json:"validatedResources,omitempty"`
	Error             *armapi.Fault   `json:"error,omitempty"`
}

type idPart struct {
	ID string `json:"id"`
}

type providerPart struct {
	Namespace     string     `json:"namespace"`
	ResourceTypes []typePart `json:"resourceTypes"`
}

type typePart struct {
	ResourceType string   `json:"resourceType"`
	Locations    []string `json:"locations"`
}

type target struct {
	ID           string `json:"id"`
	ResourceType string `json:"resourceType"`
	ResourceName string `json:"resourceName"`
}

type dependency struct {
	DependsOn []target `json:"dependsOn"`
	target
}

func targetOf(r *armtemplate.Resource) target { return target{r.ID, r.Type, r.Name} }

// shown is a deployment that begins at start.
func shown(s submission, state, run string, start time.Time) served {
	out := served{
		TemplateHash: s.template.Hash(), Parameters: s.deployment.Parameters().Append(nil), Mode: s.env.Mode, ProvisioningState: state,
		Timestamp: timestamp(start), Duration: "PT0S", CorrelationID: run, Providers: []providerPart{}, Dependencies: []dependency{},
	}
	for _, r := range s.deployment.Resources {
		if !r.Condition || r.Existing {
			continue
		}
		namespace, typ, _ := strings.Cut(r.Type, "/")
		i := slices.IndexFunc(out.Providers, func(p providerPart) bool { return strings.EqualFold(p.Namespace, namespace) })
		if i < 0 {
			i = len(out.Providers)
			out.Providers = append(out.Providers, providerPart{Namespace: namespace})
		}
		types := &out.Providers[i].ResourceTypes
		if !slices.ContainsFunc(*types, func(t typePart) bool { return strings.EqualFold(t.ResourceType, typ) }) {
			*types = append(*types, typePart{typ, []string{locationOf(r)}})
		}
		d := dependency{DependsOn: []target{}, target: targetOf(r)}
		for _, j := range r.DependsOn {
			d.DependsOn = append(d.DependsOn, targetOf(s.deployment.Resources[j]))
		}
		if len(d.DependsOn) > 0 {
			out.Dependencies = append(out.Dependencies, d)
		}
	}
	return out
}

// locationOf is the location of a resource as far as it is known beforehand.
func locationOf(r *armtemplate.Resource) string {
	body, err := r.Body(nil)
	if err != nil {
		return ""
	}
	if l := body.Fold("location"); l != nil && l.Kind == jsontree.String {
		return l.Text
	}
	return ""
}

func servedOf(rec resource.Record) (served, error) {
	var s served
	if err := json.Unmarshal(rec.Properties, &s); err != nil {
		return s, arm.Errorf(arm.CodeCorrupt, "the deployment %s does not parse: %w", rec.ID, err)
	}
	return s, nil
}

// update changes what is served of a deployment, as long as it is still that of a
// run.
func (p *provider) update(ctx context.Context, id, run string, change func(*served)) error {
	_, err := p.Store.Update(ctx, id, func(rec *resource.Record) error {
		k, err := keptOf(*rec)
		if err != nil {
			return err
		}
		if k.Run != run {
			return arm.Errorf(arm.CodeCanceled, "the deployment was replaced by another one")
		}
		s, err := servedOf(*rec)
		if err != nil {
			return err
		}
		change(&s)
		rec.Properties, err = json.Marshal(s)
		return err
	})
	return err
}

func timestamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

// duration is d in the form of ISO 8601.
func duration(d time.Duration) string { return fmt.Sprintf("PT%.7gS", max(0, d).Seconds()) }
