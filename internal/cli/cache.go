package cli

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/event"
)

func (a *app) cacheCommand() *cobra.Command {
	return group("cache", "See and prune the layers that builds go on from",
		a.cacheList(), a.cacheShow(), a.cachePrune(), a.cacheVerify())
}

func (a *app) cacheList() *cobra.Command {
	format := FormatTable
	cmd := &cobra.Command{
		Use: "list", Short: "List layers, the longest unused first", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				layers, err := k.Layers(cmd.Context())
				if err != nil {
					return err
				}
				return WriteList(a.env.Stdout, format, []Column[build.CachedLayer]{
					{"layer", func(l build.CachedLayer) string { return l.ID[:8] }},
					{"what", func(l build.CachedLayer) string { return l.What }},
					{"step", func(l build.CachedLayer) string { return l.Step }},
					{"size", func(l build.CachedLayer) string { return Bytes(l.Bytes) }},
					{"made", func(l build.CachedLayer) string { return Age(l.Created, time.Now()) }},
					{"used", func(l build.CachedLayer) string { return Age(l.Used, time.Now()) }},
					{"run", func(l build.CachedLayer) string { return l.Run[:min(8, len(l.Run))] }},
				}, layers)
			})
		},
	}
	formatFlag(cmd.Flags(), &format)
	return cmd
}

func (a *app) cacheShow() *cobra.Command {
	format := FormatTable
	cmd := &cobra.Command{
		Use: "show LAYER", Short: "Show one layer", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				l, err := k.FindLayer(cmd.Context(), list[0])
				if err != nil {
					return err
				}
				return WriteRecord(a.env.Stdout, format, []Column[build.CachedLayer]{
					{"layer", func(l build.CachedLayer) string { return l.ID }},
					{"what", func(l build.CachedLayer) string { return l.What }},
					{"step", func(l build.CachedLayer) string { return l.Step }},
					{"stands on", func(l build.CachedLayer) string { return l.Parent }},
					{"base image", func(l build.CachedLayer) string { return l.Base }},
					{"made by run", func(l build.CachedLayer) string { return l.Run }},
					{"size", func(l build.CachedLayer) string { return Bytes(l.Bytes) }},
					{"changed disk", func(l build.CachedLayer) string { return Bytes(l.Changed) }},
					{"found by builds", func(l build.CachedLayer) string { return yesNo(l.Findable) }},
					{"made", func(l build.CachedLayer) string { return l.Created.Format(time.RFC3339) }},
					{"used", func(l build.CachedLayer) string { return l.Used.Format(time.RFC3339) }},
					{"oldest step", func(l build.CachedLayer) string { return stamp(l.Oldest) }},
					{"kept until", func(l build.CachedLayer) string { return stamp(l.Until) }},
				}, l)
			})
		},
	}
	formatFlag(cmd.Flags(), &format)
	return cmd
}

// stamp is a time for people, "" for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339)
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (a *app) cachePrune() *cobra.Command {
	var age time.Duration
	var size string
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove layers that no run needs",
		Long: `Remove layers that no run needs: all of them, or with --max-age those unused for
longer, or with --max-size the longest unused until the rest fits. The kept guests
of failed steps stay until their time is over.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			bytes, err := parseSize(size)
			if err != nil {
				return err
			}
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				n, freed, err := k.PruneLayers(cmd.Context(), age, bytes)
				if err != nil {
					return err
				}
				fmt.Fprintf(a.env.Stdout, "removed %s, freed %s\n", plural(n, "layer"), Bytes(freed))
				return nil
			})
		},
	}
	cmd.Flags().DurationVar(&age, "max-age", 0, "keep layers used within this time")
	cmd.Flags().StringVar(&size, "max-size", "", "keep layers up to this size in all, as 20GiB")
	return cmd
}

// parseSize reads a size such as 20GiB; "" is 0.
func parseSize(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	n, err := humanize.ParseBytes(text)
	if err != nil || n == 0 || n > 1<<62 {
		return 0, arm.Errorf(arm.CodeUsage, "%q is not a size such as 20GiB", text)
	}
	return int64(n), nil
}

func (a *app) cacheVerify() *cobra.Command {
	format := FormatTable
	cmd := &cobra.Command{
		Use: "verify", Short: "Read every layer and image back and report damage", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				v, err := k.VerifyStored(cmd.Context(), event.SinkFunc(func(ev event.Event) {
					fmt.Fprintln(a.env.Stderr, ev.Text)
				}))
				if err != nil {
					return err
				}
				err = WriteRecord(a.env.Stdout, format, []Column[build.Verified]{
					{"layers", func(v build.Verified) string { return fmt.Sprintf("%d (%s)", v.Layers, Bytes(v.Bytes)) }},
					{"damaged layers", func(v build.Verified) string { return fmt.Sprint(v.DamagedLayers) }},
					{"images", func(v build.Verified) string { return fmt.Sprint(v.Images) }},
					{"damaged images", func(v build.Verified) string { return fmt.Sprint(v.DamagedImages) }},
				}, v)
				if err == nil && v.DamagedLayers+v.DamagedImages > 0 {
					return arm.Errorf(arm.CodeCorrupt, "damage was found: damaged layers are made again; build damaged images again")
				}
				return err
			})
		},
	}
	formatFlag(cmd.Flags(), &format)
	return cmd
}
