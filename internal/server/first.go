package server

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
	"github.com/google/uuid"

	"goldsmith/internal/arm"
	"goldsmith/internal/document"
	"goldsmith/internal/identity"
	"goldsmith/internal/rbac"
	"goldsmith/internal/resource"
	"goldsmith/internal/store"
)

// Description is what other commands on the host need to know about a service.
// It is kept in the data directory, and made anew at every start.
type Description struct {
	URL          string `json:"url"`
	Authority    string `json:"certificateAuthority"` // PEM file; "" for an operator's own certificate
	Tenant       string `json:"tenantId"`
	Subscription string `json:"subscriptionId"`
	Storage      string `json:"storageSuffix"`
}

// Administrator is the service principal of the first start.
type Administrator struct {
	App string `json:"appId"`
}

// Files of the data directory that only its owner can read.
const (
	descriptionFile   = "service.json"
	administratorFile = "administrator.json"
	secretFile        = "administrator.secret"
)

// firstKey is the document that says that the first start has been.
const firstKey = "first-start"

// firstStart makes an administrator who owns the subscription, once.
func (s *Server) firstStart(ctx context.Context, settings store.Settings) error {
	authority := filepath.Join(s.cfg.Data, authorityFile)
	if s.settings.Certificate != "" {
		authority = ""
	}
	err := keep(s.cfg.Data, descriptionFile, Description{
		URL: s.settings.URL, Authority: authority, Tenant: settings.TenantID, Subscription: settings.SubscriptionID, Storage: s.settings.StorageSuffix,
	})
	if err != nil {
		return err
	}
	marks := s.db.Documents("service")
	if _, err := marks.Get(ctx, firstKey); !arm.IsCode(err, arm.CodeNotFound) {
		return err
	}
	directory := s.tenant.Directory()
	p, err := directory.Find(ctx, "administrator")
	if arm.IsCode(err, arm.CodeNotFound) { // else a first start that did not get to its end
		p, err = directory.Create(ctx, identity.Principal{Kind: identity.ServicePrincipal, Name: "administrator"})
	}
	if err != nil {
		return err
	}
	if err := Assign(ctx, s.db.Resources(), "/subscriptions/"+settings.SubscriptionID, settings.SubscriptionID, rbac.Owner, p); err != nil {
		return err
	}
	secret, err := directory.ResetSecret(ctx, p.ID, identity.DefaultSecretLifetime)
	if err != nil {
		return err
	}
	if err := keep(s.cfg.Data, administratorFile, Administrator{App: p.App}); err != nil {
		return err
	}
	if err := keepSecret(s.cfg.Data, secret); err != nil {
		return err
	}
	if _, err := marks.Put(ctx, firstKey, json.RawMessage(`{}`), document.Condition{}); err != nil {
		return err
	}
	fmt.Fprintf(s.cfg.Notice, `This is the first start. It has made a tenant with one subscription, a certificate
authority, and an administrator who owns the subscription.

  address        %s
  tenant         %s
  subscription   %s
  authority      %s
  administrator  %s (its secret is in %s)

Next, in another terminal:

  goldsmith azure-cli setup       # makes az use this service, and signs in
  az group create --name images --location westus2

`, s.settings.URL, settings.TenantID, settings.SubscriptionID, orText(authority, "the operator's"), p.App, AdministratorSecret(s.cfg.Data))
	return nil
}

func orText(s, def string) string {
	if s == "" {
		return def
	}
	return s
}

// Assign gives a principal a role at a scope. The same again changes nothing.
func Assign(ctx context.Context, resources resource.Store, scope, subscription, role string, p identity.Principal) error {
	// The name follows from what is assigned, so that a second try finds the first.
	name := uuid.NewSHA1(uuid.NameSpaceURL, []byte(scope+"\n"+role+"\n"+p.ID)).String()
	properties, err := json.Marshal(map[string]any{
		"roleDefinitionId": "/subscriptions/" + subscription + "/providers/" + rbac.TypeRole + "/" + role,
		"principalId":      p.ID, "principalType": p.Kind, "scope": scope, "condition": nil,
	})
	if err != nil {
		return arm.Errorf(arm.CodeInternal, "encode a role assignment: %w", err)
	}
	_, _, err = resources.Put(ctx, resource.Record{
		ID: scope + "/providers/" + rbac.TypeAssignment + "/" + name, Type: rbac.TypeAssignment, Name: name, Properties: properties,
	}, resource.Condition{IfNoneMatch: true})
	if arm.IsCode(err, arm.CodePreconditionFailed) {
		return nil
	}
	return err
}

// keep writes a file that only the owner of the data directory can read.
func keep(dir, name string, v any) error {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return arm.Errorf(arm.CodeInternal, "encode %s: %w", name, err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, name), append(body, '\n'), 0o600); err != nil {
		return arm.Errorf(arm.CodeInternal, "write %s: %w", name, err)
	}
	return nil
}

// ReadDescription reads what the service of a data directory says about itself.
// The error is CodeNotFound when none was ever started on it.
func ReadDescription(dir string) (d Description, err error) {
	return d, recall(dir, descriptionFile, &d)
}

// ReadAdministrator reads who the administrator of a data directory's service is.
func ReadAdministrator(dir string) (a Administrator, err error) {
	return a, recall(dir, administratorFile, &a)
}

func recall(dir, name string, v any) error {
	body, err := os.ReadFile(filepath.Join(dir, name))
	if os.IsNotExist(err) {
		return arm.Errorf(arm.CodeNotFound, "%s has no %s: goldsmith serve makes it at its first start", dir, name)
	}
	if err != nil {
		return arm.Errorf(arm.CodeUsage, "read %s: %w", name, err)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return arm.Errorf(arm.CodeCorrupt, "%s does not decode: %w", filepath.Join(dir, name), err)
	}
	return nil
}

// RenewAdministrator keeps a new secret of the administrator; that of any other
// principal is left to its holder.
func RenewAdministrator(dir, app, secret string) error {
	a, err := ReadAdministrator(dir)
	if arm.IsCode(err, arm.CodeNotFound) || err == nil && a.App != app {
		return nil
	}
	if err != nil {
		return err
	}
	return keepSecret(dir, secret)
}

// AdministratorSecret is the file with the administrator's secret.
func AdministratorSecret(dir string) string { return filepath.Join(dir, secretFile) }

func keepSecret(dir, secret string) error {
	if err := renameio.WriteFile(AdministratorSecret(dir), []byte(secret+"\n"), 0o600); err != nil {
		return arm.Errorf(arm.CodeInternal, "keep the administrator's secret: %w", err)
	}
	return nil
}
