package cli

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"goldsmith/internal/build"
	"goldsmith/internal/resource"
)

func (a *app) templateCommand() *cobra.Command {
	return group("template", "List, show and delete submitted image templates",
		a.templateList(), a.templateShow(), a.templateDelete())
}

func (a *app) templateList() *cobra.Command {
	format := FormatTable
	cmd := &cobra.Command{
		Use: "list", Short: "List image templates", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.withEngine(ctx, func(e *build.Engine) error {
				templates, err := e.Templates(ctx)
				if err != nil {
					return err
				}
				return WriteList(a.env.Stdout, format, []Column[resource.Record]{
					{"name", func(r resource.Record) string { return r.Name }},
					{"location", func(r resource.Record) string { return r.Location }},
					{"submitted", func(r resource.Record) string { return Age(r.UpdatedAt, time.Now()) }},
					{"last run", func(r resource.Record) string {
						last, err := e.LastRun(ctx, r.ID)
						if err != nil {
							return "never"
						}
						return string(last.State)
					}},
					{"id", func(r resource.Record) string { return r.ID }},
				}, templates)
			})
		},
	}
	formatFlag(cmd.Flags(), &format)
	return cmd
}

func (a *app) templateShow() *cobra.Command {
	format := FormatTable
	cmd := &cobra.Command{
		Use: "show TEMPLATE", Short: "Show an image template and its staging group", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			ctx := cmd.Context()
			return a.withEngine(ctx, func(e *build.Engine) error {
				rec, err := e.FindTemplate(ctx, list[0])
				if err != nil {
					return err
				}
				group, contents, err := e.StagingGroup(ctx, rec)
				if err != nil {
					return err
				}
				return WriteRecord(a.env.Stdout, format, []Column[resource.Record]{
					{"id", func(r resource.Record) string { return r.ID }},
					{"location", func(r resource.Record) string { return r.Location }},
					{"tags", func(r resource.Record) string { return tagLines(r.Tags) }},
					{"staging group", func(resource.Record) string { return group }},
					{"in it", func(resource.Record) string {
						var lines []string
						for _, c := range contents {
							lines = append(lines, c.Type+" "+c.Name)
						}
						return strings.Join(lines, "\n")
					}},
					{"properties", func(r resource.Record) string { return string(r.Properties) }},
				}, rec)
			})
		},
	}
	formatFlag(cmd.Flags(), &format)
	return cmd
}

func (a *app) templateDelete() *cobra.Command {
	return &cobra.Command{
		Use: "delete TEMPLATE", Short: "Delete an image template with its staging group, logs and VHDs", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			ctx := cmd.Context()
			return a.withEngine(ctx, func(e *build.Engine) error {
				rec, err := e.FindTemplate(ctx, list[0])
				if err != nil {
					return err
				}
				if err := e.DeleteTemplate(ctx, rec.ID); err != nil {
					return err
				}
				fmt.Fprintf(a.env.Stdout, "deleted %s\n", rec.ID)
				return nil
			})
		},
	}
}
