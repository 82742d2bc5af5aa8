package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"goldsmith/internal/preflight"
)

func (a *app) permissionsCommand() *cobra.Command {
	flags := checkFlags{format: FormatTable}
	cmd := &cobra.Command{
		Use:   "permissions TEMPLATE",
		Short: "Print the least roles that a template needs in a subscription",
		Long: `Print the registration, the least-privilege role definitions and the az lines that
an image template needs in a subscription, whatever is granted already.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error { return a.permissions(cmd.Context(), list[0], flags) },
	}
	f := cmd.Flags()
	flags.template.register(f)
	f.StringVarP(&flags.group, "resource-group", "g", "goldsmith", "resource group of the template")
	f.StringVar(&flags.name, "name", "", "name of the template (default its own, else the file's)")
	formatFlag(f, &flags.format)
	return cmd
}

// needed is what goldsmith permissions prints as JSON.
type needed struct {
	Registration string           `json:"registration"` // the az line
	Roles        []preflight.Role `json:"roles"`
	Commands     []string         `json:"commands"`
}

func (a *app) permissions(ctx context.Context, path string, flags checkFlags) error {
	file, err := a.readTemplate(path)
	if err != nil {
		return err
	}
	found, err := a.judge(ctx, file, flags)
	if err != nil {
		return err
	}
	grants := preflight.Grants(slices.DeleteFunc(found.Report.Needs, func(n preflight.Need) bool { return n.Principal.Kind == preflight.Caller }))
	if flags.format == FormatJSON {
		n := needed{Registration: found.Report.Registration.Command, Roles: []preflight.Role{}, Commands: []string{}}
		for _, g := range grants {
			if g.Role != nil {
				n.Roles = append(n.Roles, *g.Role)
			}
			n.Commands = append(n.Commands, g.Commands()...)
		}
		return writeJSON(a.env.Stdout, n)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# %s is registered for staging:\n%s\n", found.Report.Registration.Needed, found.Report.Registration.Command)
	if len(grants) > 0 {
		fmt.Fprintf(&b, "\n%s", preflight.GrantsText(grants))
	}
	_, err = io.WriteString(a.env.Stdout, printable(b.String()))
	return err
}
