package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"goldsmith/internal/armapi/upkeep"
)

func (a *app) templateCommand() *cobra.Command {
	return group("template", "List, show and delete submitted image templates",
		a.templateList(), a.templateShow(), a.templateDelete())
}

// templateView is a submitted image template as lists and records show it.
type templateView struct {
	ID           string            `json:"id"`
	Name         string            `json:"name"`
	Location     string            `json:"location"`
	Tags         map[string]string `json:"tags,omitempty"`
	Identity     json.RawMessage   `json:"identity,omitempty"`
	Properties   json.RawMessage   `json:"properties"`
	StagingGroup string            `json:"stagingGroup"` // resource id
	LastRun      string            `json:"lastRun"`      // state of the newest run, or "never"
	CreatedAt    time.Time         `json:"createdAt"`
	UpdatedAt    time.Time         `json:"updatedAt"`

	contents []string // of the staging group
}

// viewTemplate is a template for lists and records.
func viewTemplate(t upkeep.Template) templateView {
	r := t.Record
	// A service writes JSON with spaces, and null for none.
	var properties bytes.Buffer
	if json.Compact(&properties, r.Properties) == nil {
		r.Properties = properties.Bytes()
	}
	if string(r.Identity) == "null" {
		r.Identity = nil
	}
	return templateView{
		ID: r.ID, Name: r.Name, Location: r.Location, Tags: r.Tags, Identity: r.Identity, Properties: r.Properties,
		StagingGroup: t.StagingGroup, LastRun: t.LastRun, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, contents: t.Contents,
	}
}

func (a *app) templateList() *cobra.Command {
	format := FormatTable
	cmd := &cobra.Command{
		Use: "list", Short: "List image templates", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			return a.withKeeper(ctx, func(k keeper) error {
				templates, err := k.templates(ctx)
				if err != nil {
					return err
				}
				views := make([]templateView, len(templates))
				for i, t := range templates {
					views[i] = viewTemplate(t)
				}
				return WriteList(a.env.Stdout, format, []Column[templateView]{
					{"name", func(v templateView) string { return v.Name }},
					{"location", func(v templateView) string { return v.Location }},
					{"submitted", func(v templateView) string { return Age(v.UpdatedAt, time.Now()) }},
					{"last run", func(v templateView) string { return v.LastRun }},
					{"id", func(v templateView) string { return v.ID }},
				}, views)
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
			return a.withKeeper(ctx, func(k keeper) error {
				t, err := k.template(ctx, list[0])
				if err != nil {
					return err
				}
				return WriteRecord(a.env.Stdout, format, []Column[templateView]{
					{"id", func(v templateView) string { return v.ID }},
					{"location", func(v templateView) string { return v.Location }},
					{"tags", func(v templateView) string { return tagLines(v.Tags) }},
					{"last run", func(v templateView) string { return v.LastRun }},
					{"staging group", func(v templateView) string { return v.StagingGroup }},
					{"in it", func(v templateView) string { return strings.Join(v.contents, "\n") }},
					{"properties", func(v templateView) string { return string(v.Properties) }},
				}, viewTemplate(t))
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
			return a.withKeeper(ctx, func(k keeper) error {
				t, err := k.template(ctx, list[0])
				if err != nil {
					return err
				}
				if err := k.deleteTemplate(ctx, t); err != nil {
					return err
				}
				fmt.Fprintf(a.env.Stdout, "deleted %s\n", t.Record.ID)
				return nil
			})
		},
	}
}
