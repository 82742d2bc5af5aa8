// Package cli is the command line: how a build is shown while it runs, how
// lists and problems are printed, and which exit code an error becomes.
package cli

import (
	"context"
	"io"
	"os"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
)

// Progress shows a run's events to a person or a program.
type Progress interface {
	// Show renders events until the channel closes, and returns nil then. A
	// failed write ends it early with that error, and the end of ctx with the
	// cause of ctx; the terminal is restored in every case. Show does not cancel
	// the build when it returns, so give it a context that outlives the
	// cancellation of the build, or its clean-up goes unseen.
	Show(ctx context.Context, events <-chan event.Event) error
}

// ProgressMode selects a renderer.
type ProgressMode string

// The modes of NewProgress.
const (
	ProgressAuto  ProgressMode = "auto"  // tty on a capable terminal, else plain
	ProgressTTY   ProgressMode = "tty"   // a live view that redraws itself
	ProgressPlain ProgressMode = "plain" // a line per event
	ProgressJSON  ProgressMode = "json"  // an event per line, as event.Event marshals
)

// ProgressOptions tune NewProgress. The zero value is usable.
type ProgressOptions struct {
	// OnInterrupt is called while Show runs with n = 1 at the first interrupt
	// (SIGINT, SIGTERM or SIGHUP), 2 at the second and so on. It must not block.
	// The terminal is restored before n = 2, so that it may end the process. Nil
	// leaves the signals alone.
	OnInterrupt func(n int)
	// LogCommand is the command that prints a run's full log; nil for
	// "goldsmith runs logs RUN".
	LogCommand func(run string) string
	// Location of the times that plain lines start with; nil for time.Local.
	Location *time.Location
	// Env is the environment that says what the terminal can do (TERM,
	// NO_COLOR, COLORTERM...); nil for os.Environ().
	Env []string
}

// NewProgress makes the renderer of mode that writes to out; tty says whether
// out is a terminal. The error is arm.CodeUsage, for an unknown mode and for
// ProgressTTY without a terminal.
func NewProgress(mode ProgressMode, out io.Writer, tty bool, o ProgressOptions) (Progress, error) {
	if o.LogCommand == nil {
		o.LogCommand = func(run string) string { return "goldsmith runs logs " + run }
	}
	if o.Location == nil {
		o.Location = time.Local
	}
	if o.Env == nil {
		o.Env = os.Environ()
	}
	switch mode {
	case ProgressAuto, "":
		if tty && !dumbTerminal(o.Env) {
			return newLiveProgress(out, o), nil
		}
		return &plainProgress{out: out, options: o}, nil
	case ProgressTTY:
		if !tty {
			return nil, arm.Errorf(arm.CodeUsage, "progress mode tty needs a terminal to write to: use plain or json when the output goes to a file or a pipe")
		}
		return newLiveProgress(out, o), nil
	case ProgressPlain:
		return &plainProgress{out: out, options: o}, nil
	case ProgressJSON:
		return &jsonProgress{out: out, options: o}, nil
	}
	return nil, arm.Errorf(arm.CodeUsage, "unknown progress mode %q: use auto, tty, plain or json", string(mode))
}

// dumbTerminal reports whether env names a terminal that cannot move its cursor.
func dumbTerminal(env []string) bool {
	name := ""
	for _, v := range env {
		if t, ok := strings.CutPrefix(v, "TERM="); ok {
			name = t
		}
	}
	return name == "" || name == "dumb"
}

// eachEvent calls show for every event and interrupted for every interrupt
// until the channel of events closes, a call fails or ctx ends.
func eachEvent(ctx context.Context, events <-chan event.Event, interrupts <-chan int, show func(event.Event) error, interrupted func(n int) error) error {
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case n := <-interrupts:
			if err := interrupted(n); err != nil {
				return err
			}
		case e, ok := <-events:
			if !ok {
				return nil
			}
			if err := show(e); err != nil {
				return err
			}
		}
	}
}
