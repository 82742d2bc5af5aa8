package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
	"goldsmith/internal/network/topology"
	"goldsmith/internal/run"
)

func (a *app) runsCommand() *cobra.Command {
	return group("runs", "List, watch and cancel builds",
		a.runsList(), a.runsShow(), a.runsLogs(), a.runsConsole(), a.runsCapture(), a.runsCancel())
}

func (a *app) runsList() *cobra.Command {
	format := FormatTable
	var limit int
	cmd := &cobra.Command{
		Use: "list", Short: "List runs, newest first", Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 0 {
				return arm.Errorf(arm.CodeUsage, "--limit is a number of runs, or 0 for all, not %d", limit)
			}
			return a.withHistory(cmd.Context(), func(h history) error {
				runs, err := h.list(cmd.Context(), limit)
				if err != nil {
					return err
				}
				return WriteList(a.env.Stdout, format, []Column[run.Record]{
					{"run", func(r run.Record) string { return r.ID[:8] }},
					{"template", func(r run.Record) string { return lastSegment(r.Template) }},
					{"state", func(r run.Record) string { return string(r.State) }},
					{"created", func(r run.Record) string { return Age(r.CreatedAt, time.Now()) }},
					{"took", took},
					{"message", func(r run.Record) string { return firstLine(r.Message) }},
				}, runs)
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 50, "show at most this many; 0 for all")
	formatFlag(cmd.Flags(), &format)
	return cmd
}

// took is how long a run has been going, or went.
func took(r run.Record) string {
	if r.StartedAt.IsZero() {
		return ""
	}
	end := r.EndedAt
	if end.IsZero() {
		end = time.Now()
	}
	return Elapsed(end.Sub(r.StartedAt))
}

// outputLines is a line per output of a run.
func outputLines(r run.Record) string {
	var lines []string
	for _, o := range r.Outputs {
		what := o.ArtifactID + o.ArtifactURI
		if o.Error != "" {
			what = "failed: " + o.Error
		}
		lines = append(lines, o.Kind+" "+o.Name+": "+what)
	}
	return strings.Join(lines, "\n")
}

// lastSegment is the name at the end of a resource id.
func lastSegment(id string) string { return id[strings.LastIndexByte(id, '/')+1:] }

// firstLine is text up to its first line feed.
func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	return line
}

// runDetail is a run with how it is or was connected.
type runDetail struct {
	run.Record
	Network *topology.View `json:"network,omitempty"` // nil before there was one
}

// network draws the connections without what they reached.
func (r runDetail) network() string {
	if r.Network == nil {
		return ""
	}
	return strings.TrimRight(r.Network.Topology.Text(), "\n")
}

func (a *app) runsShow() *cobra.Command {
	format := FormatTable
	cmd := &cobra.Command{
		Use: "show RUN", Short: "Show one run", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			return a.withHistory(cmd.Context(), func(h history) error {
				r, err := h.find(cmd.Context(), list[0])
				if err != nil {
					return err
				}
				events, console := h.files(r)
				shown := runDetail{Record: r}
				// A run's events may be gone, and the run is worth showing.
				if v, found, err := topology.Collect(h.events(cmd.Context(), r, false)); err == nil && found {
					shown.Network = &v
				}
				return WriteRecord(a.env.Stdout, format, []Column[runDetail]{
					{"run", func(r runDetail) string { return r.ID }},
					{"template", func(r runDetail) string { return r.Template }},
					{"state", func(r runDetail) string { return string(r.State) }},
					{"phase", func(r runDetail) string { return r.Phase }},
					{"created", func(r runDetail) string { return r.CreatedAt.Format(time.RFC3339) }},
					{"took", func(r runDetail) string { return took(r.Record) }},
					{"failed step", func(r runDetail) string { return r.FailedStep }},
					{"message", func(r runDetail) string { return r.Message }},
					{"outputs", func(r runDetail) string { return outputLines(r.Record) }},
					{"network", runDetail.network},
					{"events", func(runDetail) string { return events }},
					{"console", func(runDetail) string { return console }},
				}, shown)
			})
		},
	}
	formatFlag(cmd.Flags(), &format)
	return cmd
}

func (a *app) runsLogs() *cobra.Command {
	var follow, asJSON bool
	cmd := &cobra.Command{
		Use: "logs RUN", Short: "Print a run's events; --follow until it ends", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			ctx := cmd.Context()
			return a.withHistory(ctx, func(h history) error {
				r, err := h.find(ctx, list[0])
				if err != nil {
					return err
				}
				events := h.events(ctx, r, follow)
				mode := ProgressPlain
				if asJSON {
					mode = ProgressJSON
				}
				progress, err := NewProgress(mode, a.env.Stdout, false, ProgressOptions{})
				if err != nil {
					return err
				}
				return showAll(ctx, progress, events)
			})
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "wait for more until the run ends")
	cmd.Flags().BoolVar(&asJSON, "json", false, "one event per line")
	return cmd
}

func (a *app) runsConsole() *cobra.Command {
	return &cobra.Command{
		Use: "console RUN", Short: "Print the serial console of a run's machine", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				f, err := k.console(cmd.Context(), list[0])
				if err != nil {
					return err
				}
				defer f.Close()
				return copyConsole(a.env.Stdout, f)
			})
		},
	}
}

func (a *app) runsCancel() *cobra.Command {
	return &cobra.Command{
		Use: "cancel RUN", Short: "Cancel a run; what it acquired is given back", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			return a.withHistory(cmd.Context(), func(h history) error {
				r, err := h.find(cmd.Context(), list[0])
				if err != nil {
					return err
				}
				if r, err = h.cancel(cmd.Context(), r); err != nil {
					return err
				}
				fmt.Fprintf(a.env.Stdout, "%s is %s\n", r.ID, r.State)
				return nil
			})
		},
	}
}

// copyConsole copies what a guest wrote. A terminal does not get its control
// sequences: the guest is not to be trusted with it.
func copyConsole(w io.Writer, r io.Reader) error {
	if !isTerminal(w) {
		_, err := io.Copy(w, r)
		return err
	}
	in := bufio.NewReader(r)
	for {
		line, err := in.ReadString('\n')
		if line != "" {
			if _, werr := fmt.Fprintln(w, event.Sanitize(strings.TrimRight(line, "\r\n"))); werr != nil {
				return werr
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func (a *app) runsCapture() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "capture RUN", Short: "Record a run's traffic as pcapng until the run ends", Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				f, err := os.OpenFile(output, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
				if err != nil {
					return arm.Errorf(arm.CodeUsage, "write the capture: %w", err)
				}
				return errors.Join(k.capture(cmd.Context(), list[0], f), f.Close())
			})
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "", "file to write, such as traffic.pcapng")
	_ = cmd.MarkFlagRequired("output") // the flag exists
	return cmd
}
