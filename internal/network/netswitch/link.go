package netswitch

import (
	"io"
	"sync"
	"sync/atomic"

	"goldsmith/internal/network/frame"
	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/log"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// The netstack logs to standard error what any hostile frame makes it notice;
// the ports' counters tell the same.
func init() { log.SetTarget(log.GoogleEmitter{Writer: &log.Writer{Next: io.Discard}}) }

// Link is the port of a netstack. It has no goroutines: frames to the netstack
// are handled by the sender's, and frames from it go straight to the receiver.
type Link struct {
	port      *Port
	intercept func(frame []byte) bool
	attached  atomic.Pointer[stack.NetworkDispatcher]
	mtu       atomic.Uint32
}

// AttachStack makes the port of a netstack. intercept, if not nil, sees every
// frame to the netstack first and keeps those for which it returns true, under
// the rules of Filter.
func (s *Switch) AttachStack(cfg PortConfig, intercept func(frame []byte) bool) (*Link, error) {
	p, err := newPort(s, cfg)
	if err != nil {
		return nil, err
	}
	l := &Link{port: p, intercept: intercept}
	l.mtu.Store(uint32(p.cfg.MTU + frame.HeaderSize))
	p.sink = l.receive
	if err := s.add(p); err != nil {
		return nil, err
	}
	return l, nil
}

// Port is the link's port on the switch; closing it takes the netstack off.
func (l *Link) Port() *Port { return l.port }

// Endpoint is what the netstack's NIC is made of.
func (l *Link) Endpoint() stack.LinkEndpoint { return ethernet.New((*endpoint)(l)) }

// Send puts a whole frame on the switch as if the netstack had.
func (l *Link) Send(frame []byte) {
	select {
	case <-l.port.done:
	default:
		l.port.sw.forward(l.port, frame)
	}
}

func (l *Link) receive(b []byte) bool {
	if l.intercept != nil && l.intercept(b) {
		return true
	}
	d := l.attached.Load()
	if d == nil {
		return false
	}
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(b)})
	(*d).DeliverNetworkPacket(0, pkt) // the Ethernet layer above reads the protocol
	pkt.DecRef()
	return true
}

// endpoint is the netstack's view of a Link: a medium that takes and gives
// whole Ethernet frames.
type endpoint Link

var (
	_ stack.LinkEndpoint = (*endpoint)(nil)
	_ stack.GSOEndpoint  = (*endpoint)(nil)
)

// flat holds buffers in which a packet's parts become one frame.
var flat = sync.Pool{New: func() any { b := make([]byte, 0, frame.MaxSize); return &b }}

func (e *endpoint) WritePackets(pkts stack.PacketBufferList) (int, tcpip.Error) {
	l := (*Link)(e)
	select {
	case <-l.port.done:
		return 0, &tcpip.ErrClosedForSend{}
	default:
	}
	buf := flat.Get().(*[]byte)
	defer flat.Put(buf)
	send := func(b []byte) bool { return l.port.sw.forward(l.port, b) }
	for n, pkt := range pkts.AsSlice() {
		b := (*buf)[:0]
		for _, part := range pkt.AsSlices() {
			b = append(b, part...)
		}
		*buf = b
		var sent bool
		if pkt.GSOOptions.Type == stack.GSOTCPv4 {
			sent = segments(b, pkt.GSOOptions, send)
		} else {
			sent = send(b)
		}
		if !sent {
			return n, &tcpip.ErrNoBufferSpace{}
		}
	}
	return pkts.Len(), nil
}

func (e *endpoint) Attach(d stack.NetworkDispatcher) {
	if d == nil {
		e.attached.Store(nil)
		return
	}
	e.attached.Store(&d)
}

func (e *endpoint) Capabilities() stack.LinkEndpointCapabilities {
	// No medium between the ports can damage a frame.
	return stack.CapabilityRXChecksumOffload
}

func (e *endpoint) IsAttached() bool                 { return e.attached.Load() != nil }
func (e *endpoint) MTU() uint32                      { return e.mtu.Load() }
func (e *endpoint) SetMTU(mtu uint32)                { e.mtu.Store(mtu) }
func (e *endpoint) MaxHeaderLength() uint16          { return 0 }
func (e *endpoint) LinkAddress() tcpip.LinkAddress   { return tcpip.LinkAddress(e.port.cfg.MAC[:]) }
func (e *endpoint) SetLinkAddress(tcpip.LinkAddress) {} // bound to the port
func (e *endpoint) Wait()                            {}
func (e *endpoint) Close()                           { (*Link)(e).port.stop() }
func (e *endpoint) SetOnCloseAction(func())          {}
func (e *endpoint) AddHeader(*stack.PacketBuffer)    {}
func (e *endpoint) ParseHeader(*stack.PacketBuffer) bool {
	return true
}
func (e *endpoint) ARPHardwareType() header.ARPHardwareType { return header.ARPHardwareNone }

// GSOMaxSize and SupportedGSO let TCP leave the cutting into segments to us.
func (e *endpoint) GSOMaxSize() uint32               { return 64 << 10 }
func (e *endpoint) SupportedGSO() stack.SupportedGSO { return stack.HostGSOSupported }
