package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"

	"goldsmith/internal/arm"
	"goldsmith/internal/machine/qmp"
)

// stateFile is the name under which QEMU keeps the descriptor of a state.
const stateFile = "state"

// migration is what of a MIGRATION event matters.
type migration struct {
	Status string `json:"status"` // "completed", "failed", ...
}

// settled reports that a migration has ended.
func (s migration) settled() bool {
	return s.Status == "completed" || s.Status == "failed" || s.Status == "cancelled"
}

// switching reports that a migration has ended, or waits with the machine stopped
// to be continued.
func (s migration) switching() bool { return s.settled() || s.Status == "pre-switchover" }

// capabilities makes progress of a migration an event. With fileMemory the
// memory, which is in a file of its own, stays out of the state; saving and
// loading must agree on that. With pause the migration waits for its
// continuation when the machine has stopped.
func capabilities(fileMemory, pause bool) map[string]any {
	return map[string]any{"capabilities": []map[string]any{
		{"capability": "x-ignore-shared", "state": fileMemory},
		{"capability": "pause-before-switchover", "state": pause},
		{"capability": "events", "state": true},
	}}
}

// Save stops the machine, writes its device state to file and ends QEMU.
func (m *Machine) Save(ctx context.Context, file string) error {
	const op = "saving the machine"
	end, err := m.begin(ctx, op)
	if err != nil {
		return err
	}
	defer end()
	switch {
	case !m.saveable:
		return m.spec.Errorf(arm.CodeMachine, "%s is not possible: its memory is not in a file of its own", op)
	case m.seed:
		return m.spec.Errorf(arm.CodeMachine, "%s is not possible while the seed disk is plugged", op)
	}
	state, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return m.spec.Errorf(codeOf(err), "%s: %w", op, err)
	}
	err = m.save(ctx, state)
	if closeErr := state.Close(); closeErr != nil && err == nil {
		err = closeErr
	}
	if err == nil {
		return nil
	}
	err = m.failed(op, err)
	os.Remove(file)
	return err
}

// save migrates the stopped machine into state and quits. When that fails the
// machine runs on.
func (m *Machine) save(ctx context.Context, state *os.File) (err error) {
	defer func() {
		if err == nil {
			return
		}
		m.leaving.Store(false)
		undo, cancel := undoing(ctx)
		defer cancel()
		_ = m.execute(undo, "migrate_cancel", nil, nil) // harmless without a migration
		if contErr := m.execute(undo, "cont", nil, nil); contErr != nil && undo.Err() == nil {
			err = errors.Join(err, contErr)
		}
	}()
	events := m.client.Subscribe("MIGRATION")
	defer events.Close()
	if err := m.execute(ctx, "stop", nil, nil); err != nil {
		return err
	}
	if err := m.migrate(ctx, state, capabilities(true, false)); err != nil {
		return err
	}
	result, err := qmp.Await(ctx, events, migration.settled)
	if err != nil {
		return err
	}
	if result.Status != "completed" {
		return m.migrationError(ctx, result.Status)
	}
	// Durable before anyone relies on it. The memory file is far larger, and its
	// pages need not be: who keeps states across a crash of the host checks them.
	if err := state.Sync(); err != nil {
		return err
	}
	m.leaving.Store(true)
	if err := m.execute(ctx, "quit", nil, nil); err != nil {
		select {
		case <-m.client.Done(): // gone before its answer was heard
		default:
			return err
		}
	}
	select {
	case <-m.exited:
		return m.err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// migrate begins to write the state to file.
func (m *Machine) migrate(ctx context.Context, file *os.File, capabilities map[string]any) error {
	if err := m.execute(ctx, "migrate-set-capabilities", capabilities, nil); err != nil {
		return err
	}
	// The default limit is 128 MiB/s; a file takes what comes.
	if err := m.execute(ctx, "migrate-set-parameters", map[string]any{"max-bandwidth": int64(100e9)}, nil); err != nil {
		return err
	}
	if err := m.client.ExecuteFile(ctx, "getfd", map[string]any{"fdname": stateFile}, nil, file); err != nil {
		return err
	}
	return m.execute(ctx, "migrate", map[string]any{"uri": "fd:" + stateFile}, nil)
}

// load reads the device state of a machine that waits for it, and lets it run.
func (m *Machine) load(ctx context.Context, state *os.File) error {
	limit, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	events := m.client.Subscribe("MIGRATION")
	defer events.Close()
	if err := m.execute(limit, "migrate-set-capabilities", capabilities(m.spec.RAMFile != "", false), nil); err != nil {
		return err
	}
	if err := m.client.ExecuteFile(limit, "getfd", map[string]any{"fdname": stateFile}, nil, state); err != nil {
		return err
	}
	if err := m.execute(limit, "migrate-incoming", map[string]any{"uri": "fd:" + stateFile}, nil); err != nil {
		return err
	}
	result, err := qmp.Await(limit, events, migration.settled)
	if err != nil {
		return err
	}
	if result.Status != "completed" {
		// QEMU says why on its standard error while it exits.
		timer, stop := context.WithTimeout(limit, deathPatience)
		defer stop()
		if err := m.Wait(timer); err != nil {
			return fmt.Errorf("the saved state does not load: %w", err)
		}
		return m.spec.Errorf(arm.CodeMachine, "the saved state does not load")
	}
	return m.execute(limit, "cont", nil, nil)
}

// migrationError asks why a migration ended with status.
func (m *Machine) migrationError(ctx context.Context, status string) error {
	var info struct {
		Desc string `json:"error-desc"`
	}
	if err := m.execute(ctx, "query-migrate", nil, &info); err != nil {
		return err
	}
	if info.Desc == "" {
		info.Desc = "no reason given"
	}
	err := fmt.Errorf("writing the state %s: %s", status, info.Desc)
	return m.spec.Errorf(codeOf(err), "%w", err)
}
