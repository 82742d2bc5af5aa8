// Package rules puts the security rules of a network card at its port of the
// switch.
package rules

import (
	"net/netip"
	"sync"
	"time"

	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/netswitch"
	"goldsmith/internal/nsg"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// Ports of the services that a network itself gives and that no rule takes away,
// as long as the network's router is at the other end.
const (
	dhcpServer = 67
	dhcpClient = 68
	dnsPort    = 53
	httpPort   = 80
)

// metadata is where machines find their metadata endpoint. Security groups do not
// concern it ("Network security groups", platform considerations); where nothing
// is served, nobody answers.
var metadata = netip.AddrFrom4([4]byte{169, 254, 169, 254})

// maxPieces is how many fragmented packets may be under way at once.
const maxPieces = 64

// Filter judges the frames of one card.
type Filter struct {
	own     netip.Addr
	router  netip.Addr
	policy  *nsg.Policy
	tracker *nsg.Tracker
	now     func() time.Time

	mu     sync.Mutex
	pieces [maxPieces]piece // of packets whose first fragment passed
	next   int

	denied map[Denial]struct{}
	report func(Denial)
}

// Denial is a packet that the rules refused, without the ports that vary.
type Denial struct {
	Direction nsg.Direction
	Protocol  nsg.Protocol
	Remote    netip.Addr
	Port      uint16 // of the destination
	Rule      nsg.Match
}

// maxDenials bounds how many different denials are told.
const maxDenials = 256

// New makes the filter of the card with address own, in a network with router.
// report, which may be nil, hears of each different denial once; it is called on
// the path of frames and must not wait.
func New(own, router netip.Addr, policy *nsg.Policy, report func(Denial)) *Filter {
	if report == nil {
		report = func(Denial) {}
	}
	return &Filter{
		own: own, router: router, policy: policy, tracker: nsg.NewTracker(policy, 0), now: time.Now,
		denied: map[Denial]struct{}{}, report: report,
	}
}

// Hits are the rules that decided so far.
func (f *Filter) Hits() []nsg.Hit { return f.tracker.Hits() }

// Pass is the netswitch.Filter.
func (f *Filter) Pass(d netswitch.Direction, b []byte) bool {
	if len(b) < frame.HeaderSize+header.IPv4MinimumSize || header.Ethernet(b).Type() != header.IPv4ProtocolNumber {
		return true // ARP; everything else is refused before
	}
	ip := header.IPv4(b[frame.HeaderSize:])
	if !ip.IsValid(len(ip)) {
		return false
	}
	direction := nsg.Inbound
	if d == netswitch.FromPort {
		direction = nsg.Outbound
	}
	source, destination := netip.AddrFrom4(ip.SourceAddress().As4()), netip.AddrFrom4(ip.DestinationAddress().As4())
	local, remote := destination, source
	if direction == nsg.Outbound {
		local, remote = source, destination
	}
	// What a forwarding machine passes on was judged where it came from.
	if local != f.own && local.IsValid() && !local.IsUnspecified() && !local.IsMulticast() && local != broadcast {
		return true
	}
	p := piece{source, destination, ip.ID(), ip.Protocol()}
	if ip.FragmentOffset() != 0 {
		return f.known(p)
	}
	packet, ending, ok := parse(ip, source, destination)
	if !ok {
		return false
	}
	if f.exempt(packet, remote) || f.judge(direction, ip, packet, ending) {
		if ip.Flags()&header.IPv4FlagMoreFragments != 0 {
			f.remember(p)
		}
		return true
	}
	return false
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// exempt reports whether a packet is one of the network's own services.
func (f *Filter) exempt(p nsg.Packet, remote netip.Addr) bool {
	if p.Protocol == nsg.UDP && (p.SourcePort == dhcpClient && p.DestinationPort == dhcpServer || p.SourcePort == dhcpServer && p.DestinationPort == dhcpClient) {
		return true
	}
	if p.Protocol == nsg.TCP && remote == metadata && (p.Destination == metadata && p.DestinationPort == httpPort || p.Source == metadata && p.SourcePort == httpPort) {
		return true
	}
	return remote == f.router && (p.SourcePort == dnsPort || p.DestinationPort == dnsPort) && (p.Protocol == nsg.UDP || p.Protocol == nsg.TCP)
}

func (f *Filter) judge(d nsg.Direction, ip header.IPv4, p nsg.Packet, ending bool) bool {
	now := f.now()
	if inner, ok := aboutFlow(ip); ok {
		// An error about a flow belongs to it: what it cites went the other way.
		return f.tracker.Known(nsg.Inbound+nsg.Outbound-d, inner, now)
	}
	if f.tracker.Pass(d, p, ending, now) {
		return true
	}
	f.deny(d, p)
	return false
}

func (f *Filter) deny(d nsg.Direction, p nsg.Packet) {
	n := Denial{Direction: d, Protocol: p.Protocol, Remote: p.Source, Port: p.DestinationPort}
	if d == nsg.Outbound {
		n.Remote = p.Destination
	}
	f.mu.Lock()
	_, told := f.denied[n]
	told = told || len(f.denied) >= maxDenials
	if !told {
		f.denied[n] = struct{}{}
	}
	f.mu.Unlock()
	if told {
		return
	}
	if m := f.policy.Decide(d, p).Matches; len(m) > 0 {
		n.Rule = m[len(m)-1]
	}
	f.report(n)
}

// piece names the packet that a fragment is of.
type piece struct {
	from, to netip.Addr
	id       uint16
	protocol uint8
}

func (f *Filter) remember(p piece) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pieces[f.next] = p
	f.next = (f.next + 1) % maxPieces
}

func (f *Filter) known(p piece) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, q := range f.pieces {
		if q == p {
			return true
		}
	}
	return false
}

// parse reads what rules look at; ok is false for a packet that hides it.
func parse(ip header.IPv4, source, destination netip.Addr) (p nsg.Packet, ending, ok bool) {
	p = nsg.Packet{Protocol: nsg.Protocol(ip.Protocol()), Source: source, Destination: destination}
	transport := ip.Payload()
	switch p.Protocol {
	case nsg.TCP:
		if len(transport) < header.TCPMinimumSize {
			return p, false, false
		}
		t := header.TCP(transport)
		ending = t.Flags()&(header.TCPFlagRst|header.TCPFlagFin) != 0
		p.SourcePort, p.DestinationPort = t.SourcePort(), t.DestinationPort()
	case nsg.UDP:
		if len(transport) < header.UDPMinimumSize {
			return p, false, false
		}
		p.SourcePort, p.DestinationPort = header.UDP(transport).SourcePort(), header.UDP(transport).DestinationPort()
	}
	return p, ending, true
}

// aboutFlow reads the packet that an ICMP error cites.
func aboutFlow(ip header.IPv4) (nsg.Packet, bool) {
	if ip.Protocol() != uint8(header.ICMPv4ProtocolNumber) {
		return nsg.Packet{}, false
	}
	m := header.ICMPv4(ip.Payload())
	if len(m) < header.ICMPv4MinimumSize {
		return nsg.Packet{}, false
	}
	switch m.Type() {
	case header.ICMPv4DstUnreachable, header.ICMPv4TimeExceeded, header.ICMPv4ParamProblem:
	default:
		return nsg.Packet{}, false
	}
	cited := header.IPv4(m[header.ICMPv4MinimumSize:])
	// It is cut, so its length is not checked against what is there.
	if len(cited) < header.IPv4MinimumSize || cited[0]>>4 != 4 || int(cited.HeaderLength()) < header.IPv4MinimumSize || len(cited) < int(cited.HeaderLength())+4 {
		return nsg.Packet{}, true // an error about nothing is about no known flow
	}
	p := nsg.Packet{
		Protocol: nsg.Protocol(cited.Protocol()),
		Source:   netip.AddrFrom4(cited.SourceAddress().As4()), Destination: netip.AddrFrom4(cited.DestinationAddress().As4()),
	}
	if p.Protocol == nsg.TCP || p.Protocol == nsg.UDP {
		ports := header.UDP(cited[cited.HeaderLength():])
		p.SourcePort, p.DestinationPort = ports.SourcePort(), ports.DestinationPort()
	}
	return p, true
}
