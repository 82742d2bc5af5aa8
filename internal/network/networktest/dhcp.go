package networktest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"goldsmith/internal/network/frame"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	dhcpServerPort = dhcpv4.ServerPort
	dhcpClientPort = dhcpv4.ClientPort
	dhcpRetry      = time.Second
)

// Lease is what the guest was told about its network.
type Lease struct {
	Addr   netip.Prefix // the guest's address in its subnet
	Router netip.Addr
	// Routes are the prefixes that have another router (RFC 3442); a default route
	// among them wins over Router.
	Routes map[netip.Prefix]netip.Addr
	DNS    netip.Addr
	MTU    int           // bytes, 0 if not told
	Time   time.Duration // of the lease
}

// Lease is the guest's lease, nil before Configure.
func (g *Guest) Lease() *Lease {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lease
}

// Configure asks for a lease and takes on its address, route and MTU. It asks
// again every second until ctx ends.
func (g *Guest) Configure(ctx context.Context) error {
	if g.Lease() != nil {
		return errors.New("guest is configured already")
	}
	discover, err := dhcpv4.NewDiscovery(g.mac[:])
	if err != nil {
		return fmt.Errorf("dhcp: %w", err)
	}
	offer, err := g.Ask(ctx, discover)
	if err != nil {
		return fmt.Errorf("dhcp: no offer: %w", err)
	}
	request, err := dhcpv4.NewRequestFromOffer(offer)
	if err != nil {
		return fmt.Errorf("dhcp: %w", err)
	}
	ack, err := g.Ask(ctx, request)
	if err != nil {
		return fmt.Errorf("dhcp: no answer to the request: %w", err)
	}
	if ack.MessageType() != dhcpv4.MessageTypeAck {
		return fmt.Errorf("dhcp: request was answered by %v", ack.MessageType())
	}
	lease, err := leaseOf(ack)
	if err != nil {
		return fmt.Errorf("dhcp: %w", err)
	}
	return g.Assume(lease)
}

// Ask broadcasts a DHCP message until it is answered or ctx ends.
func (g *Guest) Ask(ctx context.Context, msg *dhcpv4.DHCPv4) (*dhcpv4.DHCPv4, error) {
	out := frame.Datagram{
		From: g.mac, To: frame.Broadcast,
		Source:  netip.AddrPortFrom(netip.IPv4Unspecified(), dhcpClientPort),
		Target:  netip.AddrPortFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), dhcpServerPort),
		Payload: msg.ToBytes(),
	}.Frame()
	again := time.NewTicker(dhcpRetry)
	defer again.Stop()
	g.Send(out)
	for {
		select {
		case payload := <-g.dhcp:
			resp, err := dhcpv4.FromBytes(payload)
			if err == nil && resp.TransactionID == msg.TransactionID {
				return resp, nil
			}
		case <-again.C:
			g.Send(out)
		case <-g.Unplugged():
			return nil, net.ErrClosed
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func leaseOf(ack *dhcpv4.DHCPv4) (Lease, error) {
	addr, ok := netip.AddrFromSlice(ack.YourIPAddr.To4())
	ones, _ := ack.SubnetMask().Size()
	routers, servers := ack.Router(), ack.DNS()
	if !ok || len(routers) == 0 || len(servers) == 0 {
		return Lease{}, fmt.Errorf("lease is incomplete: %s", ack.Summary())
	}
	l := Lease{Addr: netip.PrefixFrom(addr, ones), Time: ack.IPAddressLeaseTime(0)}
	l.Router, _ = netip.AddrFromSlice(routers[0].To4())
	l.DNS, _ = netip.AddrFromSlice(servers[0].To4())
	for _, r := range ack.ClasslessStaticRoute() {
		dest, ok := netip.AddrFromSlice(r.Dest.IP.To4())
		router, rok := netip.AddrFromSlice(r.Router.To4())
		ones, _ := r.Dest.Mask.Size()
		if !ok || !rok {
			return Lease{}, fmt.Errorf("route is incomplete: %s", r)
		}
		if l.Routes == nil {
			l.Routes = map[netip.Prefix]netip.Addr{}
		}
		l.Routes[netip.PrefixFrom(dest, ones)] = router
	}
	if mtu, err := dhcpv4.GetUint16(dhcpv4.OptionInterfaceMTU, ack.Options); err == nil {
		l.MTU = int(mtu)
	}
	return l, nil
}

// Assume takes on a lease, which may be one that nobody gave.
func (g *Guest) Assume(l Lease) error {
	if l.MTU > 0 {
		if err := g.stack.SetNICMTU(nic, uint32(l.MTU)+frame.HeaderSize); err != nil {
			return errors.New(err.String())
		}
	}
	addr := tcpip.ProtocolAddress{
		Protocol: ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddressWithPrefix{
			Address: tcpip.AddrFromSlice(l.Addr.Addr().AsSlice()), PrefixLen: l.Addr.Bits(),
		},
	}
	if err := g.stack.AddProtocolAddress(nic, addr, stack.AddressProperties{}); err != nil {
		return errors.New(err.String())
	}
	table := []tcpip.Route{{Destination: addr.AddressWithPrefix.Subnet(), NIC: nic}}
	router := l.Router
	for dest, via := range l.Routes {
		if dest.Bits() == 0 {
			router = via
			continue
		}
		to := tcpip.AddressWithPrefix{Address: tcpip.AddrFromSlice(dest.Addr().AsSlice()), PrefixLen: dest.Bits()}
		table = append(table, tcpip.Route{Destination: to.Subnet(), Gateway: tcpip.AddrFromSlice(via.AsSlice()), NIC: nic})
	}
	table = append(table, tcpip.Route{Destination: header.IPv4EmptySubnet, Gateway: tcpip.AddrFromSlice(router.AsSlice()), NIC: nic})
	g.stack.SetRouteTable(table)
	g.mu.Lock()
	g.lease = &l
	g.mu.Unlock()
	return nil
}
