// Package balancer is an internal load balancer: a frontend address, probes that
// find out which backends are healthy, and the relaying of connections to them.
package balancer

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"goldsmith/internal/network/station"
)

// Defaults of Config.
const (
	DefaultInterval = time.Second
	probeTimeout    = 2 * time.Second
	threshold       = 2 // failed probes in a row make a backend unhealthy
	maxConnections  = 256
)

// State is the health of a backend.
type State string

// States.
const (
	Unknown   State = "unknown" // not probed yet
	Healthy   State = "healthy"
	Unhealthy State = "unhealthy"
)

// Config describes a balancer of one backend, which is all that a deployment
// has.
type Config struct {
	Frontend *station.Station // whose address it listens at
	Port     uint16           // of frontend and backend
	Backend  netip.Addr
	// Admit are the only addresses whose connections are taken.
	Admit []netip.Addr
	// Probe opens a connection to the backend the way probes come.
	Probe    func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	Interval time.Duration // between probes; 0 is DefaultInterval
	// OnChange hears of every change of the backend's state, one at a time.
	OnChange func(State, error)
}

// Balancer is a running load balancer. Close is always needed.
type Balancer struct {
	cfg      Config
	listener net.Listener
	slots    chan struct{}
	ctx      context.Context
	cancel   context.CancelFunc
	work     sync.WaitGroup

	mu      sync.Mutex
	state   State
	changed chan struct{} // closed at the next change
	abandon func()        // ends a probe of a backend that is unknown yet; may be nil
}

// New starts a balancer.
func New(cfg Config) (*Balancer, error) {
	if cfg.Interval == 0 {
		cfg.Interval = DefaultInterval
	}
	if cfg.OnChange == nil {
		cfg.OnChange = func(State, error) {}
	}
	l, err := cfg.Frontend.Listen(cfg.Port)
	if err != nil {
		return nil, fmt.Errorf("listen at the frontend of the load balancer: %w", err)
	}
	b := &Balancer{cfg: cfg, listener: l, slots: make(chan struct{}, maxConnections), state: Unknown, changed: make(chan struct{})}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.work.Go(b.probe)
	b.work.Go(b.accept)
	return b, nil
}

// State is the backend's state now.
func (b *Balancer) State() State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}

// Await waits until the backend is healthy.
func (b *Balancer) Await(ctx context.Context) error {
	for {
		b.mu.Lock()
		state, changed := b.state, b.changed
		b.mu.Unlock()
		if state == Healthy {
			return nil
		}
		select {
		case <-changed:
		case <-b.ctx.Done():
			return net.ErrClosed
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// Probe says that a backend that is not known yet can answer from now on: a probe
// that is under way may have been sent too early to be answered, so the next one
// follows at once.
func (b *Balancer) Probe() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.abandon != nil {
		b.abandon()
	}
}

func (b *Balancer) set(s State, why error) {
	b.mu.Lock()
	same := b.state == s
	if !same {
		b.state = s
		close(b.changed)
		b.changed = make(chan struct{})
	}
	b.mu.Unlock()
	if !same {
		b.cfg.OnChange(s, why)
	}
}

// startInterval is the time between probes before the first success: a backend
// that starts is used as soon as it answers, and a lost packet is not waited for.
const (
	startInterval = 50 * time.Millisecond
	startTimeout  = 400 * time.Millisecond
)

// probe probes until Close.
func (b *Balancer) probe() {
	failures, interval := 0, min(startInterval, b.cfg.Interval)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-b.ctx.Done():
			return
		}
		err := b.probeOnce()
		switch {
		case b.ctx.Err() != nil:
			return
		case err == nil:
			failures, interval = 0, b.cfg.Interval
			b.set(Healthy, nil)
		default:
			failures++
			if failures >= threshold && b.State() == Healthy {
				b.set(Unhealthy, err)
			}
		}
		timer.Reset(interval)
	}
}

func (b *Balancer) probeOnce() error {
	timeout, starting := probeTimeout, b.State() == Unknown
	if starting {
		timeout = startTimeout
	}
	ctx, cancel := context.WithTimeout(b.ctx, timeout)
	defer cancel()
	if starting {
		b.setAbandon(cancel)
		defer b.setAbandon(nil)
	}
	c, err := b.cfg.Probe(ctx, b.backend())
	if err != nil {
		return err
	}
	return c.Close()
}

func (b *Balancer) setAbandon(abandon func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.abandon = abandon
}

func (b *Balancer) backend() netip.AddrPort { return netip.AddrPortFrom(b.cfg.Backend, b.cfg.Port) }

// accept takes connections until Close.
func (b *Balancer) accept() {
	for {
		c, err := b.listener.Accept()
		if err != nil {
			return
		}
		select {
		case b.slots <- struct{}{}:
			b.work.Go(func() {
				defer func() { <-b.slots }()
				b.relay(c)
			})
		default:
			_ = c.Close()
		}
	}
}

// relay carries one connection to the backend.
func (b *Balancer) relay(front net.Conn) {
	defer front.Close()
	from, err := netip.ParseAddrPort(front.RemoteAddr().String())
	if err != nil || !b.admits(from.Addr()) || b.State() != Healthy {
		return
	}
	back, err := b.cfg.Frontend.Dial(b.ctx, b.backend())
	if err != nil {
		return
	}
	defer back.Close()
	end := sync.OnceFunc(func() {
		_ = front.Close()
		back.Abort()
	})
	defer context.AfterFunc(b.ctx, end)()
	var down sync.WaitGroup
	down.Go(func() {
		if _, err := io.Copy(front, back); err != nil {
			end()
		}
		if h, ok := front.(interface{ CloseWrite() error }); ok {
			_ = h.CloseWrite()
		}
	})
	if _, err := io.Copy(back, front); err != nil {
		end()
	}
	_ = back.CloseWrite()
	down.Wait()
}

func (b *Balancer) admits(a netip.Addr) bool {
	for _, ok := range b.cfg.Admit {
		if a == ok {
			return true
		}
	}
	return false
}

// Close stops probing, ends every connection and waits.
func (b *Balancer) Close() error {
	b.cancel()
	err := b.listener.Close()
	b.work.Wait()
	return err
}
