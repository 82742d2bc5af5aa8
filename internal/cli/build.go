package cli

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/event"
	"goldsmith/internal/image/contents"
	"goldsmith/internal/run"
)

// buildFlags are the flags of goldsmith build.
type buildFlags struct {
	template templateFlags
	group    string
	name     string
	source   string
	outputs  []string
	progress string
	json     bool

	noCache  bool
	maxAge   time.Duration
	explain  bool
	fromStep string
	secrets  []string
	params   []string
	onError  string
	keep     time.Duration
	verify   bool
	strict   bool
}

func (a *app) buildCommand() *cobra.Command {
	var flags buildFlags
	cmd := &cobra.Command{
		Use:   "build TEMPLATE",
		Short: "Build an image template and publish the image",
		Long: `Build an image template on a virtual machine of this host and publish the image.

The template is submitted and run once. Resource groups, galleries, image
definitions and identities that it names are created where they are missing, and
the builder is granted what it needs; each is told in one line. With --strict the
build takes only what is there and granted. <subscriptionID> is the local
subscription unless --set says otherwise.`,
		Args: args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, list []string) error { return a.build(cmd.Context(), list[0], flags) },
	}
	f := cmd.Flags()
	flags.template.register(f)
	f.StringVarP(&flags.group, "resource-group", "g", "goldsmith", "resource group of the template")
	f.StringVar(&flags.name, "name", "", "name of the template (default its own, else the file's)")
	f.StringVar(&flags.source, "source", "", "build from another base: FILE, PUBLISHER:OFFER:SKU:VERSION or an image id")
	f.StringArrayVar(&flags.outputs, "output", nil, "also write the image to FILE: .vhd, .vhdx, .qcow2, .vmdk or .raw (repeatable)")
	f.BoolVar(&flags.noCache, "no-cache", false, "run every step, although its result is known")
	f.DurationVar(&flags.maxAge, "max-age", build.DefaultMaxAge, "reuse results whose oldest step is at most this old")
	f.BoolVar(&flags.explain, "explain", false, "say of every step why it ran, and what changed since the last run")
	f.StringVar(&flags.fromStep, "from-step", "", "run the step NAME and all after it in any case")
	f.StringArrayVar(&flags.secrets, "secret", nil, "give the steps that name it a secret: NAME=FILE or NAME@VERSION=FILE (repeatable)")
	f.StringArrayVar(&flags.params, "param", nil, "give the steps that name it a parameter: NAME=VALUE (repeatable)")
	f.StringVar(&flags.onError, "on-error", string(build.Keep), "what becomes of the guest of a failed step: keep, clean or ask")
	f.DurationVar(&flags.keep, "keep", build.DefaultKeep, "how long the guest of a failed step is kept")
	f.BoolVar(&flags.verify, "verify-cache", false, "build again without the cache, publishing nothing, and report every difference")
	f.BoolVar(&flags.strict, "strict", false, "create and grant nothing: build only with what is there")
	f.StringVar(&flags.progress, "progress", string(ProgressAuto), "how to show the build: auto, tty, plain or json")
	f.BoolVar(&flags.json, "json", false, "one event per line; the same as --progress json")
	return cmd
}

func (a *app) build(ctx context.Context, path string, flags buildFlags) error {
	file, err := a.readTemplate(path)
	if err != nil {
		return err
	}
	outputs := make([]string, len(flags.outputs))
	for i, o := range flags.outputs {
		if outputs[i], err = filepath.Abs(o); err != nil {
			return fmt.Errorf("--output %s: %w", o, err)
		}
	}
	mode := ProgressMode(flags.progress)
	if flags.json {
		mode = ProgressJSON
	}
	request, err := flags.request()
	if err != nil {
		return err
	}
	view, err := NewProgress(mode, a.env.Stdout, isTerminal(a.env.Stdout), ProgressOptions{OnInterrupt: a.interrupted})
	if err != nil {
		return err
	}
	r, err := a.remote(ctx)
	if err != nil {
		return err
	}
	if r != nil {
		return a.buildAt(ctx, r, file, flags, view)
	}
	return a.withEngine(ctx, func(e *build.Engine) error {
		options, err := flags.template.options(e.Subscription(), false)
		if err != nil {
			return err
		}
		res, err := flags.template.parse(file, options, localPlace(ctx, e, flags.group))
		if err != nil {
			return err
		}
		if err := WriteProblems(a.env.Stderr, FormatTable, file.path, res.Problems); err != nil {
			return err
		}
		if err := ProblemsError(file.path, res.Problems, true); err != nil {
			return headline(err)
		}
		name := flags.name
		if name == "" {
			name = file.name(res.Template)
		}
		request.Template, request.Name, request.Group, request.Dir = res, name, flags.group, file.dir
		request.Source, request.Outputs, request.Create = flags.source, outputs, !flags.strict
		id := ""
		var report *contents.Report
		err = a.show(ctx, view, func(sink event.Sink) error {
			var rec run.Record
			var err error
			if flags.verify {
				report, rec, err = e.VerifyCache(ctx, request, sink)
			} else {
				rec, err = e.Build(ctx, request, sink)
			}
			id = rec.ID
			return err
		})
		if report != nil {
			return errors.Join(err, a.writeVerification(report))
		}
		if err != nil && flags.onError == onErrorAsk && id != "" {
			return errors.Join(err, a.askAboutFailure(ctx, e, id))
		}
		return err
	})
}

// show runs work while view shows the events that work emits.
func (a *app) show(ctx context.Context, view Progress, work func(event.Sink) error) error {
	events := newStream()
	// The view outlives a cancelled build: its clean-up is to be seen.
	vctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	out := make(chan event.Event)
	go events.pump(vctx, out)
	a.showing.Store(true)
	defer a.showing.Store(false)
	shown := make(chan error, 1)
	go func() {
		err := view.Show(vctx, out)
		if err != nil { // nobody sees the build any more: end it in good order
			a.cancel(arm.Errorf(arm.CodeCanceled, "the progress could not be shown: %w", err))
			stop()
		}
		shown <- err
	}()
	ended := false
	err := work(event.SinkFunc(func(e event.Event) {
		ended = ended || e.Kind == event.RunFinished
		events.Emit(e)
	}))
	events.close()
	verr := <-shown
	if err != nil && ended && verr == nil {
		return &shownError{err} // the view has said how the run ended
	}
	return errors.Join(err, verr)
}
