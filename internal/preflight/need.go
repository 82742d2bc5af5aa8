// Package preflight tells, from a template alone, every right that submitting
// and building it needs, who needs it and why; what is missing of that under a
// policy; and the smallest roles that grant it. It is pure: no I/O, no clock.
package preflight

import (
	"strings"

	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/rbac"
)

// Kind is the kind of a principal.
type Kind string

// Kinds of principals.
const (
	Service  Kind = "service"  // the Image Builder's own service principal
	Identity Kind = "identity" // the template's user-assigned identity
	Caller   Kind = "caller"   // who submits the template
)

// Principal is who needs a right.
type Principal struct {
	Kind   Kind     `json:"kind"`
	Object string   `json:"objectId,omitempty"` // "" when it is not known
	App    string   `json:"appId,omitempty"`    // application or client id, "" when it is not known
	ID     string   `json:"id,omitempty"`       // resource id of an identity
	Name   string   `json:"name,omitempty"`     // what people call it
	Groups []string `json:"groups,omitempty"`   // object ids of groups that it is in beside those that the policy knows
}

// String is how a report names the principal.
func (p Principal) String() string {
	switch p.Kind {
	case Service:
		return "the Image Builder service principal (" + rbac.BuilderApp + ")"
	case Identity:
		if p.ID == "" {
			return "the template's identity, of which there is none"
		}
		return "the identity " + p.ID
	}
	if p.Name != "" {
		return p.Name
	}
	return "whoever submits the template"
}

// Phase says when a right is used.
type Phase int

// Phases.
const (
	Always   Phase = iota // at submission, and again by every run
	AtSubmit              // at submission only
)

// Need is one right.
type Need struct {
	Principal Principal `json:"principal"`
	Action    string    `json:"action"`
	Data      bool      `json:"data,omitempty"` // a data action
	Scope     string    `json:"scope"`          // resource id that the action is on
	// Grant is the widest scope that it makes sense to grant the right at: a
	// resource group, or a container or identity.
	Grant   string  `json:"grant"`
	Phase   Phase   `json:"phase"`
	Purpose Purpose `json:"purpose"`
	Why     string  `json:"why"`               // for people, in a few words
	Pointer string  `json:"pointer,omitempty"` // JSON pointer of the template's field that asks for it
}

// Purpose groups needs into roles.
type Purpose string

// Purposes. The first three make custom roles; a built-in role grants the rest.
const (
	Distribute Purpose = "distribute"
	Source     Purpose = "source"
	Network    Purpose = "network"

	Blobs      Purpose = "blobs"      // Storage Blob Data Reader
	BlobWrite  Purpose = "blob-write" // Storage Blob Data Contributor
	Identities Purpose = "identities" // Managed Identity Operator
	Staging    Purpose = "staging"    // Contributor
	Submit     Purpose = "submit"     // Contributor
)

// builtInFor is the built-in role that is granted for a purpose, "" for none.
func builtInFor(p Purpose) string {
	switch p {
	case Blobs:
		return "Storage Blob Data Reader"
	case BlobWrite:
		return "Storage Blob Data Contributor"
	case Identities:
		return "Managed Identity Operator"
	case Staging, Submit:
		return "Contributor"
	}
	return ""
}

// Blob is an address in a storage account of this installation.
type Blob struct {
	Account   string // resource id of the storage account
	Container string
	Open      bool // readable without a right: a public container, or a signature in the address
}

// Account is what the template's identity is here.
type Account struct{ Object, Client string }

// Env is what a template does not say itself.
type Env struct {
	Subscription string // of the template
	Group        string // resource group of the template
	Name         string // name of the template
	// Staging is the id of the staging group, "" before it has a name.
	Staging string
	// Identities has the principals of user-assigned identities by their id in
	// lower case; one that is not there does not exist.
	Identities map[string]Account
	// Blob tells whether an address lies in a storage account of ours; nil when
	// there are none.
	Blob func(uri string) (Blob, bool)
	// Caller is who submits, nil when that does not matter.
	Caller *Principal
	// OtherSource is set when the build starts from something else than the
	// template's source.
	OtherSource bool
}

// lastServiceVersion is the last API version in which the service principal
// works for a template.
const lastServiceVersion = "2019-05-01"

// ByService reports whether the service principal does the template's work (up
// to 2019-05-01-preview) and not its identity (from 2020-02-14 on).
func ByService(apiVersion string) bool {
	return apiVersion[:min(len(apiVersion), len(lastServiceVersion))] <= lastServiceVersion
}

// ServicePrincipal is the Image Builder's own.
func ServicePrincipal() Principal {
	return Principal{Kind: Service, Object: rbac.BuilderObject, App: rbac.BuilderApp, Name: rbac.BuilderName}
}

// TemplateIdentity is the template's identity, with an empty ID when it has
// none.
func TemplateIdentity(t *imagetemplate.Template, env Env) Principal {
	p := Principal{Kind: Identity}
	if t.Identity == nil || len(t.Identity.UserAssigned) == 0 {
		return p
	}
	p.ID = t.Identity.UserAssigned[0]
	a := env.Identities[strings.ToLower(p.ID)]
	p.Object, p.App = a.Object, a.Client
	p.Name = p.ID[strings.LastIndexByte(p.ID, '/')+1:]
	return p
}
