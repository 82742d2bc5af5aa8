package cli

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/image/contents"
)

func (a *app) imageDiff() *cobra.Command {
	var asJSON, all bool
	cmd := &cobra.Command{
		Use:   "diff A B",
		Short: "Say how image B differs from image A: packages, files, size, steps",
		Long: `Say how image B differs from image A: packages added, removed and of another
version, files by content, mode and owner, the sizes, and the steps and inputs of
the builds that made them. Files that every build changes, such as logs, are only
counted unless --all is given. ext4 file systems are read; nothing is booted.`,
		Args: args(cobra.ExactArgs(2)),
		RunE: func(cmd *cobra.Command, list []string) error {
			ctx := cmd.Context()
			return a.withKeeper(ctx, func(k keeper) error {
				x, err := k.FindImage(ctx, list[0])
				if err != nil {
					return err
				}
				y, err := k.FindImage(ctx, list[1])
				if err != nil {
					return err
				}
				diff, err := k.DiffImages(ctx, x, y, all)
				if err != nil {
					return err
				}
				if asJSON {
					out := json.NewEncoder(a.env.Stdout)
					out.SetIndent("", "  ")
					return out.Encode(diff)
				}
				return a.writeDiff(diff)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&all, "all", false, "show files that every build changes too")
	return cmd
}

// writeDiff prints a comparison for people.
func (a *app) writeDiff(d build.ImageDiff) error {
	w := a.env.Stdout
	for _, s := range d.Steps {
		if s.Step == "" {
			fmt.Fprintf(w, "inputs   %s\n", s.What)
			continue
		}
		fmt.Fprintf(w, "step     %s: %s\n", s.Step, s.What)
	}
	a.writeReport(d.Report)
	if d.DiskA != d.DiskB {
		fmt.Fprintf(w, "disk     %s -> %s\n", Bytes(d.DiskA), Bytes(d.DiskB))
	}
	_, err := fmt.Fprintf(w, "%s in %s -> %s in %s\n", Bytes(d.SizeA), plural(d.FilesA, "file"), Bytes(d.SizeB), plural(d.FilesB, "file"))
	return err
}

// writeReport prints what differs in the contents of two images.
func (a *app) writeReport(r *contents.Report) {
	w := a.env.Stdout
	for _, p := range r.Packages {
		switch {
		case p.A == "":
			fmt.Fprintf(w, "package  + %s %s\n", p.Name, p.B)
		case p.B == "":
			fmt.Fprintf(w, "package  - %s %s\n", p.Name, p.A)
		default:
			fmt.Fprintf(w, "package  ~ %s %s -> %s\n", p.Name, p.A, p.B)
		}
	}
	for _, f := range r.Files {
		switch f.What {
		case "added":
			fmt.Fprintf(w, "file     + %s\n", f.Path)
		case "removed":
			fmt.Fprintf(w, "file     - %s\n", f.Path)
		default:
			fmt.Fprintf(w, "file     ~ %s (%s)\n", f.Path, f.What)
		}
	}
	for _, what := range r.NotRead {
		fmt.Fprintf(w, "not read %s\n", what)
	}
	if r.Ignored > 0 {
		fmt.Fprintf(w, "%s in places that every build changes are left out\n", plural(r.Ignored, "file"))
	}
}

// writeVerification prints what a build without the cache did differently. The
// error says that something was.
func (a *app) writeVerification(r *contents.Report) error {
	a.writeReport(r)
	if r.Equal() {
		_, err := fmt.Fprintf(a.env.Stdout, "the cached and the cold image are equal in %s and all packages\n", plural(r.FilesA, "file"))
		return err
	}
	return arm.Errorf(arm.CodeConflict, "the cached image and one built cold differ: %s, %s", plural(len(r.Packages), "package"), plural(len(r.Files), "file"))
}
