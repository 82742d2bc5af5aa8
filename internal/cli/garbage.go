package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"goldsmith/internal/build"
)

func (a *app) garbageCommand() *cobra.Command {
	format := FormatTable
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove layers, images and files that nothing needs any more",
		Long: `Remove layers unused for a week, base disks that can be rendered again, and
images and frozen files that no image, template, catalog entry or run refers to.
Builds do this by themselves once a day.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withEngine(cmd.Context(), func(e *build.Engine) error {
				removed, err := e.Collect(cmd.Context())
				if err != nil {
					return err
				}
				return WriteRecord(a.env.Stdout, format, []Column[build.Collected]{
					{"layers", func(c build.Collected) string { return fmt.Sprint(c.Layers) }},
					{"base disks", func(c build.Collected) string { return fmt.Sprint(c.Disks) }},
					{"images", func(c build.Collected) string { return fmt.Sprint(c.Images) }},
					{"frozen files", func(c build.Collected) string { return fmt.Sprint(c.Artifacts) }},
					{"freed", func(c build.Collected) string { return Bytes(c.Bytes) }},
				}, removed)
			})
		},
	}
	formatFlag(cmd.Flags(), &format)
	return cmd
}
