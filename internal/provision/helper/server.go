// Package helper is the program inside a build VM that does as root what the
// builder asks for over a virtio-serial port: tell when the guest has booted,
// give a restored guest its own identity, wait for the network, grow the root
// file system, and at the end take everything of the build out of the guest. It
// assumes systemd, and no distribution.
package helper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"goldsmith/internal/provision/protocol"
)

// System is the guest as the helper acts on it. Linux is the real one.
type System interface {
	// Ready returns when the guest has booted.
	Ready(ctx context.Context) (protocol.Ready, error)
	// Identify makes the guest unlike others restored from the same state.
	Identify(ctx context.Context, id protocol.Identify) error
	// Network returns when the card has an address and sshd answers.
	Network(ctx context.Context, n protocol.Network) (protocol.Address, error)
	// Grow grows the root file system to its disk.
	Grow(ctx context.Context, g protocol.Grow) (protocol.Grown, error)
	// Sync writes everything to the disk.
	Sync(ctx context.Context) error
	// Rest returns when the guest has nothing to do any more.
	Rest(ctx context.Context) error
	// Trim gives free space back to the disk.
	Trim(ctx context.Context) (protocol.Trimmed, error)
	// Release lets go of the seed disk.
	Release(ctx context.Context) error
	// Generalise takes everything of the build out of the guest.
	Generalise(ctx context.Context, g protocol.Generalise) (protocol.Generalised, error)
	// PowerOff ends the guest; the builder learns it from the machine.
	PowerOff(ctx context.Context) error
}

const (
	// requestTime ends a request that nobody will wait for any more. It is longer
	// than any build waits.
	requestTime = 30 * time.Minute
	// maxRequests run at once; further ones are refused.
	maxRequests = 16
)

// Serve answers requests from port until ctx ends or the stream does, and waits
// for the requests under way. It returns io.EOF when the other end closed.
func Serve(ctx context.Context, port io.ReadWriter, sys System) error {
	ctx, stop := context.WithCancel(ctx)
	s := &server{port: port, sys: sys, slots: make(chan struct{}, maxRequests)}
	defer s.work.Wait()
	defer stop()
	in := protocol.NewReader[protocol.Request](port)
	for {
		request, err := in.Read()
		switch {
		case errors.Is(err, protocol.ErrLine):
			continue
		case err != nil:
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		select {
		case s.slots <- struct{}{}:
		default:
			s.reply(protocol.Reply{ID: request.ID, Error: "too many requests at once"})
			continue
		}
		s.work.Go(func() {
			defer func() { <-s.slots }()
			s.handle(ctx, request)
		})
	}
}

// server is one conversation.
type server struct {
	port  io.Writer
	sys   System
	slots chan struct{}
	work  sync.WaitGroup
	write sync.Mutex
}

// reply writes one line. A builder that is gone cannot be told.
func (s *server) reply(r protocol.Reply) {
	line, err := protocol.Encode(r)
	if err != nil {
		line, _ = protocol.Encode(protocol.Reply{ID: r.ID, Error: "the answer is too long: " + err.Error()})
	}
	s.write.Lock()
	defer s.write.Unlock()
	_, _ = s.port.Write(line)
}

// handle answers one request.
func (s *server) handle(ctx context.Context, q protocol.Request) {
	ctx, stop := context.WithTimeout(ctx, requestTime)
	defer stop()
	result, err := s.do(ctx, q)
	r := protocol.Reply{ID: q.ID}
	if err == nil && result != nil {
		r.Result, err = json.Marshal(result)
	}
	if err != nil {
		r = protocol.Reply{ID: q.ID, Error: err.Error()}
	}
	s.reply(r)
	if err == nil && q.Op == protocol.OpGeneralise {
		if err := s.sys.PowerOff(ctx); err != nil {
			s.reply(protocol.Reply{ID: q.ID, Error: "cannot power off: " + err.Error()})
		}
	}
}

// do carries out one request; a nil result has nothing to tell.
func (s *server) do(ctx context.Context, q protocol.Request) (any, error) {
	switch q.Op {
	case protocol.OpHello:
		hello, err := args[protocol.Hello](q)
		hello.Version = protocol.Version
		return hello, err
	case protocol.OpReady:
		return s.sys.Ready(ctx)
	case protocol.OpIdentify:
		id, err := args[protocol.Identify](q)
		if err != nil {
			return nil, err
		}
		return nil, s.sys.Identify(ctx, id)
	case protocol.OpNetwork:
		n, err := args[protocol.Network](q)
		if err != nil {
			return nil, err
		}
		return s.sys.Network(ctx, n)
	case protocol.OpGrow:
		g, err := args[protocol.Grow](q)
		if err != nil {
			return nil, err
		}
		return s.sys.Grow(ctx, g)
	case protocol.OpSync:
		return nil, s.sys.Sync(ctx)
	case protocol.OpRest:
		return nil, s.sys.Rest(ctx)
	case protocol.OpTrim:
		return s.sys.Trim(ctx)
	case protocol.OpRelease:
		return nil, s.sys.Release(ctx)
	case protocol.OpGeneralise:
		g, err := args[protocol.Generalise](q)
		if err != nil {
			return nil, err
		}
		return s.sys.Generalise(ctx, g)
	}
	return nil, fmt.Errorf("unknown request %q", q.Op)
}

// args decodes a request's arguments.
func args[T any](q protocol.Request) (T, error) {
	var v T
	if err := json.Unmarshal(q.Args, &v); err != nil {
		return v, fmt.Errorf("malformed arguments of %q: %w", q.Op, err)
	}
	return v, nil
}
