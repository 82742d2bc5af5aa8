package gateway

import (
	"context"
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"goldsmith/internal/network/stream"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// handleUDP opens a flow for a guest's datagram that belongs to none. It runs
// on the path of the guest's frames and does not wait. False makes the netstack
// answer with "port unreachable".
func (g *Gateway) handleUDP(id stack.TransportEndpointID, pkt *stack.PacketBuffer) bool {
	flow := Flow{Protocol: "udp", Remote: addrPort(id.LocalAddress, id.LocalPort)}
	if a := flow.Remote.Addr(); a.IsMulticast() || a.As4() == [4]byte{255, 255, 255, 255} || a == lastOf(g.cfg.Subnet) {
		return true // announcements to whoever listens; nobody does
	}
	ctx, done, ok := g.enter()
	if !ok {
		return true
	}
	if g.isInside(flow.Remote.Addr()) {
		done()
		return false
	}
	flow.Name = g.names.lookup(flow.Remote.Addr())
	refuse := func(reason string, allowed bool) bool {
		flow.Allowed = allowed
		g.flows.refuse(flow, reason)
		g.prohibit(pkt)
		done()
		return true
	}
	select {
	case g.udpSlots <- struct{}{}:
	default:
		return refuse(fmt.Sprintf("more than %d udp flows are open", cap(g.udpSlots)), false)
	}
	release := func() { <-g.udpSlots }
	outside, err := g.open(ctx, "udp", flow.Remote)
	if err != nil {
		release()
		return refuse(reasonOf(err))
	}
	var queue waiter.Queue
	ep, terr := udp.NewForwarderRequest(g.stack, id, pkt.Clone()).CreateEndpoint(&queue)
	if terr != nil {
		_ = outside.Close()
		release()
		done()
		return true
	}
	flow.Allowed = true
	go func() {
		defer done()
		defer release()
		g.flows.begin(flow)
		sent, received := g.relayUDP(ctx, gonet.NewUDPConn(&queue, ep), outside)
		g.flows.end(flow, sent, received)
	}()
	return true
}

// relayUDP carries datagrams both ways until the flow is silent for long enough
// or either side fails, which for the outside includes "port unreachable".
func (g *Gateway) relayUDP(ctx context.Context, guest *gonet.UDPConn, outside net.Conn) (sent, received int64) {
	closeBoth := sync.OnceFunc(func() {
		_ = guest.Close()
		_ = outside.Close()
	})
	stop := context.AfterFunc(ctx, closeBoth)
	watch := stream.WatchIdle(g.cfg.UDPIdle, closeBoth)
	var up, down atomic.Int64
	var upward sync.WaitGroup
	upward.Go(func() {
		datagramCopy(outside, guest, &up, watch)
		closeBoth()
	})
	datagramCopy(guest, outside, &down, watch)
	closeBoth()
	upward.Wait()
	watch.End()
	if !stop() {
		closeBoth() // or wait for it
	}
	return up.Load(), down.Load()
}

// datagramBuffers hold the largest datagram.
var datagramBuffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

func datagramCopy(dst, src net.Conn, moved *atomic.Int64, watch *stream.Idle) {
	buf := datagramBuffers.Get().(*[]byte)
	defer datagramBuffers.Put(buf)
	for {
		n, err := src.Read(*buf)
		if err != nil {
			return
		}
		watch.Touch()
		if _, err := dst.Write((*buf)[:n]); err != nil {
			return
		}
		moved.Add(int64(n))
	}
}

// prohibit tells the sender that its packet may not pass (RFC 1812 section 5.2.7.1).
func (g *Gateway) prohibit(pkt *stack.PacketBuffer) {
	if p, ok := g.stack.NetworkProtocolInstance(ipv4.ProtocolNumber).(stack.RejectIPv4WithHandler); ok {
		_ = p.SendRejectionError(pkt, stack.RejectIPv4WithICMPAdminProhibited, true)
	}
}
