// Package helpertest is a guest's helper without a guest: the real protocol and
// server over a system that only remembers what was asked of it, and fails on
// demand.
package helpertest

import (
	"context"
	"errors"
	"io"
	"sync"

	"goldsmith/internal/provision/helper"
	"goldsmith/internal/provision/protocol"
)

// Guest is the system behind the helper. Its zero value is a healthy guest; set
// its fields before Serve.
type Guest struct {
	// Boot is closed when the guest has booted; nil for at once.
	Boot <-chan struct{}
	// Booted is what Ready answers; its zero value is a running system with the
	// Azure agent.
	Booted protocol.Ready
	// Size is the root file system after Grow, in bytes.
	Size int64
	// On is called before a request is carried out and may fail it or hold it until
	// ctx ends.
	On func(ctx context.Context, op protocol.Op) error
	// Identified is called with a new identity, so that an SSH server can take its
	// keys over.
	Identified func(protocol.Identify) error
	// Off is called when the guest powers off.
	Off func()

	mu       sync.Mutex
	ops      []protocol.Op
	identity protocol.Identify
}

var _ helper.System = (*Guest)(nil)

// Serve answers on port until ctx ends or port is closed, which is no error. A
// port that is an io.Closer is closed when ctx ends, so that reading ends too.
func (g *Guest) Serve(ctx context.Context, port io.ReadWriter) error {
	if c, ok := port.(io.Closer); ok {
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		defer stop()
	}
	err := helper.Serve(ctx, port, g)
	if ctx.Err() != nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		return nil
	}
	return err
}

// Ops are the requests so far, without hello.
func (g *Guest) Ops() []protocol.Op {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]protocol.Op(nil), g.ops...)
}

// Identity is the last one given.
func (g *Guest) Identity() protocol.Identify {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.identity
}

// note remembers a request and lets On decide about it.
func (g *Guest) note(ctx context.Context, op protocol.Op) error {
	g.mu.Lock()
	g.ops = append(g.ops, op)
	g.mu.Unlock()
	if g.On == nil {
		return nil
	}
	return g.On(ctx, op)
}

// Ready waits for Boot.
func (g *Guest) Ready(ctx context.Context) (protocol.Ready, error) {
	if err := g.note(ctx, protocol.OpReady); err != nil {
		return protocol.Ready{}, err
	}
	if g.Boot != nil {
		select {
		case <-g.Boot:
		case <-ctx.Done():
			return protocol.Ready{}, context.Cause(ctx)
		}
	}
	if g.Booted.State == "" {
		return protocol.Ready{State: "running", Waagent: true}, nil
	}
	return g.Booted, nil
}

// Identify keeps the identity.
func (g *Guest) Identify(ctx context.Context, id protocol.Identify) error {
	if err := g.note(ctx, protocol.OpIdentify); err != nil {
		return err
	}
	g.mu.Lock()
	g.identity = id
	g.mu.Unlock()
	if g.Identified != nil {
		return g.Identified(id)
	}
	return nil
}

// Network has an address at once.
func (g *Guest) Network(ctx context.Context, _ protocol.Network) (protocol.Address, error) {
	return protocol.Address{Interface: "eth0", Address: "10.0.0.4/24"}, g.note(ctx, protocol.OpNetwork)
}

// Grow answers Size.
func (g *Guest) Grow(ctx context.Context, _ protocol.Grow) (protocol.Grown, error) {
	return protocol.Grown{Bytes: g.Size}, g.note(ctx, protocol.OpGrow)
}

// Sync does nothing.
func (g *Guest) Sync(ctx context.Context) error { return g.note(ctx, protocol.OpSync) }

// Rest has nothing to wait for.
func (g *Guest) Rest(ctx context.Context) error { return g.note(ctx, protocol.OpRest) }

// Trim has nothing to trim.
func (g *Guest) Trim(ctx context.Context) (protocol.Trimmed, error) {
	return protocol.Trimmed{}, g.note(ctx, protocol.OpTrim)
}

// Release does nothing.
func (g *Guest) Release(ctx context.Context) error { return g.note(ctx, protocol.OpRelease) }

// Generalise removes nothing.
func (g *Guest) Generalise(ctx context.Context, _ protocol.Generalise) (protocol.Generalised, error) {
	return protocol.Generalised{}, g.note(ctx, protocol.OpGeneralise)
}

// PowerOff calls Off.
func (g *Guest) PowerOff(context.Context) error {
	if g.Off != nil {
		g.Off()
	}
	return nil
}
