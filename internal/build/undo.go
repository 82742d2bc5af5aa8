package build

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
	"goldsmith/internal/run"
)

// undoDeadline bounds giving everything back.
const undoDeadline = 10 * time.Second

// Kinds of acquisitions that outlive a crash and are therefore recorded.
const (
	undoDir      = "dir"      // a directory below the data directory
	undoResource = "resource" // a record of the staging group, with all below it
	undoPins     = "pins"     // the run's pins on layers
)

// undoStack is what a run has acquired. Each entry is recorded with the run
// before the acquisition, so that a crash in between is cleaned by the next
// start; undoing is idempotent.
type undoStack struct {
	engine *Engine
	run    *activeRun
}

// push records that u is about to be acquired.
func (s undoStack) push(ctx context.Context, u run.Undo) error {
	return s.run.update(ctx, func(r *run.Record) error {
		if !slices.Contains(r.Undo, u) {
			r.Undo = append(r.Undo, u)
		}
		return nil
	})
}

// drop forgets u: it has become permanent.
func (s undoStack) drop(ctx context.Context, u run.Undo) error {
	return s.run.update(ctx, func(r *run.Record) error {
		r.Undo = slices.DeleteFunc(r.Undo, func(v run.Undo) bool { return v == u })
		return nil
	})
}

// unwind gives everything back, newest first. It runs even when ctx is done.
// What fails stays recorded.
func (s undoStack) unwind(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoDeadline)
	defer cancel()
	left, err := s.engine.undoAll(ctx, s.run.snapshot())
	if uerr := s.run.update(ctx, func(r *run.Record) error { r.Undo = left; return nil }); uerr != nil {
		err = errors.Join(err, fmt.Errorf("record what was undone: %w", uerr))
	}
	return err
}

// undoAll undoes rec's acquisitions and returns those that are left.
func (e *Engine) undoAll(ctx context.Context, rec run.Record) (left []run.Undo, err error) {
	for _, u := range slices.Backward(rec.Undo) {
		if uerr := e.undo(ctx, rec, u); uerr != nil {
			err = errors.Join(err, fmt.Errorf("undo %s %s: %w", u.Kind, u.Target, uerr))
			left = append(left, u)
		}
	}
	slices.Reverse(left)
	return left, err
}

// undo gives one acquisition back.
func (e *Engine) undo(ctx context.Context, rec run.Record, u run.Undo) error {
	switch u.Kind {
	case undoDir:
		path := filepath.Join(e.dir, u.Target)
		if !strings.HasPrefix(path, e.dir+string(filepath.Separator)) {
			return arm.Errorf(arm.CodeInternal, "%s is outside the data directory", u.Target)
		}
		return os.RemoveAll(path)
	case undoResource:
		_, err := e.resources.Delete(ctx, u.Target, resource.Condition{})
		if arm.IsCode(err, arm.CodeNotFound) || arm.IsCode(err, arm.CodeGroupNotFound) {
			return nil
		}
		return err
	case undoPins:
		return e.layers.Unpin(ctx, rec.ID, "")
	}
	return arm.Errorf(arm.CodeInternal, "no way to undo a %q", u.Kind)
}
