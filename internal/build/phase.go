package build

import (
	"context"
	"time"

	"goldsmith/internal/event"
)

// phase runs f as a phase of the run and reports its start, its end and its
// time; steps is how many steps it has, 0 for none.
func (a *activeRun) phase(ctx context.Context, name event.Phase, steps int, f func(ctx context.Context) error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if err := a.enter(ctx, name); err != nil {
		return err
	}
	return report(a.sink, name, steps, func() error { return f(ctx) })
}

// report brackets f with the events of a phase.
func report(sink event.Sink, name event.Phase, steps int, f func() error) error {
	start := time.Now()
	sink.Emit(event.Event{Kind: event.PhaseStarted, Phase: name, Total: int64(steps)})
	err := f()
	sink.Emit(event.Event{Kind: event.PhaseFinished, Phase: name, Elapsed: time.Since(start), Err: event.FailureOf(err)})
	return err
}
