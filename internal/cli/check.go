package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/imagetemplate"
	"goldsmith/internal/preflight"
	"goldsmith/internal/rbac"
)

// checkFlags are the flags of goldsmith check.
type checkFlags struct {
	template    templateFlags
	group       string
	name        string
	strict      bool
	roles       string
	assignments string
	identities  string
	principal   string
	memberOf    []string
	format      Format
}

func (a *app) checkCommand() *cobra.Command {
	flags := checkFlags{format: FormatTable}
	cmd := &cobra.Command{
		Use:   "check TEMPLATE",
		Short: "Tell what keeps a template from being built: rights, identities, networks",
		Long: `Tell what keeps an image template from being submitted and built, before anything
does: rights that are missing, identities that do not exist, a service that is not
registered, networks that do not let the build through. It prints the roles and
commands that mend it, and ends with exit code 1 on any finding.

The state of the data directory is checked, with --server that of a running service,
there also what whoever signs in lacks to submit the template, or with --roles and --assignments what
these commands wrote of a real subscription:

  az role definition list -o json > roles.json
  az role assignment list --all -o json > assignments.json
  az identity list -o json > identities.json

The assignments do not tell which principal an identity is: give --identities, or
its object id with --principal. Neither do they tell who is in a group: --member-of
names the groups that the principal is in.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error { return a.checkTemplate(cmd.Context(), list[0], flags) },
	}
	f := cmd.Flags()
	flags.template.register(f)
	f.StringVarP(&flags.group, "resource-group", "g", "goldsmith", "resource group of the template")
	f.StringVar(&flags.name, "name", "", "name of the template (default its own, else the file's)")
	f.BoolVar(&flags.strict, "strict", false, "warnings about the template are findings too")
	f.StringVar(&flags.roles, "roles", "", "role definitions of a subscription: FILE of az role definition list -o json")
	f.StringVar(&flags.assignments, "assignments", "", "role assignments of a subscription: FILE of az role assignment list --all -o json")
	f.StringVar(&flags.identities, "identities", "", "identities of a subscription: FILE of az identity list -o json")
	f.StringVar(&flags.principal, "principal", "", "object id of the template's identity")
	f.StringArrayVar(&flags.memberOf, "member-of", nil, "object id of a group that the template's identity, or the service principal, is in (repeatable)")
	formatFlag(f, &flags.format)
	return cmd
}

// checked is what goldsmith check found.
type checked struct {
	File     string               `json:"file"`
	OK       bool                 `json:"ok"`
	Findings []checkedFinding     `json:"findings"`
	Roles    []preflight.Role     `json:"roles"`    // that grant what is missing
	Commands []string             `json:"commands"` // az lines
	report   preflight.Report     // of access
	network  []build.NetworkIssue // of networks
}

// checkedFinding is one finding as JSON.
type checkedFinding struct {
	Code      arm.Code `json:"code"`
	Message   string   `json:"message"`
	Pointer   string   `json:"pointer,omitempty"`
	Principal string   `json:"principal,omitempty"`
	Action    string   `json:"action,omitempty"`
	Scope     string   `json:"scope,omitempty"`
	Why       string   `json:"why,omitempty"`
	Command   string   `json:"command,omitempty"`
}

func (a *app) checkTemplate(ctx context.Context, path string, flags checkFlags) error {
	file, err := a.readTemplate(path)
	if err != nil {
		return err
	}
	if flags.roles != "" || flags.assignments != "" {
		return a.checkExports(file, flags)
	}
	if flags.identities != "" || flags.principal != "" || len(flags.memberOf) > 0 {
		return arm.Errorf(arm.CodeUsage, "--identities, --principal and --member-of go with --roles and --assignments")
	}
	found, err := a.judge(ctx, file, flags)
	if err != nil {
		return err
	}
	return a.showChecked(file.path, flags.format, found.Report, found.Network)
}

// parseForCheck parses a template; with --strict its warnings are errors.
func (a *app) parseForCheck(file templateFile, flags checkFlags, at place) (imagetemplate.Result, error) {
	options, err := flags.template.options(at.subscription, false)
	if err != nil {
		return imagetemplate.Result{}, err
	}
	res, err := flags.template.parse(file, options, at)
	if err != nil {
		return imagetemplate.Result{}, err
	}
	if err := WriteProblems(a.env.Stderr, FormatTable, file.path, res.Problems); err != nil {
		return res, err
	}
	if err := ProblemsError(file.path, res.Problems, flags.strict); err != nil {
		return res, headline(err)
	}
	if flags.strict && len(res.Problems) > 0 {
		return res, arm.Errorf(arm.CodeValidationFailed, "%s has warnings", file.path)
	}
	return res, nil
}

// checkExports checks against what az wrote of a subscription.
func (a *app) checkExports(file templateFile, flags checkFlags) error {
	if flags.roles == "" || flags.assignments == "" {
		return arm.Errorf(arm.CodeUsage, "--roles and --assignments go together")
	}
	parsed, err := a.parseForCheck(file, flags, placeOf("", flags.group))
	if err != nil {
		return err
	}
	t := parsed.Template
	var state rbac.State
	if err := readExport(flags.roles, func(raw []byte) (err error) { state.Roles, err = rbac.ParseRoleExport(raw); return err }); err != nil {
		return err
	}
	if err := readExport(flags.assignments, func(raw []byte) (err error) { state.Assignments, err = rbac.ParseAssignmentExport(raw); return err }); err != nil {
		return err
	}
	env := preflight.Env{Group: flags.group, Name: file.name(t), Subscription: exportSubscription(t, state), Identities: map[string]preflight.Account{}}
	if flags.identities != "" {
		if err := readExport(flags.identities, func(raw []byte) error { return parseIdentities(raw, env.Identities) }); err != nil {
			return err
		}
	}
	if flags.principal != "" && t.Identity != nil {
		for _, id := range t.Identity.UserAssigned {
			env.Identities[strings.ToLower(id)] = preflight.Account{Object: flags.principal}
		}
	}
	if flags.identities == "" && flags.principal == "" && preflight.TemplateIdentity(t, env).ID != "" && !preflight.ByService(t.APIVersion) {
		return arm.Errorf(arm.CodeUsage, "the exports do not tell which principal the template's identity is: give --identities FILE of az identity list -o json, or --principal OBJECT_ID")
	}
	who := preflight.TemplateIdentity(t, env)
	if preflight.ByService(t.APIVersion) {
		who = preflight.ServicePrincipal()
	}
	for _, g := range flags.memberOf {
		state.Memberships = append(state.Memberships, rbac.Membership{Member: who.Object, Group: g})
	}
	return a.showChecked(file.path, flags.format, preflight.Check(t, env, rbac.Compile(state), preflight.Options{}), nil)
}

// exportSubscription is the subscription of an export: that of its first
// assignment. Only networks given by name need it.
func exportSubscription(_ *imagetemplate.Template, s rbac.State) string {
	for _, a := range s.Assignments {
		if id, err := arm.ParseID(a.Scope); err == nil && id.Subscription != "" {
			return id.Subscription
		}
	}
	return ""
}

// maxExport bounds what is read of an export, in bytes.
const maxExport = 512 << 20

func readExport(path string, parse func([]byte) error) error {
	f, err := os.Open(path)
	if err != nil {
		return arm.Errorf(arm.CodeUsage, "read the export: %w", err)
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, maxExport))
	if err != nil {
		return arm.Errorf(arm.CodeUsage, "read the export %s: %w", path, err)
	}
	if err := parse(raw); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// parseIdentities reads what "az identity list -o json" prints.
func parseIdentities(raw []byte, into map[string]preflight.Account) error {
	var list []struct {
		ID          string `json:"id"`
		PrincipalID string `json:"principalId"`
		ClientID    string `json:"clientId"`
	}
	if err := json.Unmarshal(raw, &list); err != nil {
		return arm.Errorf(arm.CodeInvalidJSON, "this is not the output of \"az identity list -o json\": %w", err)
	}
	for _, i := range list {
		into[strings.ToLower(i.ID)] = preflight.Account{Object: i.PrincipalID, Client: i.ClientID}
	}
	return nil
}

// showChecked prints what was found; the error makes the exit code.
func (a *app) showChecked(file string, format Format, report preflight.Report, network []build.NetworkIssue) error {
	c := checked{File: file, OK: report.OK() && len(network) == 0, Findings: []checkedFinding{}, Roles: []preflight.Role{}, Commands: []string{}, report: report, network: network}
	if err := c.write(a.env.Stdout, format); err != nil {
		return err
	}
	if c.OK {
		return nil
	}
	return &shownError{arm.Errorf(arm.CodeUnauthorized, "%s has findings", file)}
}

func (c *checked) write(w io.Writer, format Format) error {
	if format == FormatJSON {
		c.collect()
		return writeJSON(w, c)
	}
	text := c.report.Text()
	if c.report.OK() && len(c.network) > 0 {
		text = ""
	}
	for _, n := range c.network {
		text += fmt.Sprintf("%s\n  %s\n  at       %s\n  mend it  %s\n\n", n.Message, n.Item, n.Target, n.Command)
	}
	_, err := io.WriteString(w, printable(text))
	return err
}

// printable is text with nothing in it that moves a terminal, its lines kept.
func printable(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		lines[i] = terminalText(l)
	}
	return strings.Join(lines, "\n")
}

// collect fills what JSON shows.
func (c *checked) collect() {
	for _, f := range c.report.Findings {
		one := checkedFinding{Code: f.Code, Message: f.Message, Pointer: f.Pointer}
		if n := f.Need; n != nil {
			one.Principal, one.Action, one.Scope, one.Why = n.Principal.String(), n.Action, n.Scope, n.Why
		}
		c.Findings = append(c.Findings, one)
	}
	for _, n := range c.network {
		c.Findings = append(c.Findings, checkedFinding{Code: arm.CodeValidationFailed, Message: n.Message, Scope: n.Target, Why: n.Item, Command: n.Command})
	}
	for _, g := range preflight.Grants(c.report.Missing()) {
		if g.Role != nil {
			c.Roles = append(c.Roles, *g.Role)
		}
		c.Commands = append(c.Commands, g.Commands()...)
	}
}
