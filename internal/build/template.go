package build

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/jsontree"
	"goldsmith/internal/plan"
	"goldsmith/internal/resource"
)

// Provisioning states of a template.
const (
	StateCreating  = "Creating"
	StateUpdating  = "Updating"
	StateSucceeded = "Succeeded"
	StateFailed    = "Failed"
	StateDeleting  = "Deleting"
)

// templateState is what is kept with a template resource beside its properties.
type templateState struct {
	Staging   staging                  `json:"staging"`
	Artifacts map[string]plan.Artifact `json:"artifacts"`      // by URI, frozen at submission
	Version   string                   `json:"apiVersion"`     // that of Body
	Body      json.RawMessage          `json:"body,omitempty"` // location, tags, identity and properties as submitted
	// Service is set for a template that came as a request: its artifacts are
	// addresses, and placeholders in it are plain text.
	Service      bool                             `json:"service,omitempty"`
	State        string                           `json:"state,omitempty"` // "" is StateSucceeded
	Problem      *imagetemplate.ProvisioningError `json:"problem,omitempty"`
	Code         arm.Code                         `json:"code,omitempty"` // of what Problem tells
	ExactVersion string                           `json:"exactVersion,omitempty"`
	// Operation is the last change that the service was asked for.
	Operation Operation `json:"operation,omitzero"`
}

// Operation is a change of a template that takes its time.
type Operation struct {
	ID        string    `json:"id"` // lower-case GUID
	StartedAt time.Time `json:"startedAt,omitzero"`
	EndedAt   time.Time `json:"endedAt,omitzero"` // zero while it goes on
}

// state is the provisioning state.
func (s templateState) state() string {
	if s.State == "" {
		return StateSucceeded
	}
	return s.State
}

// status is what is served beside the body.
func (s templateState) status() imagetemplate.Status {
	st := imagetemplate.Status{
		ProvisioningState: s.state(), ProvisioningError: s.Problem, ExactVersion: s.ExactVersion,
		SHA256: make(map[string]string, len(s.Artifacts)),
	}
	if s.state() != StateCreating {
		st.StagingGroup = s.Staging.Group
	}
	for uri, a := range s.Artifacts {
		st.SHA256[uri] = a.SHA256
	}
	return st
}

// decodeTemplate reads what only this program keeps with a template resource.
func decodeTemplate(r resource.Record) (templateState, error) {
	var s templateState
	if len(r.Internal) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(r.Internal, &s); err != nil {
		return s, arm.Errorf(arm.CodeCorrupt, "the record of %s does not parse: %w", r.ID, err)
	}
	if s.Body == nil { // kept by an older version of this program, with the body as properties
		var err error
		s.Body, err = json.Marshal(parts{Location: r.Location, Tags: r.Tags, Identity: r.Identity, Properties: r.Properties})
		if err != nil {
			return s, arm.Errorf(arm.CodeCorrupt, "the record of %s does not parse: %w", r.ID, err)
		}
	}
	return s, nil
}

// parts are the members of a template's body.
type parts struct {
	Location   string            `json:"location"`
	Tags       map[string]string `json:"tags,omitempty"`
	Identity   json.RawMessage   `json:"identity,omitempty"`
	Properties json.RawMessage   `json:"properties"`
}

// bodyLimits are far above what imagetemplate accepts.
var bodyLimits = jsontree.Limits{Bytes: 8 << 20, Depth: 200}

// split reads the members of a body, whose names compare without case in most
// API versions.
func split(body []byte, t *imagetemplate.Template) (parts, error) {
	root, err := jsontree.Parse(body, bodyLimits)
	if err != nil {
		return parts{}, arm.Errorf(arm.CodeCorrupt, "the body of the template does not parse: %w", err)
	}
	p := parts{Location: t.Location, Tags: t.Tags}
	if n := root.Fold("identity"); n != nil && n.Kind == jsontree.Object {
		p.Identity = n.Append(nil)
	}
	n := root.Fold("properties")
	if n == nil {
		return parts{}, arm.Errorf(arm.CodeCorrupt, "the body of the template has no properties")
	}
	p.Properties = n.Append(nil)
	return p, nil
}

// record is the resource record of a template: what parts say, served as s
// stands.
func (s templateState) record(id arm.ID, p parts) (resource.Record, error) {
	r := resource.Record{ID: id.String(), Type: typeTemplate, Name: id.Name, Location: p.Location, Tags: p.Tags, Identity: p.Identity}
	body, err := json.Marshal(p)
	if err != nil {
		return r, fmt.Errorf("encode the template's body: %w", err)
	}
	s.Body = body
	return r, s.keep(&r)
}

// keep writes s into r, and the properties as they are served from now on.
func (s templateState) keep(r *resource.Record) error {
	p, err := s.parts()
	if err != nil {
		return err
	}
	if r.Properties, err = imagetemplate.Serve(p.Properties, s.Version, s.Version, s.status()); err != nil {
		return err
	}
	if r.Internal, err = json.Marshal(s); err != nil {
		return fmt.Errorf("encode the template: %w", err)
	}
	return nil
}

// parts are those of the submitted body.
func (s templateState) parts() (parts, error) {
	var p parts
	if err := json.Unmarshal(s.Body, &p); err != nil {
		return p, arm.Errorf(arm.CodeCorrupt, "the stored body of the template does not parse: %w", err)
	}
	return p, nil
}

// parse is the template that s holds.
func (s templateState) parse() (imagetemplate.Result, error) {
	res := imagetemplate.Parse(s.Body, imagetemplate.Options{APIVersion: s.Version, Service: s.Service, NoIdentity: true})
	if res.Template == nil {
		return res, arm.Errorf(arm.CodeCorrupt, "the stored body of the template is no longer valid")
	}
	return res, nil
}

// changeTemplate lets change work on the state of a template and stores both.
func (e *Engine) changeTemplate(ctx context.Context, id string, change func(*resource.Record, *templateState) error) (resource.Record, error) {
	return e.resources.Update(ctx, id, func(r *resource.Record) error {
		s, err := decodeTemplate(*r)
		if err != nil {
			return err
		}
		if err := change(r, &s); err != nil {
			return err
		}
		return s.keep(r)
	})
}

// Served is a template's state for those who show it.
type Served struct {
	State     string
	Code      arm.Code // of the problem, "" without one
	Problem   *imagetemplate.ProvisioningError
	Operation Operation
	Version   string // API version that it was submitted in
}

// Describe is the state of a template resource.
func Describe(r resource.Record) (Served, error) {
	s, err := decodeTemplate(r)
	return Served{State: s.state(), Code: s.Code, Problem: s.Problem, Operation: s.Operation, Version: s.Version}, err
}

// ServeTemplate is the properties of a template as a client of an API version
// gets them, and its provisioning state. last is its newest run, nil when it was
// never run.
func ServeTemplate(r resource.Record, version string, last *imagetemplate.LastRun) (properties json.RawMessage, state string, err error) {
	s, err := decodeTemplate(r)
	if err != nil {
		return nil, "", err
	}
	p, err := s.parts()
	if err != nil {
		return nil, "", err
	}
	st := s.status()
	st.LastRun = last
	properties, err = imagetemplate.Serve(p.Properties, s.Version, version, st)
	return properties, s.state(), err
}

// same reports whether two bodies ask for the same, whatever their spelling of
// numbers, space and order.
func same(a, b parts) bool {
	return a.Location == b.Location && equalMaps(a.Tags, b.Tags) && equalJSON(a.Identity, b.Identity) && equalJSON(a.Properties, b.Properties)
}

func equalMaps(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || w != v {
			return false
		}
	}
	return true
}

// equalJSON compares two texts by their canonical form: members by name.
func equalJSON(a, b json.RawMessage) bool {
	return slices.Equal(canonical(a), canonical(b))
}

func canonical(raw json.RawMessage) []byte {
	if len(raw) == 0 {
		return nil
	}
	var v any
	if json.Unmarshal(raw, &v) != nil {
		return raw
	}
	out, err := json.Marshal(v)
	if err != nil {
		return raw
	}
	return out
}
