package build

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/resource"
)

// Update is what a client changes of a template. What is nil stays.
type Update struct {
	Version    string            // API version of the request
	Operation  string            // id for the change, a lower-case GUID
	Tags       map[string]string // all tags from now on
	Identity   json.RawMessage   // user-assigned identities with null are removed
	Distribute json.RawMessage   // all targets, the ones that are there included
	VMProfile  json.RawMessage
}

// tagsOnly reports whether the update needs no provisioning.
func (u Update) tagsOnly() bool {
	return u.Identity == nil && u.Distribute == nil && u.VMProfile == nil
}

// UpdateTemplate changes a template. Tags change at once; anything else makes it
// Updating, and Serve provisions it. The error is CodeNotAllowed while another
// change goes on, CodeValidationFailed for a change that cannot be.
func (e *Engine) UpdateTemplate(ctx context.Context, id string, u Update) (rec resource.Record, pending bool, err error) {
	parsed, err := arm.ParseID(id)
	if err != nil {
		return rec, false, err
	}
	defer e.templates.lock(parsed)()
	rec, err = e.changeTemplate(ctx, id, func(r *resource.Record, s *templateState) error {
		switch s.state() {
		case StateCreating, StateUpdating, StateDeleting:
			return notAllowed("write", *s, nil).At(r.ID)
		}
		p, err := s.parts()
		if err != nil {
			return err
		}
		if u.Tags != nil {
			p.Tags, r.Tags = u.Tags, u.Tags
		}
		if u.tagsOnly() {
			s.Body, err = json.Marshal(p)
			return err
		}
		if err := u.apply(s, &p); err != nil {
			return err
		}
		s.State, s.Operation = StateUpdating, newOperation(u.Operation)
		r.Identity = p.Identity
		return nil
	})
	if err != nil || u.tagsOnly() {
		return rec, false, err
	}
	e.pending.add(rec.ID)
	return rec, true, nil
}

// apply changes what s holds. The body moves to the newer of the two API
// versions, because the older one may not have what is given.
func (u Update) apply(s *templateState, p *parts) error {
	version := newer(s.Version, u.Version)
	properties, err := convert(p.Properties, s.Version, version)
	if err != nil {
		return err
	}
	if u.Identity != nil {
		if p.Identity, err = mergeIdentity(p.Identity, u.Identity); err != nil {
			return err
		}
	}
	given := map[string]json.RawMessage{}
	if u.Distribute != nil {
		given["distribute"] = u.Distribute
	}
	if u.VMProfile != nil {
		given["vmProfile"] = u.VMProfile
	}
	raw, err := json.Marshal(given)
	if err != nil {
		return err
	}
	// What is given has the names of its own version.
	changed, err := convert(raw, u.Version, version)
	if err != nil {
		return err
	}
	for name := range given {
		properties[name] = changed[name]
	}
	if p.Properties, err = json.Marshal(properties); err != nil {
		return err
	}
	before, err := s.parse()
	if err != nil {
		return err
	}
	s.Version, s.Service = version, true
	if s.Body, err = json.Marshal(p); err != nil {
		return err
	}
	res := imagetemplate.Parse(s.Body, imagetemplate.Options{APIVersion: version, Service: true, NoIdentity: true})
	if res.Template == nil {
		return Problems(res)
	}
	return keepsTargets(before.Template, res.Template)
}

// convert is properties in the names of another version, by member.
func convert(properties json.RawMessage, from, to string) (map[string]json.RawMessage, error) {
	raw, err := imagetemplate.Serve(properties, from, to, imagetemplate.Status{})
	if err != nil {
		return nil, err
	}
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, arm.Errorf(arm.CodeCorrupt, "the properties of the template do not parse: %w", err)
	}
	delete(members, "exactStagingResourceGroup") // which only the service fills
	return members, nil
}

// newer is the younger of two API versions.
func newer(a, b string) string {
	all := imagetemplate.Versions()
	if slices.Index(all, b) > slices.Index(all, a) {
		return b
	}
	return a
}

// keepsTargets refuses an update that leaves out a distribution target.
func keepsTargets(before, after *imagetemplate.Template) error {
	for _, old := range before.Distribute {
		if !slices.ContainsFunc(after.Distribute, func(d imagetemplate.Distributor) bool {
			return strings.EqualFold(d.RunOutputName, old.RunOutputName)
		}) {
			return arm.Errorf(arm.CodeValidationFailed,
				"Validation failed: Distribute target with Runoutput name %s not found in the update request. Deleting a distribution target is not allowed.", old.RunOutputName)
		}
	}
	return nil
}

// mergeIdentity is an identity after a change: identities that are given as null
// are removed, others are added in the spelling of the change.
func mergeIdentity(before, change json.RawMessage) (json.RawMessage, error) {
	type identity struct {
		Type  string                     `json:"type"`
		Users map[string]json.RawMessage `json:"userAssignedIdentities,omitempty"`
	}
	var have, want identity
	if len(before) > 0 {
		if err := json.Unmarshal(before, &have); err != nil {
			return nil, arm.Errorf(arm.CodeCorrupt, "the identity of the template does not parse: %w", err)
		}
	}
	if err := json.Unmarshal(change, &want); err != nil {
		return nil, arm.Errorf(arm.CodeInvalidJSON, "the identity of the request does not parse: %w", err)
	}
	if strings.EqualFold(want.Type, "None") {
		return json.Marshal(identity{Type: "None"})
	}
	users := map[string]json.RawMessage{}
	maps.Copy(users, have.Users)
	for id, v := range want.Users {
		for old := range users {
			if strings.EqualFold(old, id) {
				delete(users, old)
			}
		}
		if string(v) != "null" {
			users[id] = json.RawMessage("{}")
		}
	}
	for id := range users {
		users[id] = json.RawMessage("{}") // ids are filled in anew
	}
	if want.Type == "" {
		want.Type = have.Type
	}
	if len(users) == 0 {
		return json.Marshal(identity{Type: "None"})
	}
	return json.Marshal(identity{Type: want.Type, Users: users})
}

// Problems is what is wrong with a template as one error: the first finding,
// with all of them as its details. nil when there is none.
func Problems(res imagetemplate.Result) error {
	var out *arm.Error
	for _, p := range res.Problems {
		if p.Severity != imagetemplate.SeverityError {
			continue
		}
		e := arm.Errorf(p.Code, "%s", p.Message).At(p.Pointer)
		if out == nil {
			out = arm.Errorf(p.Code, "%s", p.Message)
			out.Target = p.Pointer
		}
		out.Details = append(out.Details, e)
	}
	if out == nil {
		return nil
	}
	if len(out.Details) == 1 {
		out.Details = nil
	}
	return out
}
