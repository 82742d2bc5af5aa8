package build

import (
	"context"
	"os"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
	"goldsmith/internal/network/topology"
	"goldsmith/internal/run"
)

// lastWords is how long a follower waits for the last event of a run that has
// ended, which is written after its record.
const lastWords = 2 * time.Second

// Follow passes the events of a run from an offset on to yield, those to come
// included, until the run has ended, yield is false, or ctx ends.
func (e *Engine) Follow(ctx context.Context, runID string, from int64, yield func(event.Event) bool) error {
	rec, err := e.runs.Get(ctx, runID)
	if err != nil {
		return err
	}
	fctx, stop := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if _, err := e.Ended(fctx, rec.ID); err != nil {
			return // stopped, or the log alone must say when it ends
		}
		late := time.NewTimer(lastWords)
		defer late.Stop()
		select {
		case <-late.C:
			stop()
		case <-fctx.Done():
		}
	}()
	defer func() {
		stop()
		<-watched
	}()
	for ev, err := range event.Follow(fctx, e.LogPath(rec.ID), from) {
		switch {
		case err != nil && fctx.Err() != nil:
			return ctx.Err() // nil when the run has ended without a last word
		case err != nil:
			return err
		case !yield(ev):
			return nil
		}
	}
	return nil
}

// Network is how a run is or was connected, with what it reached outside, as its
// events tell now; found is false for a run that had no network yet, or whose events
// are gone.
func (e *Engine) Network(runID string) (v topology.View, found bool, err error) {
	if !run.ValidID(runID) {
		return v, false, run.ErrNotFound(runID)
	}
	if _, err := os.Stat(e.LogPath(runID)); os.IsNotExist(err) {
		return v, false, nil
	}
	v, found, err = topology.Collect(event.Select(e.LogPath(runID), event.Topology, event.Connection))
	if err != nil {
		return v, false, arm.Errorf(arm.CodeCorrupt, "draw the network of run %s: %w", runID, err)
	}
	return v, found, nil
}

// Events are those that the log of a run holds now, from an offset on, at most
// limit.
func (e *Engine) Events(runID string, from int64, limit int) ([]event.Event, error) {
	var all []event.Event
	if !run.ValidID(runID) {
		return nil, run.ErrNotFound(runID)
	}
	if _, err := os.Stat(e.LogPath(runID)); os.IsNotExist(err) {
		return nil, nil
	}
	for ev, err := range event.Read(e.LogPath(runID), from) {
		if err != nil {
			return nil, err
		}
		if all = append(all, ev); len(all) >= limit {
			break
		}
	}
	return all, nil
}
