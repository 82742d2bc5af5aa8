package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/machine"
	"goldsmith/internal/machine/qmp"
)

// convergence is how long a guest may dirty its memory faster than it is written
// before it is stopped for the rest.
const convergence = 5 * time.Second

// Checkpoint seals the disk and writes the machine's whole state, which it keeps.
// Memory is written while the guest runs; the guest stands still only for what it
// changed meanwhile, and in that moment the disk is sealed.
func (m *Machine) Checkpoint(ctx context.Context, overlay, file string) error {
	const op = "saving the machine with its disk"
	end, err := m.begin(ctx, op)
	if err != nil {
		return err
	}
	defer end()
	switch {
	case m.disk == "":
		return m.spec.Errorf(arm.CodeMachine, "%s is not possible: it has no disk", op)
	case m.seed:
		return m.spec.Errorf(arm.CodeMachine, "%s is not possible while the seed disk is plugged", op)
	}
	if _, err := os.Stat(overlay); err != nil {
		return m.spec.Errorf(arm.CodeMachine, "%s: the overlay must exist: %w", op, err)
	}
	state, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return m.spec.Errorf(codeOf(err), "%s: %w", op, err)
	}
	next := m.layer + 1
	err = m.addOverlay(ctx, next, overlay)
	if err == nil {
		var switched bool
		if switched, err = m.checkpoint(ctx, state, next); switched {
			m.disk, m.layer = overlay, next
			if err != nil {
				err = fmt.Errorf("%w: %w", machine.ErrMemoryNotSaved, m.failed(op, err))
			}
		} else {
			undo, cancel := undoing(ctx)
			defer cancel()
			m.removeOverlay(undo, next)
		}
	}
	if closeErr := state.Close(); closeErr != nil && err == nil {
		err = fmt.Errorf("%w: %w", machine.ErrMemoryNotSaved, closeErr)
	}
	if err == nil {
		return nil
	}
	os.Remove(file)
	return m.failed(op, err)
}

// checkpoint migrates the running machine into state and switches to the n-th
// node when it stands still. The machine goes on whatever happens.
func (m *Machine) checkpoint(ctx context.Context, state *os.File, n int) (switched bool, err error) {
	events := m.client.Subscribe("MIGRATION")
	defer events.Close()
	defer func() {
		undo, cancel := undoing(ctx)
		defer cancel()
		if err != nil {
			_ = m.execute(undo, "migrate_cancel", nil, nil) // harmless without a migration
			if top, topErr := m.top(undo); topErr == nil {
				switched = top == nodeName(n)
			}
		}
		contErr := m.finalized(undo)
		if contErr == nil {
			contErr = m.execute(undo, "cont", nil, nil)
		}
		if contErr != nil && err == nil {
			err = contErr
		}
	}()
	if err := m.migrate(ctx, state, capabilities(false, true)); err != nil {
		return false, err
	}
	at, err := m.converge(ctx, events)
	if err != nil {
		return false, err
	}
	if at.Status != "pre-switchover" {
		return false, m.migrationError(ctx, at.Status)
	}
	if err := m.execute(ctx, "blockdev-snapshot", map[string]any{"node": nodeName(m.layer), "overlay": nodeName(n)}, nil); err != nil {
		return false, err
	}
	if err := m.execute(ctx, "migrate-continue", map[string]any{"state": "pre-switchover"}, nil); err != nil {
		return true, err
	}
	at, err = qmp.Await(ctx, events, migration.settled)
	if err != nil {
		return true, err
	}
	if at.Status != "completed" {
		return true, m.migrationError(ctx, at.Status)
	}
	return true, nil
}

// converge waits until the machine stands still with all but the last of its
// memory written. A guest that is too busy for that is stopped.
func (m *Machine) converge(ctx context.Context, events *qmp.Subscription) (migration, error) {
	limit, cancel := context.WithTimeout(ctx, convergence)
	at, err := qmp.Await(limit, events, migration.switching)
	cancel()
	if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
		return at, err
	}
	if err := m.execute(ctx, "stop", nil, nil); err != nil {
		return at, err
	}
	return qmp.Await(ctx, events, migration.switching)
}

// finalized waits until QEMU has put a migration away. It says that one is
// completed a moment before, and does not let the machine go on until then.
func (m *Machine) finalized(ctx context.Context) error {
	poll := time.NewTicker(time.Millisecond)
	defer poll.Stop()
	for {
		var now struct {
			Status string `json:"status"`
		}
		if err := m.execute(ctx, "query-status", nil, &now); err != nil {
			return err
		}
		if now.Status != "finish-migrate" {
			return nil
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
