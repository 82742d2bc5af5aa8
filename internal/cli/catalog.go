package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/catalog"
	"goldsmith/internal/event"
)

func (a *app) catalogCommand() *cobra.Command {
	return group("catalog", "List, add, pull and remove platform images",
		a.catalogList(), a.catalogShow(), a.catalogAdd(), a.catalogPull(), a.catalogRemove())
}

func (a *app) catalogList() *cobra.Command {
	format := FormatTable
	cmd := &cobra.Command{
		Use: "list", Short: "List platform images: shipped, added and pulled", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				entries, err := k.entries(cmd.Context())
				if err != nil {
					return err
				}
				return WriteList(a.env.Stdout, format, []Column[catalog.Entry]{
					{"urn", func(e catalog.Entry) string { return e.URN.String() }},
					{"gen", func(e catalog.Entry) string { return fmt.Sprint(e.Generation) }},
					{"os", func(e catalog.Entry) string { return string(e.OS) }},
					{"disk", func(e catalog.Entry) string {
						if e.Size == 0 {
							return "-"
						}
						return Bytes(e.Size)
					}},
					{"here", func(e catalog.Entry) string {
						if e.ImageDigest == "" {
							return "no"
						}
						return "yes"
					}},
					{"source", func(e catalog.Entry) string { return e.Source.String() }},
				}, entries)
			})
		},
	}
	formatFlag(cmd.Flags(), &format)
	return cmd
}

func (a *app) catalogShow() *cobra.Command {
	format := FormatTable
	cmd := &cobra.Command{
		Use: "show PUBLISHER:OFFER:SKU:VERSION", Short: "Show one platform image", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				entry, err := findEntry(cmd.Context(), k, list[0])
				if err != nil {
					return err
				}
				return WriteRecord(a.env.Stdout, format, []Column[catalog.Entry]{
					{"urn", func(e catalog.Entry) string { return e.URN.String() }},
					{"title", func(e catalog.Entry) string { return e.Title }},
					{"generation", func(e catalog.Entry) string { return fmt.Sprint(e.Generation) }},
					{"os", func(e catalog.Entry) string { return string(e.OS) }},
					{"disk", func(e catalog.Entry) string { return Bytes(e.Size) }},
					{"source", func(e catalog.Entry) string { return e.Source.String() }},
					{"digest", func(e catalog.Entry) string { return e.Digest.String() }},
					{"content", func(e catalog.Entry) string { return e.ImageDigest }},
					{"added", func(e catalog.Entry) string { return Age(e.AddedAt, time.Now()) }},
					{"looked upstream", func(e catalog.Entry) string { return Age(e.CheckedAt, time.Now()) }},
				}, entry)
			})
		},
	}
	formatFlag(cmd.Flags(), &format)
	return cmd
}

// findEntry resolves a URN or a unique beginning of one.
func findEntry(ctx context.Context, k keeper, name string) (catalog.Entry, error) {
	if urn, err := catalog.ParseURN(name); err == nil {
		return k.entry(ctx, urn)
	}
	entries, err := k.entries(ctx)
	if err != nil {
		return catalog.Entry{}, err
	}
	return build.Match(entries, name, func(e catalog.Entry) []string { return []string{e.URN.String()} })
}

func (a *app) catalogAdd() *cobra.Command {
	var from, generation, osName, title string
	var digest string
	var replace bool
	cmd := &cobra.Command{
		Use:   "add PUBLISHER:OFFER:SKU:VERSION --from FILE|URL",
		Short: "Add a disk image (qcow2, raw, VHD, VHDX, VMDK) as a platform image",
		Args:  args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			if from == "" {
				return arm.Errorf(arm.CodeUsage, "say where the disk image is with --from FILE or --from URL")
			}
			urn, err := catalog.ParseURN(list[0])
			if err != nil {
				return err
			}
			options := catalog.AddOptions{Digest: digest, Title: title, Replace: replace, OS: catalog.OS(strings.ToLower(osName))}
			switch generation {
			case "":
			case "1":
				options.Generation = 1
			case "2":
				options.Generation = 2
			default:
				return arm.Errorf(arm.CodeUsage, "--generation is 1 (BIOS) or 2 (UEFI), not %q", generation)
			}
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				var entry catalog.Entry
				err := a.showWork(cmd.Context(), func(ctx context.Context, sink event.Sink) (err error) {
					entry, err = k.addEntry(ctx, urn, from, options, sink)
					return err
				})
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(a.env.Stdout, "added %s, generation %d, %s\n", entry.URN, entry.Generation, Bytes(entry.Size))
				return err
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&from, "from", "", "disk image file or URL")
	f.StringVar(&digest, "sha256", "", "SHA-256 that the file must have, in hexadecimal digits")
	f.StringVar(&generation, "generation", "", "1 (BIOS) or 2 (UEFI) (default 2 if the disk has an EFI system partition)")
	f.StringVar(&osName, "os", "linux", "linux or windows")
	f.StringVar(&title, "title", "", "a name for lists")
	f.BoolVar(&replace, "replace", false, "replace an entry of the same name")
	return cmd
}

func (a *app) catalogPull() *cobra.Command {
	return &cobra.Command{
		Use: "pull PUBLISHER:OFFER:SKU:VERSION", Short: "Download, or make, a platform image now", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			urn, err := catalog.ParseURN(list[0])
			if err != nil {
				return err
			}
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				var entry catalog.Entry
				err := a.showWork(cmd.Context(), func(ctx context.Context, sink event.Sink) (err error) {
					entry, err = k.pullEntry(ctx, urn, sink)
					return err
				})
				if err != nil {
					return err
				}
				_, err = fmt.Fprintf(a.env.Stdout, "%s is here, generation %d, %s\n", entry.URN, entry.Generation, Bytes(entry.Size))
				return err
			})
		},
	}
}

func (a *app) catalogRemove() *cobra.Command {
	return &cobra.Command{
		Use: "remove PUBLISHER:OFFER:SKU:VERSION...", Short: "Remove added or pulled platform images", Args: args(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				var errs []error
				for _, name := range list {
					urn, err := catalog.ParseURN(name)
					if err == nil {
						var removed catalog.Entry
						if removed, err = k.removeEntry(cmd.Context(), urn); err == nil {
							_, err = fmt.Fprintf(a.env.Stdout, "removed %s\n", removed.URN)
						}
					}
					errs = append(errs, err)
				}
				return errors.Join(errs...)
			})
		},
	}
}
