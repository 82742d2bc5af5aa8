package cli

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"goldsmith/internal/arm"
	"goldsmith/internal/audit"
)

// auditShown is how many decisions are listed unless --limit says otherwise.
const auditShown = 100

func (a *app) auditCommand() *cobra.Command {
	var q audit.Query
	var since time.Duration
	var lines bool
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "List the decisions about access",
		Long: `List the decisions about access, oldest first: who asked to do what, whether it was
allowed, and by which assignment. Equal decisions within a second are one line with
a count.`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			if since < 0 || q.Limit < 0 {
				return arm.Errorf(arm.CodeUsage, "--since and --limit must not be negative")
			}
			if since > 0 {
				q.Since = time.Now().Add(-since)
			}
			if lines && !cmd.Flags().Changed("limit") {
				q.Limit = 0 // an export is whole
			}
			return a.withKeeper(ctx, func(k keeper) error {
				records, err := k.decisions(ctx, q)
				if err != nil {
					return err
				}
				if lines {
					out := json.NewEncoder(a.env.Stdout)
					out.SetEscapeHTML(false)
					for _, r := range records {
						if err := out.Encode(r); err != nil {
							return err
						}
					}
					return nil
				}
				return WriteList(a.env.Stdout, FormatTable, auditColumns, records)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&q.Run, "run", "", "only decisions for the run with this id, or its beginning")
	f.StringVar(&q.Principal, "principal", "", "only decisions about this object id, or ACCOUNT/key1 of a storage account")
	f.StringVar(&q.Scope, "scope", "", "only decisions about this resource id and what is below it")
	f.BoolVar(&q.Denied, "denied", false, "only denials")
	f.DurationVar(&since, "since", 0, "only decisions of this last while, such as 30m")
	f.IntVar(&q.Limit, "limit", auditShown, "the newest N decisions, 0 for all")
	f.BoolVar(&lines, "json", false, "export as JSON, one decision per line; all of them unless --limit says otherwise")
	return cmd
}

var auditColumns = []Column[audit.Record]{
	{"time", func(r audit.Record) string { return r.Time.Format(time.RFC3339) }},
	{"decision", func(r audit.Record) string { return r.Decision() }},
	{"times", func(r audit.Record) string { return strconv.Itoa(r.Count) }},
	{"principal", func(r audit.Record) string { return r.Principal }},
	{"action", func(r audit.Record) string { return r.Action }},
	{"scope", func(r audit.Record) string { return r.Scope }},
	{"role", func(r audit.Record) string { return r.Role }},
	{"run", func(r audit.Record) string { return fmt.Sprintf("%.8s", r.Run) }},
}
