// Package netswitch is an Ethernet switch in user space. Machines are attached
// by stream sockets, netstacks directly; what a port may send is bound to its
// hardware and network addresses, so the switch has nothing to learn and nobody
// on it can pretend to be somebody else. A port that does not read loses its own
// frames and delays nobody.
package netswitch

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"goldsmith/internal/network/frame"
)

// Defaults of PortConfig.
const (
	DefaultMTU        = 1500
	DefaultQueueBytes = 2 << 20
)

// PortConfig says what a port is and what may come out of it.
type PortConfig struct {
	Name string    // unique on the switch; for captures, statistics and errors
	MAC  frame.MAC // frames to it go to this port
	// Addrs are the only IPv4 addresses the port may use as a source.
	Addrs []netip.Addr
	// Forwards are addresses of others whose packets the port may pass on, as a
	// router does. It may not claim them.
	Forwards []netip.Addr
	// Filter judges every frame of the port from the first on; see SetFilter.
	Filter Filter
	// Trusted lifts every check of what the port sends. Gateways and other
	// parts of this program are trusted; nothing that runs foreign code is.
	Trusted bool
	// Uplink makes this the port of every destination not known here. At most
	// one port of a switch has it; without one such frames are dropped.
	Uplink bool
	// MTU is the largest IP packet in bytes, 68 to 65536-HeaderSize;
	// 0 is DefaultMTU.
	MTU int
	// QueueBytes bounds what waits for the port's reader; frames beyond it are
	// dropped. 0 is DefaultQueueBytes.
	QueueBytes int
}

// Direction is the side of a port on which a frame passes.
type Direction uint8

// Directions.
const (
	FromPort Direction = iota + 1 // sent by what is attached
	ToPort                        // on its way to what is attached
)

// Filter decides whether a frame passes a port. It runs on the path of every
// frame, concurrently, and must not keep or change the frame.
type Filter func(dir Direction, frame []byte) bool

// Tap sees every frame that passes a port, under the rules of Filter.
type Tap func(port string, dir Direction, frame []byte)

// ErrClosed is returned for a switch or port that is closed.
var ErrClosed = errors.New("closed")

// Switch connects ports. Its zero value is not usable; see New.
type Switch struct {
	table atomic.Pointer[table]
	tap   atomic.Pointer[Tap]

	mu     sync.Mutex // serialises changes of table
	closed bool
}

// table is what forwarding reads; it is replaced, never changed.
type table struct {
	byMAC  map[frame.MAC]*Port
	uplink *Port
}

// New makes a switch without ports.
func New() *Switch {
	s := &Switch{}
	s.table.Store(&table{})
	return s
}

// SetTap shows every frame to tap from now on; nil ends that.
func (s *Switch) SetTap(tap Tap) {
	if tap == nil {
		s.tap.Store(nil)
		return
	}
	s.tap.Store(&tap)
}

// Attach makes a port at one end of a stream of frames and takes ownership of
// conn. The port ends when the stream does.
func (s *Switch) Attach(conn net.Conn, cfg PortConfig) (*Port, error) {
	p, err := newPort(s, cfg)
	if err == nil {
		p.wire = newWire(conn, p.cfg.QueueBytes)
		p.sink = p.wire.push
		err = s.add(p)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	go p.serve()
	return p, nil
}

// PortStats is the statistics of the port called name, zero if there is none.
func (s *Switch) PortStats(name string) Stats {
	for _, p := range s.table.Load().byMAC {
		if p.cfg.Name == name {
			return p.Stats()
		}
	}
	return Stats{}
}

// Close closes every port and waits until all of them are gone.
func (s *Switch) Close() error {
	s.mu.Lock()
	s.closed = true
	ports := slices.Collect(maps.Values(s.table.Load().byMAC))
	s.mu.Unlock()
	for _, p := range ports {
		p.stop()
	}
	for _, p := range ports {
		<-p.done
	}
	return nil
}

func (s *Switch) add(p *Port) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.table.Load()
	switch {
	case s.closed:
		return fmt.Errorf("attach port %s: switch is %w", p.cfg.Name, ErrClosed)
	case old.byMAC[p.cfg.MAC] != nil:
		return fmt.Errorf("attach port %s: hardware address %v is in use by port %s", p.cfg.Name, p.cfg.MAC, old.byMAC[p.cfg.MAC].cfg.Name)
	case p.cfg.Uplink && old.uplink != nil:
		return fmt.Errorf("attach port %s: port %s is the uplink already", p.cfg.Name, old.uplink.cfg.Name)
	}
	next := &table{byMAC: make(map[frame.MAC]*Port, len(old.byMAC)+1), uplink: old.uplink}
	maps.Copy(next.byMAC, old.byMAC)
	next.byMAC[p.cfg.MAC] = p
	if p.cfg.Uplink {
		next.uplink = p
	}
	s.table.Store(next)
	return nil
}

func (s *Switch) remove(p *Port) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.table.Load()
	if old.byMAC[p.cfg.MAC] != p {
		return
	}
	next := &table{byMAC: maps.Clone(old.byMAC), uplink: old.uplink}
	delete(next.byMAC, p.cfg.MAC)
	if next.uplink == p {
		next.uplink = nil
	}
	s.table.Store(next)
}

// forward takes a frame that port from sent to where it goes. It never blocks
// and does not keep the frame. It reports whether a single receiver took it;
// frames to groups and frames that were refused count as taken.
func (s *Switch) forward(from *Port, b []byte) bool {
	from.stats.in(len(b))
	if why := from.guard.check(b); why != none {
		from.stats.drop(why)
		return true
	}
	if !s.pass(from, FromPort, b) {
		return true
	}
	t := s.table.Load()
	dst := frame.Destination(b)
	if dst.IsGroup() {
		for _, p := range t.byMAC {
			if p != from {
				s.deliver(p, b)
			}
		}
		return true
	}
	p := t.byMAC[dst]
	if p == nil {
		p = t.uplink
	}
	if p == nil || p == from {
		from.stats.drop(UnknownDestination)
		return true
	}
	return s.deliver(p, b)
}

func (s *Switch) deliver(p *Port, b []byte) bool {
	if len(b) > p.guard.maxFrame {
		p.stats.drop(Oversize)
		return true
	}
	if !s.pass(p, ToPort, b) {
		return true
	}
	if !p.sink(b) {
		p.stats.drop(QueueFull)
		return false
	}
	p.stats.out(len(b))
	return true
}

func (s *Switch) pass(p *Port, dir Direction, b []byte) bool {
	if f := p.filter.Load(); f != nil && !(*f)(dir, b) {
		p.stats.drop(Filtered)
		return false
	}
	if tap := s.tap.Load(); tap != nil {
		(*tap)(p.cfg.Name, dir, b)
	}
	return true
}
