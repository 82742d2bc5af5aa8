package gateway

import (
	"fmt"

	"goldsmith/internal/network/stream"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// handleTCP carries one connection that the guest asks for. The guest's
// handshake is completed only after the outside accepted, so that a refusal
// reaches the guest as one.
func (g *Gateway) handleTCP(r *tcp.ForwarderRequest) {
	ctx, done, ok := g.enter()
	if !ok {
		r.Complete(true)
		return
	}
	defer done()

	id := r.ID()
	flow := Flow{Protocol: "tcp", Remote: addrPort(id.LocalAddress, id.LocalPort)}
	flow.Name = g.names.lookup(flow.Remote.Addr())
	select {
	case g.tcpSlots <- struct{}{}:
		defer func() { <-g.tcpSlots }()
	default:
		g.flows.refuse(flow, fmt.Sprintf("more than %d connections are open", cap(g.tcpSlots)))
		r.Complete(true)
		return
	}
	outside, err := g.open(ctx, "tcp", flow.Remote)
	if err != nil {
		var reason string
		reason, flow.Allowed = reasonOf(err)
		g.flows.refuse(flow, reason)
		r.Complete(true)
		return
	}
	flow.Allowed = true
	var queue waiter.Queue
	ep, terr := r.CreateEndpoint(&queue)
	r.Complete(terr != nil)
	if terr != nil {
		_ = outside.Close()
		g.flows.refuse(flow, "the guest gave up: "+terr.String())
		return
	}
	g.flows.begin(flow)
	inside := stream.NewConn(&queue, ep)
	sent, received := stream.Relay(ctx, inside, outside, g.cfg.TCPIdle)
	g.flows.end(flow, sent, received)
}
