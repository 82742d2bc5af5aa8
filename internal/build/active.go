package build

import (
	"context"
	"sync"

	"goldsmith/internal/event"
	"goldsmith/internal/queue"
	"goldsmith/internal/run"
)

// activeRun is a run while this process holds its lease.
type activeRun struct {
	lease *queue.Lease
	sink  event.Sink

	mu  sync.Mutex
	rec run.Record
}

// id is the run's id.
func (a *activeRun) id() string { return a.lease.ID() }

// snapshot is the record as last read or written.
func (a *activeRun) snapshot() run.Record {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.rec
}

// update applies change to the stored record, fenced by the lease.
func (a *activeRun) update(ctx context.Context, change func(*run.Record) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	rec, err := a.lease.Update(ctx, change)
	if err != nil {
		return err
	}
	a.rec = rec
	return nil
}

// subStates says which sub-state lastRunStatus shows during a phase.
var subStates = map[event.Phase]run.SubState{
	event.PhasePrepare:    run.SubBuilding,
	event.PhaseStart:      run.SubBuilding,
	event.PhaseCustomize:  run.SubCustomizing,
	event.PhaseGeneralize: run.SubCustomizing,
	event.PhaseCapture:    run.SubDistributing,
	event.PhaseValidate:   run.SubValidating,
	event.PhaseDistribute: run.SubDistributing,
	event.PhaseExport:     run.SubDistributing,
}

// enter records that a phase has begun.
func (a *activeRun) enter(ctx context.Context, phase event.Phase) error {
	return a.update(ctx, func(r *run.Record) error {
		r.Phase = string(phase)
		if sub, ok := subStates[phase]; ok && r.State == run.Running {
			r.SubState = sub
		}
		return nil
	})
}
