package cli

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"goldsmith/internal/arm"
	"goldsmith/internal/machine"
)

// Env is the process a command runs in.
type Env struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	Version        string
	// Hypervisor finds what runs build machines, and says how for people; nil is
	// QEMU. Tests of whole commands put a fake in its place.
	Hypervisor func(ctx context.Context) (h machine.Hypervisor, how string, err error)
}

// app is what every command shares.
type app struct {
	env  Env
	data string
	host hostFlags
	// server is the service that a command talks to, if any.
	server serverFlags
	// cancel ends the command's context.
	cancel context.CancelCauseFunc
	// showing says that a progress view handles interrupts.
	showing atomic.Bool
}

// Execute runs the command line args (without the program's name) and returns
// the process's exit code.
func Execute(ctx context.Context, env Env, args []string) int {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	a := &app{env: env, cancel: cancel}
	stop := WatchInterrupts(func(n int) {
		if !a.showing.Load() { // a progress view hears its interrupts itself
			a.interrupted(n)
		}
	})
	defer stop()
	root := a.root()
	root.SetArgs(args)
	root.SetIn(env.Stdin)
	root.SetOut(env.Stdout)
	root.SetErr(env.Stderr)
	err := root.ExecuteContext(ctx)
	var shown *shownError
	if !errors.As(err, &shown) {
		if werr := WriteFault(env.Stderr, err); werr != nil {
			return ExitFailed
		}
	}
	return ExitCode(err)
}

// shownError is an error that the user has already been shown.
type shownError struct{ err error }

func (e *shownError) Error() string { return e.err.Error() }
func (e *shownError) Unwrap() error { return e.err }

// interrupted is the nth Ctrl-C: the first cancels the command, which then
// cleans up; the second ends the process, whose machines end with it.
func (a *app) interrupted(n int) {
	if n > 1 {
		os.Exit(ExitCanceled)
	}
	a.cancel(arm.Errorf(arm.CodeCanceled, "interrupted"))
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "goldsmith",
		Short:         "Make golden virtual-machine images from Azure image templates, on machines you own",
		Version:       a.env.Version,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          unknownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.PersistentFlags().StringVar(&a.data, "data", "", "data directory (default $GOLDSMITH_DATA, else goldsmith in the XDG data directory)")
	a.server.register(root.PersistentFlags())
	a.host.register(root.PersistentFlags())
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return arm.Errorf(arm.CodeUsage, "%w\nsee: %s --help", err, cmd.CommandPath())
	})
	root.SuggestionsMinimumDistance = 2
	root.SetHelpCommand(helpCommand())
	root.AddCommand(
		a.buildCommand(), a.validateCommand(), a.catalogCommand(), a.imageCommand(),
		a.templateCommand(), a.runsCommand(), a.networkCommand(), a.debugCommand(), a.cacheCommand(), a.garbageCommand(), a.doctorCommand(),
		a.serveCommand(), a.azureCommand(), a.principalCommand(),
	)
	root.AddCommand(a.checkCommand(), a.permissionsCommand(), a.auditCommand())
	return root
}

// args makes a wrong number of arguments a usage error.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, list []string) error {
		if err := check(cmd, list); err != nil {
			return arm.Errorf(arm.CodeUsage, "%w\nusage: %s", err, cmd.UseLine())
		}
		return nil
	}
}

// unknownCommand refuses arguments of a command that only has sub-commands.
func unknownCommand(cmd *cobra.Command, list []string) error {
	if len(list) == 0 {
		return nil
	}
	meant := ""
	if names := cmd.SuggestionsFor(list[0]); len(names) > 0 {
		meant = "; did you mean " + strings.Join(names, ", ") + "?"
	}
	return arm.Errorf(arm.CodeUsage, "unknown command %q for %q%s\nsee: %s --help", list[0], cmd.CommandPath(), meant, cmd.CommandPath())
}

// helpCommand is goldsmith help; unlike cobra's own it fails for a command that
// does not exist.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]...",
		Short: "Show the help text of a command",
		RunE: func(cmd *cobra.Command, list []string) error {
			found, rest, err := cmd.Root().Find(list)
			if err != nil {
				return arm.Errorf(arm.CodeUsage, "%w", err)
			}
			if len(rest) > 0 {
				return unknownCommand(found, rest)
			}
			return found.Help()
		},
	}
}

// group is a command that only has sub-commands.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short, Args: unknownCommand, SuggestionsMinimumDistance: 2, RunE: func(cmd *cobra.Command, _ []string) error {
		return arm.Errorf(arm.CodeUsage, "say what to do\nsee: %s --help", cmd.CommandPath())
	}}
	c.AddCommand(children...)
	return c
}

// dataDir is the data directory the user chose.
func (a *app) dataDir() (string, error) {
	for _, dir := range []string{a.data, a.env.Getenv("GOLDSMITH_DATA")} {
		if dir != "" {
			return filepath.Abs(dir)
		}
	}
	if dir := a.env.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "goldsmith"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", arm.Errorf(arm.CodeUsage, "no home directory to keep data in: pass --data DIR: %w", err)
	}
	return filepath.Join(home, ".local", "share", "goldsmith"), nil
}

// isTerminal reports whether w is a terminal.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
