// Package station is a host of this program on a switch: a netstack with one
// address that dials and listens, such as a load balancer's front end.
package station

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/netswitch"
	"goldsmith/internal/network/stream"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

const nic = tcpip.NICID(1)

// Config describes a station.
type Config struct {
	Name   string // the port's name on the switch
	MAC    frame.MAC
	Addr   netip.Addr
	Subnet netip.Prefix // which holds Addr and everything that the station reaches
	MTU    int          // bytes; 0 is netswitch.DefaultMTU
	// Neighbors are who has which address, so that nobody is asked and nobody can
	// lie.
	Neighbors map[netip.Addr]frame.MAC
}

// Station is a running station. Close is always needed.
type Station struct {
	addr  netip.Addr
	stack *stack.Stack
	link  *netswitch.Link

	mu    sync.Mutex
	epoch context.Context
	reset context.CancelFunc
	ended bool
}

// New puts a station on a switch.
func New(sw *netswitch.Switch, cfg Config) (*Station, error) {
	if !cfg.Addr.Is4() || !cfg.Subnet.Contains(cfg.Addr) {
		return nil, fmt.Errorf("address %v of %s is not an ipv4 address of %v", cfg.Addr, cfg.Name, cfg.Subnet)
	}
	link, err := sw.AttachStack(netswitch.PortConfig{Name: cfg.Name, MAC: cfg.MAC, Trusted: true, MTU: cfg.MTU}, nil)
	if err != nil {
		return nil, err
	}
	s := &Station{addr: cfg.Addr, link: link}
	s.epoch, s.reset = context.WithCancel(context.Background())
	s.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, icmp.NewProtocol4},
	})
	if err := s.start(cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", cfg.Name, err), s.Close())
	}
	return s, nil
}

func (s *Station) start(cfg Config) error {
	if err := stream.Tune(s.stack); err != nil {
		return err
	}
	address := tcpip.AddressWithPrefix{Address: stream.Addr(cfg.Addr), PrefixLen: cfg.Subnet.Bits()}
	steps := []func() tcpip.Error{
		func() tcpip.Error { return s.stack.CreateNIC(nic, s.link.Endpoint()) },
		func() tcpip.Error {
			return s.stack.AddProtocolAddress(nic, tcpip.ProtocolAddress{Protocol: ipv4.ProtocolNumber, AddressWithPrefix: address}, stack.AddressProperties{})
		},
	}
	for addr, mac := range cfg.Neighbors {
		steps = append(steps, func() tcpip.Error {
			return s.stack.AddStaticNeighbor(nic, ipv4.ProtocolNumber, stream.Addr(addr), tcpip.LinkAddress(mac[:]))
		})
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return errors.New(err.String())
		}
	}
	s.stack.SetRouteTable([]tcpip.Route{{Destination: address.Subnet(), NIC: nic}})
	return nil
}

// Port is the station's port on the switch.
func (s *Station) Port() *netswitch.Port { return s.link.Port() }

// Dial opens a TCP connection from the station. It ends with ctx's cause when
// ctx ends first, and is reset by Reset and Close.
func (s *Station) Dial(ctx context.Context, to netip.AddrPort) (*stream.Conn, error) {
	s.mu.Lock()
	epoch, ended := s.epoch, s.ended
	s.mu.Unlock()
	if ended {
		return nil, net.ErrClosed
	}
	return stream.Dial(ctx, epoch, s.stack, nic, s.addr, to)
}

// Listen accepts TCP connections at a port of the station.
func (s *Station) Listen(port uint16) (net.Listener, error) {
	l, err := gonet.ListenTCP(s.stack, tcpip.FullAddress{NIC: nic, Addr: stream.Addr(s.addr), Port: port}, ipv4.ProtocolNumber)
	if err != nil {
		return nil, err
	}
	return waking{l}, nil
}

// waking wakes a waiting Accept when it is closed, which closing the netstack's
// listener alone does not.
type waking struct{ *gonet.TCPListener }

func (l waking) Close() error {
	l.Shutdown()
	return l.TCPListener.Close()
}

// Reset ends every connection that was dialled. New ones can be opened at once.
func (s *Station) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reset()
	if !s.ended {
		s.epoch, s.reset = context.WithCancel(context.Background())
	}
}

// Close takes the station off the switch and waits for its goroutines.
func (s *Station) Close() error {
	s.mu.Lock()
	s.ended = true
	s.reset()
	s.mu.Unlock()
	_ = s.link.Port().Close()
	s.stack.Close()
	s.stack.Wait()
	return nil
}
