package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
	"goldsmith/internal/machine"
	"goldsmith/internal/network"
	"goldsmith/internal/network/imds"
)

// launcher starts machines on one image.
type launcher struct {
	engine    *Engine
	sink      event.Sink
	name      string // of the machine, and its host name
	origin    string // of the image, for people
	shape     machine.Shape
	diskBytes int64  // virtual size of the image's disk
	work      string // scratch directory
	console   string // console log, appended to
	// open makes the network of a restored machine; nil makes a private one.
	open func(ctx context.Context, guest *vm) error
	// elsewhere says that the addresses of that network may differ from those that
	// the guest knew.
	elsewhere bool
	recorder  *recorder // shows the traffic of the machine's network; may be nil
	// terminal takes the console instead, when it is not nil.
	terminal *os.File
	// identities are those of the machine, nil for none.
	identities []imds.Identity
}

// bootSpec says with which files a machine boots.
type bootSpec struct {
	disk, ram, vars string
	// open makes the network of the machine; nil makes a private one.
	open func(ctx context.Context, guest *vm) error
}

// openPrivate makes a network for the machine alone.
func (l *launcher) openPrivate(_ context.Context, guest *vm) error {
	cfg := l.observe()
	cfg.Egress = l.engine.cfg.Egress
	l.giveIdentities(guest, &cfg)
	made, err := l.engine.newNetwork(cfg)
	if err != nil {
		return fmt.Errorf("make the build network: %w", err)
	}
	guest.network = made
	l.recorder.watch(made)
	return nil
}

// boot starts a machine on the base with seed and NIC, waits until the guest is
// ready, and unplugs the seed.
func (l *launcher) boot(ctx context.Context, guest *vm, s bootSpec) error {
	content, err := makeSeed()
	if err != nil {
		return err
	}
	seed := filepath.Join(l.work, "seed.iso")
	if err := renameio.WriteFile(seed, content, 0o644); err != nil {
		return fmt.Errorf("write the seed disk: %w", err)
	}
	spec, err := l.spec(guest, s)
	if err != nil {
		return err
	}
	spec.Seed = seed
	open := s.open
	if open == nil {
		open = l.openPrivate
	}
	if err := open(ctx, guest); err != nil {
		return err
	}
	wire, err := guest.network.AttachBuildVM(ctx)
	if err != nil {
		return err
	}
	spec.NICAtBoot = &machine.NIC{MAC: network.BuildMAC, Conn: wire}
	hypervisor, _, err := l.engine.vms.get(ctx)
	if err != nil {
		return err
	}
	start := time.Now()
	if guest.machine, err = hypervisor.Start(ctx, spec); err != nil {
		return err
	}
	if err := l.ready(ctx, guest); err != nil {
		return err
	}
	l.info("%s booted in %s", l.origin, time.Since(start).Round(100*time.Millisecond))
	return guest.watch(ctx, func(ctx context.Context) error {
		if err := guest.helper.Release(ctx); err != nil {
			return fmt.Errorf("release the seed disk: %w", err)
		}
		uctx, cancel := context.WithTimeout(ctx, unplugTimeout)
		defer cancel()
		if err := guest.machine.UnplugSeed(uctx); err != nil {
			return fmt.Errorf("unplug the seed disk: %w", err)
		}
		return nil
	})
}

// unplugTimeout is how long a guest may take to let go of a device.
const unplugTimeout = time.Minute

// ready waits for the guest helper's signal.
func (l *launcher) ready(ctx context.Context, guest *vm) error {
	rctx, cancel := context.WithTimeoutCause(ctx, l.engine.bootTimeout, errNotReady)
	defer cancel()
	err := guest.dial(rctx)
	if err == nil {
		err = guest.watch(rctx, func(ctx context.Context) error {
			state, err := guest.helper.Ready(ctx)
			guest.waagent = state.Waagent
			for _, problem := range slices.Concat(state.Failed, state.Errors) {
				l.warn("while the guest booted: %s", problem)
			}
			return err
		})
	}
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	tail := consoleTail(l.console)
	return arm.Errorf(arm.CodeGuestNotReady, "the guest did not become ready within %s: %w\nlast lines of its console:\n%s", l.engine.bootTimeout, err, tail)
}

var errNotReady = errors.New("the guest helper never answered")

// spec is the machine of this run; its console is appended to the run's.
func (l *launcher) spec(guest *vm, s bootSpec) (machine.Spec, error) {
	console := l.terminal
	if console == nil {
		var err error
		if console, err = os.OpenFile(l.console, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
			return machine.Spec{}, fmt.Errorf("open the console log: %w", err)
		}
		guest.console = console
	}
	return machine.Spec{
		Name: l.name, Shape: l.shape, Dir: l.work, Disk: s.disk, RAMFile: s.ram, Vars: s.vars,
		Console: console, DiskBytes: l.diskBytes,
	}, nil
}

func (l *launcher) decide(format string, args ...any) {
	l.sink.Emit(event.Event{Kind: event.Decision, Text: fmt.Sprintf(format, args...)})
}

func (l *launcher) info(format string, args ...any) {
	l.sink.Emit(event.Event{Kind: event.Info, Text: fmt.Sprintf(format, args...)})
}

func (l *launcher) warn(format string, args ...any) {
	l.sink.Emit(event.Event{Kind: event.Warning, Text: fmt.Sprintf(format, args...)})
}

// progress reports bytes done as events named what.
func (l *launcher) progress(what string) func(done, total int64) {
	return func(done, total int64) {
		l.sink.Emit(event.Event{Kind: event.Progress, Text: what, Done: done, Total: total})
	}
}

// consoleTailBytes is how much of a console an error shows.
const consoleTailBytes = 2 << 10

// consoleTail is the end of a console log; "" when there is none.
func consoleTail(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > consoleTailBytes {
		if _, err := f.Seek(-consoleTailBytes, io.SeekEnd); err != nil {
			return ""
		}
	}
	b, err := io.ReadAll(io.LimitReader(f, consoleTailBytes))
	if err != nil {
		return ""
	}
	return strings.ToValidUTF8(string(b), "?")
}
