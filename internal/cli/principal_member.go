package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/identity"
)

func (a *app) principalAddMember() *cobra.Command {
	return a.memberCommand("add-member", "Put users, service principals, managed identities or groups into a group", "is in",
		(*identity.Directory).AddMember)
}

func (a *app) principalRemoveMember() *cobra.Command {
	return a.memberCommand("remove-member", "Take members out of a group", "is not in", (*identity.Directory).RemoveMember)
}

// memberCommand is a command that does something with members of a group.
func (a *app) memberCommand(name, short, outcome string, do func(d *identity.Directory, ctx context.Context, group, member string) error) *cobra.Command {
	return &cobra.Command{
		Use: name + " GROUP MEMBER...", Short: short, Args: args(cobra.MinimumNArgs(2)),
		Long: short + `.

Both go by name, object id or application id, a managed identity also by its
resource id. Roles that are assigned to the group hold for its members.`,
		RunE: func(cmd *cobra.Command, list []string) error {
			ctx := cmd.Context()
			return a.withDirectory(ctx, func(d *identity.Directory, _ *build.Engine) error {
				g, err := d.Find(ctx, list[0])
				if err != nil {
					return err
				}
				if g.Kind != identity.Group {
					return arm.Errorf(arm.CodeUsage, "%s is a %s: only a group has members", g.Name, g.Kind)
				}
				for _, ref := range list[1:] {
					p, err := d.Find(ctx, ref)
					if err != nil {
						return err
					}
					if err := do(d, ctx, g.ID, p.ID); err != nil {
						return err
					}
					fmt.Fprintf(a.env.Stdout, "%s (%s) %s the group %s\n", p.Name, p.ID, outcome, g.Name)
				}
				return nil
			})
		},
	}
}
