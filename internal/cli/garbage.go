package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"goldsmith/internal/build"
)

func (a *app) garbageCommand() *cobra.Command {
	format := FormatTable
	var age time.Duration
	var size string
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove layers, images and files that nothing needs any more",
		Long: `Remove layers unused for a week (see --max-age) or beyond 64 GiB (see --max-size), base disks and saved proxy VMs that can be
made again, and images and frozen files that no image, template, catalog entry or run refers to.
Builds do this by themselves once a day, and remove layers beyond their size, or while the
disk is nearly full, as soon as they end. Nothing that a run or an image needs goes,
whatever the limits are.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			bytes, err := parseSize(size)
			if err != nil {
				return err
			}
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				removed, err := k.CollectWithin(cmd.Context(), build.GarbageLimits{MaxAge: age, MaxBytes: bytes})
				if err != nil {
					return err
				}
				return WriteRecord(a.env.Stdout, format, []Column[build.Collected]{
					{"layers", func(c build.Collected) string { return fmt.Sprint(c.Layers) }},
					{"base disks", func(c build.Collected) string { return fmt.Sprint(c.Disks) }},
					{"proxy vms", func(c build.Collected) string { return fmt.Sprint(c.Proxies) }},
					{"images", func(c build.Collected) string { return fmt.Sprint(c.Images) }},
					{"frozen files", func(c build.Collected) string { return fmt.Sprint(c.Artifacts) }},
					{"freed", func(c build.Collected) string { return Bytes(c.Bytes) }},
				}, removed)
			})
		},
	}
	cmd.Flags().DurationVar(&age, "max-age", 0, "remove layers, base disks and proxy VMs unused for longer (default a week)")
	cmd.Flags().StringVar(&size, "max-size", "", "remove the longest unused layers beyond this size in all (default 64GiB)")
	formatFlag(cmd.Flags(), &format)
	return cmd
}
