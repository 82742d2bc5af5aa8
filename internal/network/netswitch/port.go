package netswitch

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"

	"goldsmith/internal/network/frame"
)

// Port is one place on a switch.
type Port struct {
	sw     *Switch
	cfg    PortConfig
	guard  guard
	filter atomic.Pointer[Filter]
	stats  counters

	sink func(frame []byte) bool // hands a frame to what is attached; never blocks
	wire *wire                   // nil for a netstack's port

	stopOnce sync.Once
	done     chan struct{}
	err      error // why the port ended; read after done
}

func newPort(s *Switch, cfg PortConfig) (*Port, error) {
	if cfg.MTU == 0 {
		cfg.MTU = DefaultMTU
	}
	if cfg.QueueBytes == 0 {
		cfg.QueueBytes = DefaultQueueBytes
	}
	if cfg.MTU < 68 || cfg.MTU > frame.MaxSize-frame.HeaderSize {
		return nil, fmt.Errorf("attach port %s: mtu %d is not between 68 and %d", cfg.Name, cfg.MTU, frame.MaxSize-frame.HeaderSize)
	}
	if cfg.MAC.IsGroup() {
		return nil, fmt.Errorf("attach port %s: %v is not a unicast hardware address", cfg.Name, cfg.MAC)
	}
	g, err := newGuard(cfg)
	if err != nil {
		return nil, fmt.Errorf("attach port %s: %w", cfg.Name, err)
	}
	p := &Port{sw: s, cfg: cfg, guard: g, done: make(chan struct{})}
	p.SetFilter(cfg.Filter)
	return p, nil
}

// Name is the port's name on its switch.
func (p *Port) Name() string { return p.cfg.Name }

// SetFilter puts every frame of the port, in both directions, before filter;
// nil lets all pass. Frames that the address binding refuses never reach it.
func (p *Port) SetFilter(filter Filter) {
	if filter == nil {
		p.filter.Store(nil)
		return
	}
	p.filter.Store(&filter)
}

// Stats is what passed the port and what was dropped at it.
func (p *Port) Stats() Stats { return p.stats.snapshot() }

// Done is closed when the port is off the switch and its goroutines have ended.
func (p *Port) Done() <-chan struct{} { return p.done }

// Err is why the port ended: nil while it lives, after Close, and after the
// other end hung up between two frames.
func (p *Port) Err() error {
	select {
	case <-p.done:
		return p.err
	default:
		return nil
	}
}

// Close takes the port off the switch and waits for its goroutines.
func (p *Port) Close() error {
	p.stop()
	<-p.done
	return nil
}

// stop begins the end of the port.
func (p *Port) stop() {
	p.stopOnce.Do(func() {
		if p.wire != nil {
			p.wire.close()
			return
		}
		p.sw.remove(p)
		close(p.done)
	})
}

// serve runs a wire's port until its stream ends.
func (p *Port) serve() {
	writer := make(chan error, 1)
	go func() { writer <- p.wire.write() }()

	err := p.read()
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		err = nil
	}
	p.wire.close()
	if werr := <-writer; err == nil && werr != nil && !hungUp(werr) {
		err = werr
	}
	p.sw.remove(p)
	if err != nil {
		p.err = fmt.Errorf("port %s: %w", p.cfg.Name, err)
	}
	close(p.done)
}

func (p *Port) read() error {
	frames := frame.NewReader(p.wire.conn)
	for {
		b, err := frames.Next()
		switch {
		case errors.Is(err, frame.ErrRunt):
			p.stats.drop(Runt)
		case errors.Is(err, frame.ErrOversize):
			p.stats.drop(Oversize)
			return err
		case err != nil:
			return err
		default:
			p.sw.forward(p, b)
		}
	}
}
