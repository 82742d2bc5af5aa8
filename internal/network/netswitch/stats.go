package netswitch

import "sync/atomic"

// Reason is why a frame was dropped at a port.
type Reason uint8

// Reasons.
const (
	none                Reason = iota
	Runt                       // shorter than an Ethernet header
	Oversize                   // above the port's MTU, or a length no frame has
	Malformed                  // an ARP or IPv4 packet that does not parse, or hides its ports
	UnsupportedProtocol        // neither IPv4 nor ARP
	SpoofedMAC                 // the source is not the port's hardware address
	SpoofedIP                  // the source is none of the port's addresses
	SpoofedARP                 // claims an address that is not the port's
	DHCPServer                 // a DHCP answer from a port that serves none
	Filtered                   // the port's filter said no
	UnknownDestination         // nobody here has that hardware address
	QueueFull                  // the port's reader is too slow
	reasons
)

var reasonNames = [reasons]string{
	none: "none", Runt: "runt", Oversize: "oversize", Malformed: "malformed",
	UnsupportedProtocol: "unsupported-protocol", SpoofedMAC: "spoofed-mac", SpoofedIP: "spoofed-ip",
	SpoofedARP: "spoofed-arp", DHCPServer: "dhcp-server", Filtered: "filtered",
	UnknownDestination: "unknown-destination", QueueFull: "queue-full",
}

// String is a short name, fit for a label.
func (r Reason) String() string {
	if r < reasons {
		return reasonNames[r]
	}
	return "unknown"
}

// Stats counts what a port did since it was attached.
type Stats struct {
	FramesIn, BytesIn   uint64 // sent by what is attached, dropped ones included
	FramesOut, BytesOut uint64 // handed to what is attached
	Dropped             map[Reason]uint64
}

type counters struct {
	framesIn, bytesIn, framesOut, bytesOut atomic.Uint64
	dropped                                [reasons]atomic.Uint64
}

func (c *counters) in(n int) {
	c.framesIn.Add(1)
	c.bytesIn.Add(uint64(n))
}

func (c *counters) out(n int) {
	c.framesOut.Add(1)
	c.bytesOut.Add(uint64(n))
}

func (c *counters) drop(r Reason) { c.dropped[r].Add(1) }

func (c *counters) snapshot() Stats {
	s := Stats{
		FramesIn: c.framesIn.Load(), BytesIn: c.bytesIn.Load(),
		FramesOut: c.framesOut.Load(), BytesOut: c.bytesOut.Load(),
		Dropped: map[Reason]uint64{},
	}
	for r := range reasons {
		if n := c.dropped[r].Load(); n > 0 {
			s.Dropped[r] = n
		}
	}
	return s
}
