package machinetest

import (
	"context"
	"errors"
	"fmt"

	"goldsmith/internal/arm"
)

// Op is an operation that faults can be set on.
type Op string

// Operations.
const (
	Start      Op = "start"
	Restore    Op = "restore"
	PlugNIC    Op = "plug NIC"
	UnplugNIC  Op = "unplug NIC"
	UnplugSeed Op = "unplug seed"
	Seal       Op = "seal"
	Resize     Op = "resize"
	Save       Op = "save"
	Checkpoint Op = "checkpoint"
	PowerDown  Op = "power down"
)

// Ops are all operations.
var Ops = []Op{Start, Restore, PlugNIC, UnplugNIC, UnplugSeed, Seal, Checkpoint, Resize, Save, PowerDown}

// errHang is the fault of an operation that ends only with its context.
var errHang = errors.New("hang")

// fault is what happens to one call.
type fault struct {
	err error // what the call returns; errHang to hang
	die bool  // the machine dies of it
}

// FailOn makes the next call of op that no earlier fault takes fail with err,
// without an effect.
func (f *Fake) FailOn(op Op, err error) { f.script(op, fault{err: err}) }

// HangOn makes the next call of op that no earlier fault takes hang until its
// context ends.
func (f *Fake) HangOn(op Op) { f.script(op, fault{err: errHang}) }

// OnHang makes f be called whenever an operation begins to hang.
func (f *Fake) OnHang(call func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.onHang = call
}

// DieOn makes the machine die of reason during the next call of op that no
// earlier fault takes. On Start and Restore it is the same as FailOn.
func (f *Fake) DieOn(op Op, reason error) { f.script(op, fault{err: reason, die: true}) }

// DieAt makes the machine die of reason during the n-th operation from now,
// counted from 1, whichever it is.
func (f *Fake) DieAt(n int, reason error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dieIn, f.dieOf = n, reason
}

func (f *Fake) script(op Op, fault fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.faults[op] = append(f.faults[op], fault)
}

// enter notes a call of op and lets the fault that is set on it happen. kill is
// how the machine dies; nil when there is none yet.
func (f *Fake) enter(ctx context.Context, op Op, name string, kill func(error)) error {
	f.mu.Lock()
	f.calls = append(f.calls, op)
	var now *fault
	if queue := f.faults[op]; len(queue) > 0 {
		now, f.faults[op] = &queue[0], queue[1:]
	}
	if f.dieIn > 0 {
		if f.dieIn--; f.dieIn == 0 {
			now = &fault{err: f.dieOf, die: true}
		}
	}
	onHang := f.onHang
	f.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("machine %s: %s: %w", name, op, context.Cause(ctx))
	case now == nil:
		return nil
	case errors.Is(now.err, errHang):
		if onHang != nil {
			onHang()
		}
		<-ctx.Done()
		return fmt.Errorf("machine %s: %s: %w", name, op, context.Cause(ctx))
	case now.die && kill != nil:
		kill(now.err)
	}
	return coded(name, op, now.err)
}

// coded gives err a code unless it has one.
func coded(name string, op Op, err error) error {
	var already *arm.Error
	if errors.As(err, &already) {
		return err
	}
	return arm.Errorf(arm.CodeMachine, "%s failed: %w", op, err).At("machine " + name)
}
