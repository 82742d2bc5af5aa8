package cli

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"goldsmith/internal/arm"
	"goldsmith/internal/authorization"
	"goldsmith/internal/build"
	"goldsmith/internal/identity"
	"goldsmith/internal/rbac"
	"goldsmith/internal/server"
)

func (a *app) principalCommand() *cobra.Command {
	return group("principal", "Manage who can use the service",
		a.principalCreate(), a.principalList(), a.principalReset(), a.principalDelete(),
		a.principalAddMember(), a.principalRemoveMember())
}

// withDirectory runs f on the tenant's principals. A running service sees the
// change with its next request.
func (a *app) withDirectory(ctx context.Context, f func(*identity.Directory, *build.Engine) error) error {
	return a.withEngine(ctx, func(e *build.Engine) error {
		return f(&identity.Directory{
			Principals: e.Database().Documents(identity.Principals), Memberships: e.Database().Documents(authorization.Memberships), Resources: e.Resources(),
		}, e)
	})
}

// principalFlags are the flags of goldsmith principal create.
type principalFlags struct {
	kind        string
	upn         string
	role        string
	scope       string
	groups      []string
	certificate string
	issuer      string
	subject     string
	lifetime    time.Duration
}

// credentials is what a new secret is shown as.
type credentials struct {
	Name     string `json:"displayName"`
	ObjectID string `json:"id"`
	App      string `json:"appId,omitempty"`
	Secret   string `json:"password,omitempty"`
	Tenant   string `json:"tenant"`
}

var credentialColumns = []Column[credentials]{
	{"name", func(c credentials) string { return c.Name }},
	{"object id", func(c credentials) string { return c.ObjectID }},
	{"app id", func(c credentials) string { return c.App }},
	{"secret", func(c credentials) string { return c.Secret }},
	{"tenant", func(c credentials) string { return c.Tenant }},
}

func (a *app) principalCreate() *cobra.Command {
	flags := principalFlags{kind: string(identity.ServicePrincipal)}
	format := FormatTable
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Add a service principal, user or group", Args: args(cobra.ExactArgs(1)),
		Long: `Add a principal to the tenant. A service principal gets a secret, which is shown
once, unless it signs in with a certificate or a subject of an external issuer.
Users sign in at an external issuer of the service's configuration.`,
		RunE: func(cmd *cobra.Command, list []string) error {
			return a.withDirectory(cmd.Context(), func(d *identity.Directory, e *build.Engine) error {
				c, err := createPrincipal(cmd.Context(), d, e, list[0], flags)
				if err != nil {
					return err
				}
				return WriteRecord(a.env.Stdout, format, credentialColumns, c)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.kind, "kind", flags.kind, "ServicePrincipal, User or Group")
	f.StringVar(&flags.upn, "user-name", "", "a user's name at sign-in, such as ada@example.org")
	f.StringVar(&flags.role, "role", "", "give it this role: a built-in role's name, or the GUID of any")
	f.StringVar(&flags.scope, "scope", "", "where the role holds (default the subscription)")
	f.StringArrayVar(&flags.groups, "group", nil, "make it a member of this group (repeatable)")
	f.StringVar(&flags.certificate, "certificate", "", "sign in with the key of the certificate in this PEM file")
	f.StringVar(&flags.issuer, "issuer", "", "external issuer whose --subject it is")
	f.StringVar(&flags.subject, "subject", "", "subject at --issuer")
	f.DurationVar(&flags.lifetime, "secret-lifetime", identity.DefaultSecretLifetime, "how long the secret can be used")
	formatFlag(f, &format)
	return cmd
}

func createPrincipal(ctx context.Context, d *identity.Directory, e *build.Engine, name string, flags principalFlags) (c credentials, err error) {
	p := identity.Principal{Kind: identity.Kind(flags.kind), Name: name, UPN: flags.upn}
	if (flags.issuer == "") != (flags.subject == "") {
		return c, arm.Errorf(arm.CodeUsage, "--issuer and --subject belong together")
	}
	if flags.issuer != "" {
		p.Federated = []identity.Subject{{Issuer: flags.issuer, Subject: flags.subject}}
	}
	for _, ref := range flags.groups {
		g, err := d.Find(ctx, ref)
		if err != nil {
			return c, err
		}
		if g.Kind != identity.Group {
			return c, arm.Errorf(arm.CodeUsage, "--group %s: %s is a %s", ref, g.Name, g.Kind)
		}
		p.Groups = append(p.Groups, g.ID)
	}
	var cert *x509.Certificate
	if flags.certificate != "" {
		if cert, err = readCertificate(flags.certificate); err != nil {
			return c, err
		}
	}
	role := ""
	if flags.role != "" {
		if role, err = builtInRole(flags.role); err != nil {
			return c, err
		}
	}
	settings, err := e.Database().Settings(ctx)
	if err != nil {
		return c, err
	}
	if p, err = d.Create(ctx, p); err != nil {
		return c, err
	}
	c = credentials{Name: p.Name, ObjectID: p.ID, App: p.App, Tenant: settings.TenantID}
	if cert != nil {
		if err := d.AddCertificate(ctx, p.ID, cert); err != nil {
			return c, err
		}
	} else if p.Kind == identity.ServicePrincipal && len(p.Federated) == 0 {
		if c.Secret, err = d.ResetSecret(ctx, p.ID, flags.lifetime); err != nil {
			return c, err
		}
	}
	if role == "" {
		return c, nil
	}
	scope := flags.scope
	if scope == "" {
		scope = "/subscriptions/" + settings.SubscriptionID
	} else if _, err := arm.ParseID(scope); err != nil {
		return c, err
	}
	return c, server.Assign(ctx, e.Resources(), scope, settings.SubscriptionID, role, p)
}

// builtInRole is the GUID of a role.
func builtInRole(name string) (string, error) {
	if r, ok := rbac.BuiltInRole(name); ok {
		return r.GUID(), nil
	}
	if uuid.Validate(name) == nil {
		return strings.ToLower(name), nil
	}
	return "", arm.Errorf(arm.CodeUsage, "--role %q is not a built-in role; give the GUID of a role of your own", name)
}

func readCertificate(path string) (*x509.Certificate, error) {
	body, err := os.ReadFile(path)
	if err != nil {
		return nil, arm.Errorf(arm.CodeUsage, "--certificate: %w", err)
	}
	for block, rest := pem.Decode(body); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, arm.Errorf(arm.CodeUsage, "--certificate %s: %w", path, err)
			}
			return cert, nil
		}
	}
	return nil, arm.Errorf(arm.CodeUsage, "--certificate %s: there is no certificate in it", path)
}

// principalView is a principal as lists show it: without what it signs in with.
type principalView struct {
	Name   string    `json:"displayName"`
	Kind   string    `json:"kind"`
	ID     string    `json:"id"`
	App    string    `json:"appId,omitempty"`
	SignIn string    `json:"signIn"`
	Until  time.Time `json:"until,omitzero"`
	Groups []string  `json:"groups,omitempty"` // names
}

func viewPrincipal(p identity.Principal, all []identity.Principal) principalView {
	v := principalView{Name: p.Name, Kind: string(p.Kind), ID: p.ID, App: p.App}
	for _, g := range all {
		if slices.Contains(p.Groups, g.ID) {
			v.Groups = append(v.Groups, g.Name)
		}
	}
	var how []string
	for _, c := range p.Credentials {
		if c.Certificate != nil {
			how = append(how, "certificate")
		} else {
			how = append(how, "secret")
		}
		if c.ExpiresAt.After(v.Until) {
			v.Until = c.ExpiresAt
		}
	}
	for _, f := range p.Federated {
		how = append(how, f.Issuer)
	}
	switch {
	case strings.HasPrefix(p.Origin, "/"):
		how = append(how, "managed identity")
	case p.Origin != "":
		how = append(how, p.Origin)
	}
	v.SignIn = strings.Join(how, ", ")
	return v
}

func (a *app) principalList() *cobra.Command {
	format := FormatTable
	cmd := &cobra.Command{
		Use: "list", Short: "List the tenant's principals", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withDirectory(cmd.Context(), func(d *identity.Directory, _ *build.Engine) error {
				all, err := d.List(cmd.Context())
				if err != nil {
					return err
				}
				views := make([]principalView, len(all))
				for i, p := range all {
					views[i] = viewPrincipal(p, all)
				}
				return WriteList(a.env.Stdout, format, []Column[principalView]{
					{"name", func(v principalView) string { return v.Name }},
					{"kind", func(v principalView) string { return v.Kind }},
					{"object id", func(v principalView) string { return v.ID }},
					{"app id", func(v principalView) string { return v.App }},
					{"signs in with", func(v principalView) string { return v.SignIn }},
					{"groups", func(v principalView) string { return strings.Join(v.Groups, ", ") }},
				}, views)
			})
		},
	}
	formatFlag(cmd.Flags(), &format)
	return cmd
}

func (a *app) principalReset() *cobra.Command {
	format := FormatTable
	lifetime := identity.DefaultSecretLifetime
	cmd := &cobra.Command{
		Use: "reset-secret PRINCIPAL", Short: "Give a service principal a new secret in place of the old", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			ctx := cmd.Context()
			return a.withDirectory(ctx, func(d *identity.Directory, e *build.Engine) error {
				p, err := findStored(ctx, d, list[0])
				if err != nil {
					return err
				}
				if p.Kind != identity.ServicePrincipal {
					return arm.Errorf(arm.CodeUsage, "%s is a %s, and only a service principal has a secret", p.Name, p.Kind)
				}
				settings, err := e.Database().Settings(ctx)
				if err != nil {
					return err
				}
				secret, err := d.ResetSecret(ctx, p.ID, lifetime)
				if err != nil {
					return err
				}
				dir, err := a.dataDir()
				if err != nil {
					return err
				}
				if err := server.RenewAdministrator(dir, p.App, secret); err != nil {
					return err
				}
				return WriteRecord(a.env.Stdout, format, credentialColumns, credentials{p.Name, p.ID, p.App, secret, settings.TenantID})
			})
		},
	}
	cmd.Flags().DurationVar(&lifetime, "secret-lifetime", lifetime, "how long the secret can be used")
	formatFlag(cmd.Flags(), &format)
	return cmd
}

func (a *app) principalDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete PRINCIPAL", Short: "Delete a principal; its tokens are refused from then on", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			return a.withDirectory(cmd.Context(), func(d *identity.Directory, _ *build.Engine) error {
				p, err := findStored(cmd.Context(), d, list[0])
				if err != nil {
					return err
				}
				if err := d.Delete(cmd.Context(), p.ID); err != nil {
					return err
				}
				fmt.Fprintf(a.env.Stdout, "deleted %s (%s)\n", p.Name, p.ID)
				return nil
			})
		},
	}
}

// findStored finds a principal that can be changed here.
func findStored(ctx context.Context, d *identity.Directory, ref string) (identity.Principal, error) {
	p, err := d.Find(ctx, ref)
	if err != nil {
		return p, err
	}
	if strings.HasPrefix(p.Origin, "/") {
		return p, arm.Errorf(arm.CodeUsage, "%s belongs to the managed identity %s: delete that", p.Name, p.Origin)
	}
	if p.Origin != "" {
		return p, arm.Errorf(arm.CodeUsage, "%s is %s and cannot be changed", p.Name, p.Origin)
	}
	return p, nil
}
