package preflight

import (
	"fmt"
	"strings"

	"goldsmith/internal/arm"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/rbac"
)

// Finding is one thing that keeps a template from being submitted or built.
type Finding struct {
	Code    arm.Code `json:"code"`
	Message string   `json:"message"`           // what is wrong, and what to do
	Pointer string   `json:"pointer,omitempty"` // JSON pointer of the template's field behind it, "" for none
	Need    *Need    `json:"need,omitempty"`    // the right that is missing, nil for other findings
}

// Report is what a preflight found.
type Report struct {
	APIVersion string    `json:"apiVersion"`
	Needs      []Need    `json:"needs"` // every right that is needed, granted or not
	Findings   []Finding `json:"findings"`
	// Registration says how the service is registered.
	Registration Registration `json:"registration"`
}

// Registration is how the service is registered in a subscription for an API
// version.
type Registration struct {
	Needed  string `json:"needed"`  // the feature or provider, as az names it
	Command string `json:"command"` // that registers it
}

// Feature is the preview feature whose registration counts up to
// 2019-05-01-preview.
const (
	Namespace = "Microsoft.VirtualMachineImages"
	Feature   = "VirtualMachineTemplatePreview"
)

// RegistrationFor is the registration that an API version asks for.
func RegistrationFor(apiVersion string) Registration {
	if ByService(apiVersion) {
		return Registration{
			Needed:  "the feature " + Namespace + "/" + Feature,
			Command: "az feature register --namespace " + Namespace + " --name " + Feature,
		}
	}
	return Registration{Needed: "the resource provider " + Namespace, Command: "az provider register -n " + Namespace}
}

// Texts of the real service.
const (
	notRegistered = "The subscription is not registered for the resource type 'imageTemplates'"
	cannotBeUsed  = "The assigned managed identity cannot be used. Please remove the existing one and re-assign a new identity. " +
		"For more troubleshooting steps go to https://aka.ms/azvmimagebuilderts."
	notAuthorized = "Not authorized to access the resource: %s. Please check the user assigned identity has the correct permissions. " +
		"For more details, go to https://aka.ms/azvmimagebuilderts."
)

// Codes of findings that are not about a right.
const (
	CodeNotRegistered arm.Code = "MissingSubscriptionRegistration"
	CodeBadIdentity   arm.Code = "ManagedIdentityCannotBeUsed"
)

// Options of Check.
type Options struct {
	// Unregistered is set when the service is not registered.
	Unregistered bool
	// Run leaves out what is needed at submission only.
	Run bool
}

// Check is the report on a template under a policy.
func Check(t *imagetemplate.Template, env Env, policy *rbac.Policy, o Options) Report {
	r := Report{APIVersion: t.APIVersion, Registration: RegistrationFor(t.APIVersion)}
	if o.Unregistered {
		r.Findings = append(r.Findings, Finding{
			Code:    CodeNotRegistered,
			Message: fmt.Sprintf("%s. register %s: %s", notRegistered, r.Registration.Needed, r.Registration.Command),
		})
	}
	r.identities(t, env, o)
	for _, n := range Needs(t, env) {
		if o.Run && n.Phase == AtSubmit {
			continue
		}
		r.Needs = append(r.Needs, n)
		if granted(policy, n) {
			continue
		}
		r.Findings = append(r.Findings, Finding{Code: arm.CodeUnauthorized, Message: n.message(), Pointer: n.Pointer, Need: &n})
	}
	return r
}

func granted(policy *rbac.Policy, n Need) bool {
	return policy != nil && n.Principal.Object != "" && policy.Check(n.Request()).Allowed
}

// Request is the question whether the right is granted.
func (n Need) Request() rbac.Request {
	return rbac.Request{Principal: n.Principal.Object, Groups: n.Principal.Groups, Action: n.Action, Scope: n.Scope, Data: n.Data}
}

// Err is the error of a missing right, of arm.CodeUnauthorized.
func (n Need) Err() error {
	return arm.Errorf(arm.CodeUnauthorized, "%s", n.message()).At(n.Pointer)
}

// message says that the right is missing, in the real service's words first.
func (n Need) message() string {
	var said string
	if n.Principal.Kind == Identity {
		said = fmt.Sprintf(notAuthorized, n.Scope)
	} else {
		said = rbac.ErrDenied(n.client(), n.Request()).(*arm.Error).Message
	}
	return fmt.Sprintf("%s %s lacks %s at %s, which it needs to %s", said, n.Principal, n.Action, n.Scope, n.Why)
}

// client is how an error of the real service names the principal.
func (n Need) client() string {
	if n.Principal.App != "" {
		return n.Principal.App
	}
	return n.Principal.Name
}

// identities finds identities that are not there.
func (r *Report) identities(t *imagetemplate.Template, env Env, o Options) {
	missing := func(id, pointer string) {
		if _, ok := env.Identities[strings.ToLower(id)]; !ok {
			r.Findings = append(r.Findings, Finding{Code: CodeBadIdentity, Pointer: pointer,
				Message: fmt.Sprintf("%s the identity %s does not exist: create it with az identity create, or name another one", cannotBeUsed, id)})
		}
	}
	id := TemplateIdentity(t, env).ID
	switch {
	case id == "" && !ByService(t.APIVersion):
		r.Findings = append(r.Findings, Finding{
			Code: arm.CodeValidationFailed, Pointer: "/identity",
			Message: "Managed identity is required for building this template using current API version",
		})
	case id != "" && !(o.Run && ByService(t.APIVersion)): // there it only reads blobs at submission
		missing(id, "/identity/userAssignedIdentities")
	}
	for i, id := range t.VMProfile.Identities {
		missing(id, fmt.Sprintf("/properties/vmProfile/userAssignedIdentities/%d", i))
	}
}

// OK reports whether nothing is in the way.
func (r Report) OK() bool { return len(r.Findings) == 0 }

// Missing are the rights that are not granted.
func (r Report) Missing() []Need {
	var missing []Need
	for _, f := range r.Findings {
		if f.Need != nil {
			missing = append(missing, *f.Need)
		}
	}
	return missing
}

// Err is all findings as one error, nil when there are none. Its message is the
// first finding's, in the real service's words, with the rest behind it; the
// details have each.
func (r Report) Err() error {
	if r.OK() {
		return nil
	}
	first := r.Findings[0]
	all := &arm.Error{Code: first.Code, Target: first.Pointer, Message: first.Message}
	for i, f := range r.Findings {
		all.Details = append(all.Details, &arm.Error{Code: f.Code, Message: f.Message, Target: f.Pointer})
		if i > 0 && f.Need != nil {
			all.Message += fmt.Sprintf("; also missing: %s at %s for %s (%s)", f.Need.Action, f.Need.Scope, f.Need.Principal, f.Pointer)
		} else if i > 0 {
			all.Message += "; also: " + f.Message
		}
	}
	all.Message += ". goldsmith check prints the roles that grant what is missing"
	return all
}
