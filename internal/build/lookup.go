package build

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/distribute"
	"goldsmith/internal/event"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/plan"
)

// rejection is why a template cannot be provisioned: code is its class as
// properties.provisioningError names it.
type rejection struct {
	code string
	err  error
}

func (r *rejection) Error() string { return r.err.Error() }
func (r *rejection) Unwrap() error { return r.err }

func reject(code string, err error) error {
	if err == nil {
		return nil
	}
	return &rejection{code: code, err: err}
}

// lookup is what a submission needs from the outside, and what it found.
type lookup struct {
	dir    string // relative artifact paths are relative to it
	source string // another base than the template's, "" for none
	create bool   // make the groups, galleries and definitions that are missing
	values map[string]plan.Value
	sink   event.Sink

	artifacts map[string]plan.Artifact
	base      plan.Base
}

// look finds what t builds from, freezes its artifacts and checks that it can
// be built and published. Nothing is left behind on error except content that
// garbage collection removes.
func (e *Engine) look(ctx context.Context, res imagetemplate.Result, l *lookup) error {
	t := res.Template
	if err := e.checkIdentities(t); err != nil {
		return err
	}
	src, err := e.resolveSource(ctx, t, l.source, l.sink)
	if err != nil {
		return reject(badSource(t.Source.Type), err)
	}
	l.base = src.Base
	if l.artifacts, err = e.freeze(ctx, t, l.dir, l.sink); err != nil {
		return err
	}
	// A plan of what is known already finds what cannot be built before anything
	// is created; the run plans again when the source's bytes are there. What this
	// engine cannot execute has no plan: its run is refused.
	if CheckExecutable(res) == nil {
		inputs, err := e.inputs(t, src.Base, l.artifacts, l.values)
		if err != nil {
			return err
		}
		_, warnings, problems := plan.New(t, inputs)
		if len(problems) > 0 {
			return reject("UnsupportedCustomizerType", joinProblems(problems))
		}
		for _, w := range warnings {
			l.sink.Emit(event.Event{Kind: event.Warning, Text: w})
		}
	}
	if err := e.checkNetwork(ctx, t, strings.EqualFold(string(src.Base.OS), "Windows")); err != nil {
		return reject("Other", err)
	}
	created := func(text string) { l.sink.Emit(event.Event{Kind: event.Info, Text: text}) }
	content := distribute.Content{OS: src.Base.OS, Generation: src.Base.Generation, DiskBytes: src.Base.DiskBytes}
	for _, target := range t.Distribute {
		if err := e.publisher.Prepare(ctx, []plan.Output{target}, content, t.Location, l.create, created); err != nil {
			return reject(badTarget(target.Type), err)
		}
	}
	return nil
}

func badSource(t imagetemplate.SourceType) string {
	switch t {
	case imagetemplate.PlatformImage:
		return "BadPIRSource"
	case imagetemplate.ManagedImage:
		return "BadManagedImageSource"
	case imagetemplate.SharedImageVersion:
		return "BadSharedImageVersionSource"
	case imagetemplate.ISO:
		return "BadISOSource"
	}
	return "BadSourceType"
}

func badTarget(t imagetemplate.DistributeType) string {
	if t == imagetemplate.ToSharedImage {
		return "BadSharedImageDistribute"
	}
	return "BadDistributeType"
}

// freeze fetches and freezes every artifact of t.
func (e *Engine) freeze(ctx context.Context, t *imagetemplate.Template, dir string, sink event.Sink) (map[string]plan.Artifact, error) {
	artifacts := map[string]plan.Artifact{}
	for _, ref := range plan.Artifacts(t) {
		frozen, err := e.freezer(t, dir, sink).Freeze(ctx, ref.URI, ref.SHA256)
		if err != nil {
			code := "NoCustomizerScript"
			if strings.HasPrefix(ref.Pointer, "/properties/validate") {
				code = "NoValidatorScript"
			}
			return nil, reject(code, fmt.Errorf("%s: %w", ref.Pointer, err))
		}
		artifacts[ref.URI] = plan.Artifact{URI: ref.URI, SHA256: frozen.SHA256, Size: frozen.Size}
	}
	return artifacts, nil
}

// identities fills principal and client ids into an identity object, for the
// managed identities that exist here.
func (e *Engine) identities(ctx context.Context, raw json.RawMessage) (json.RawMessage, error) {
	var identity struct {
		Type  string                     `json:"type"`
		Users map[string]json.RawMessage `json:"userAssignedIdentities,omitempty"`
	}
	if len(raw) == 0 {
		return raw, nil
	}
	if err := json.Unmarshal(raw, &identity); err != nil {
		return nil, arm.Errorf(arm.CodeCorrupt, "the identity of the template does not parse: %w", err)
	}
	for id := range identity.Users {
		rec, err := e.resources.Get(ctx, id)
		if arm.IsCode(err, arm.CodeNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		var known struct {
			PrincipalID string `json:"principalId,omitempty"`
			ClientID    string `json:"clientId,omitempty"`
		}
		if err := json.Unmarshal(rec.Properties, &known); err != nil {
			return nil, arm.Errorf(arm.CodeCorrupt, "the properties of %s do not parse: %w", rec.ID, err)
		}
		if identity.Users[id], err = json.Marshal(known); err != nil {
			return nil, err
		}
	}
	return json.Marshal(identity)
}
