package build

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"goldsmith/internal/arm"
	"goldsmith/internal/proxyvm/appliance"
)

// Member makes a booted machine a member of a virtual network: builds there reach
// its ports at an address of that network for as long as it runs. It reaches
// nothing of the network itself.
type Member struct {
	VNet  string     // the network's id
	Name  string     // which resolves in the network, "" for none
	At    netip.Addr // free, in one of its subnets
	Ports []uint16   // TCP
}

// leaveTimeout bounds the end of a membership.
const leaveTimeout = 30 * time.Second

// openMember makes the network of a machine whose ports builds will reach.
func (l *launcher) openMember(ports []uint16) func(context.Context, *vm) error {
	return func(_ context.Context, guest *vm) error {
		cfg := l.observe()
		cfg.Egress = l.engine.cfg.Egress
		cfg.GuestPorts = append([]uint16{sshPort}, ports...)
		made, err := l.engine.newNetwork(cfg)
		if err != nil {
			return fmt.Errorf("make the machine's network: %w", err)
		}
		guest.network = made
		return nil
	}
}

// join publishes the ports of a running machine in a virtual network, through
// sockets that other processes of the user reach. leave ends that; it must be
// called while the machine's network is there.
func (e *Engine) join(ctx context.Context, guest *vm, m Member) (leave func() error, err error) {
	dir, err := os.MkdirTemp("", "goldsmith-member-") // a socket's path is short
	if err != nil {
		return nil, fmt.Errorf("make the member's sockets: %w", err)
	}
	fctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var listeners []net.Listener
	var work sync.WaitGroup
	leave = func() error {
		lctx, done := context.WithTimeout(context.WithoutCancel(ctx), leaveTimeout)
		defer done()
		err := e.ChangeNetworkSettings(lctx, m.VNet, func(s *NetworkSettings) error {
			s.Exposed = slices.DeleteFunc(s.Exposed, func(x Exposed) bool { return x.Socket != "" && filepath.Dir(x.Socket) == dir })
			return nil
		})
		cancel()
		for _, l := range listeners {
			_ = l.Close()
		}
		work.Wait()
		return errors.Join(err, os.RemoveAll(dir))
	}
	var added []Exposed
	for _, port := range m.Ports {
		path := filepath.Join(dir, fmt.Sprint(port))
		l, err := net.Listen("unix", path)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen for the member's port %d: %w", port, err), leave())
		}
		listeners = append(listeners, l)
		network := guest.network
		work.Go(func() {
			// It ends with its listener.
			_ = appliance.Forward(fctx, l, netip.Addr{}, func(ctx context.Context) (net.Conn, error) { return network.DialGuest(ctx, port) })
		})
		added = append(added, Exposed{Name: m.Name, At: netip.AddrPortFrom(m.At, port), Socket: path})
	}
	err = e.ChangeNetworkSettings(ctx, m.VNet, func(s *NetworkSettings) error {
		s.Exposed = slices.DeleteFunc(s.Exposed, func(x Exposed) bool { return x.Socket != "" && !listens(x.Socket) })
		for _, x := range s.Exposed {
			if x.At.Addr() == m.At {
				return arm.Errorf(arm.CodeConflict, "%v has something already at %v", m.VNet, x.At)
			}
		}
		s.Exposed = append(s.Exposed, added...)
		return nil
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("join the network: %w", err), leave())
	}
	return leave, nil
}

// listens reports whether somebody is behind a socket. What a process that was
// killed has published is still written down.
func listens(socket string) bool {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}
