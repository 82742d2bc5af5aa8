package cli

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/event"
	"goldsmith/internal/guest"
	"goldsmith/internal/guest/ssh"
)

func (a *app) debugCommand() *cobra.Command {
	var command string
	var drop bool
	cmd := &cobra.Command{
		Use:   "debug RUN",
		Short: "Open a shell in the guest of a failed step, as it was when the step failed",
		Long: `Open a shell in the guest of a failed step, exactly as it was when the step
failed: its processes, /tmp and memory included. Builds keep that state for an
hour unless --on-error clean was given. What you change is thrown away when the
shell ends; correct the template and build again, which goes on from the last
good layer.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error {
			return a.withKeeper(cmd.Context(), func(k keeper) error {
				if drop {
					return k.dropFailed(cmd.Context(), list[0])
				}
				return a.debug(cmd.Context(), k, list[0], command)
			})
		},
	}
	cmd.Flags().StringVarP(&command, "command", "c", "", "run a command instead of a shell")
	cmd.Flags().BoolVar(&drop, "drop", false, "remove the kept state instead")
	return cmd
}

// debug continues the guest of a failed step and runs a command or a shell in it.
func (a *app) debug(ctx context.Context, k keeper, run, command string) error {
	sink := event.SinkFunc(func(ev event.Event) {
		if ev.Kind == event.Decision || ev.Kind == event.Warning {
			fmt.Fprintln(a.env.Stderr, event.Sanitize(ev.Text))
		}
	})
	exit, err := k.debug(ctx, run, build.DebugOptions{
		Command: command, Stdout: a.env.Stdout, Stderr: a.env.Stderr, Shell: a.shell,
	}, sink)
	if err == nil && exit != 0 {
		return ExitStatus{exit}
	}
	return err
}

// shell connects the terminal with a shell in a guest.
func (a *app) shell(ctx context.Context, s guest.Session) (int, error) {
	session, ok := s.(*ssh.Session)
	if !ok {
		return 0, arm.Errorf(arm.CodeNotSupported, "this guest has no shell to open")
	}
	t := ssh.Terminal{In: a.env.Stdin, Out: a.env.Stdout, Err: a.env.Stderr}
	in, ok := a.env.Stdin.(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return session.Shell(ctx, t)
	}
	before, err := term.MakeRaw(int(in.Fd()))
	if err != nil {
		return 0, fmt.Errorf("set the terminal up: %w", err)
	}
	defer func() { _ = term.Restore(int(in.Fd()), before) }()
	if t.Type = a.env.Getenv("TERM"); t.Type == "" {
		t.Type = "dumb"
	}
	if t.Width, t.Height, err = term.GetSize(int(in.Fd())); err != nil {
		t.Width, t.Height = 80, 24
	}
	resized := make(chan [2]int, 1)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGWINCH)
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-signals:
				if w, h, err := term.GetSize(int(in.Fd())); err == nil {
					select {
					case resized <- [2]int{w, h}:
					case <-done:
						return
					}
				}
			case <-done:
				return
			}
		}
	}()
	defer func() {
		signal.Stop(signals)
		close(done)
		<-stopped
	}()
	t.Resized = resized
	return session.Shell(ctx, t)
}

// askAboutFailure asks what to do with the guest of a failed step.
func (a *app) askAboutFailure(ctx context.Context, e *build.Engine, runID string) error {
	state, err := e.FailedState(ctx, runID)
	if arm.IsCode(err, arm.CodeNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	in := bufio.NewReader(a.env.Stdin)
	for {
		fmt.Fprintf(a.env.Stderr, "step %q failed; its guest is kept until %s. [d]ebug, [k]eep or [c]lean? ", state.Step, state.Until.Format(time.TimeOnly))
		answer, err := in.ReadString('\n')
		switch strings.ToLower(strings.TrimSpace(answer)) {
		case "d", "debug":
			return a.debug(ctx, localKeeper{e}, runID, "")
		case "c", "clean":
			return e.DropFailed(ctx, runID)
		case "k", "keep":
			return nil
		}
		if err != nil { // nobody is there to answer
			fmt.Fprintln(a.env.Stderr, "kept: there is nobody to answer")
			return nil
		}
	}
}
