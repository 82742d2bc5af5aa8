// Package bridge joins one machine of a switch with a bridge of the host: what the
// machine sends to its subnet goes out there, and what others of the subnet send to
// it comes in. Nothing else passes: no DHCP in either direction, nothing of the
// network's own parts, and no packet from or to another subnet.
package bridge

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/netswitch"
)

// PortName is the name of a Port on its switch.
const PortName = "bridge"

// Config describes a Port.
type Config struct {
	Bridge string // name of the host's bridge
	// Owner says whose port it is, in the same words every time: the hardware address
	// by which the bridge knows the machine is made of it.
	Owner  string
	MAC    frame.MAC    // of the machine on the switch
	Addr   netip.Addr   // of the machine
	Subnet netip.Prefix // whose addresses are on the bridge
	// Own are addresses of Subnet that belong to the network itself: nobody on the
	// bridge is taken for them, and none is looked for there.
	Own []netip.Addr
	MTU int // of the switch, bytes; 0 is netswitch.DefaultMTU
	// Refuse says whether addr may not be reached, nor reach the machine; nil refuses
	// none. It is asked for every frame.
	Refuse func(addr netip.Addr) bool
	// OnTrouble hears what keeps the machine from being reached on the bridge: another
	// host with its address, once, and the end of the port other than by Close.
	OnTrouble func(error)
}

// HardwareAddress is that by which a bridge knows the machine of an owner. It is
// locally administered.
func HardwareAddress(owner string) frame.MAC {
	sum := sha256.Sum256([]byte("goldsmith bridge\n" + owner))
	return frame.MAC{0x02, sum[0], sum[1], sum[2], sum[3], sum[4]}
}

// deviceAddress is the hardware address of the TAP device itself. A bridge without
// an address of its own takes the lowest of its ports': this one is high.
func deviceAddress(owner string) frame.MAC {
	m := HardwareAddress(owner)
	m[0] = 0xfe
	return m
}

// Port is a running connection with a bridge. Close is always needed.
type Port struct {
	cfg  Config
	wire translator
	tap  *os.File
	raw  syscall.RawConn // of tap, for writes that do not wait
	link *netswitch.Link

	closing  atomic.Bool
	reading  sync.WaitGroup
	conflict sync.Once
}

// New makes a TAP device on the bridge and its port on the switch. The device is
// gone when the port is closed, or this process ends. The error says what the host
// lacks; see Check.
func New(sw *netswitch.Switch, cfg Config) (*Port, error) {
	if !cfg.Addr.Is4() || !cfg.Subnet.Contains(cfg.Addr) {
		return nil, fmt.Errorf("address %v of the machine is not an ipv4 address of %v", cfg.Addr, cfg.Subnet)
	}
	if cfg.OnTrouble == nil {
		cfg.OnTrouble = func(error) {}
	}
	if cfg.Refuse == nil {
		cfg.Refuse = func(netip.Addr) bool { return false }
	}
	p := &Port{cfg: cfg}
	p.wire = translator{
		inside: cfg.MAC, outside: HardwareAddress(cfg.Owner), addr: cfg.Addr, subnet: cfg.Subnet, broadcast: lastOf(cfg.Subnet),
		foreign: func(a netip.Addr) bool { return !slices.Contains(cfg.Own, a) && !cfg.Refuse(a) },
	}
	// Machines reach the hosts on the bridge, and not each other.
	tap, err := OpenTAP(cfg.Bridge, deviceAddress(cfg.Owner), true)
	if err != nil {
		return nil, err
	}
	p.tap = tap
	if p.raw, err = tap.SyscallConn(); err != nil {
		return nil, errors.Join(err, tap.Close())
	}
	p.link, err = sw.AttachStack(netswitch.PortConfig{
		Name: PortName, MAC: p.wire.outside, Trusted: true, Uplink: true, MTU: cfg.MTU,
	}, p.send)
	if err != nil {
		return nil, errors.Join(err, tap.Close())
	}
	p.reading.Go(p.read)
	// Others may know the address by the hardware address of the machine before.
	_ = p.write(p.wire.announcement())
	return p, nil
}

// Close takes the port off the switch and the device off the bridge, and waits.
func (p *Port) Close() error {
	p.closing.Store(true)
	_ = p.link.Port().Close()
	err := p.tap.Close()
	p.reading.Wait()
	return err
}

// read takes what comes from the bridge until the device ends.
func (p *Port) read() {
	buf := make([]byte, frame.MaxSize)
	for {
		n, err := p.tap.Read(buf)
		if err != nil {
			if !p.closing.Load() {
				p.cfg.OnTrouble(fmt.Errorf("the connection with bridge %s ended: %w", p.cfg.Bridge, err))
			}
			return
		}
		b := buf[:n]
		if p.wire.claims(b) {
			p.conflict.Do(func() {
				p.cfg.OnTrouble(fmt.Errorf("a host on bridge %s, %v, has the machine's address %v", p.cfg.Bridge, frame.Source(b), p.cfg.Addr))
			})
		}
		if p.wire.in(b) {
			p.link.Send(b)
		}
	}
}

// buffers hold frames while they are rewritten.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 2<<10); return &b }}

// send gives a frame of the switch to the bridge. It runs on the path of frames.
func (p *Port) send(b []byte) bool {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	*buf = append((*buf)[:0], b...)
	if p.wire.out(*buf) {
		// The device takes a frame at once or, when it is down or gone, never; what is
		// lost on a bridge is sent again.
		_ = p.write(*buf)
	}
	return true
}

func (p *Port) write(b []byte) error {
	var werr error
	err := p.raw.Write(func(fd uintptr) bool {
		werr = writeOnce(int(fd), b)
		return true
	})
	return errors.Join(err, werr)
}

// lastOf is the broadcast address of an IPv4 subnet.
func lastOf(p netip.Prefix) netip.Addr {
	b, mask := p.Masked().Addr().As4(), net.CIDRMask(p.Bits(), 32)
	for i := range b {
		b[i] |= ^mask[i]
	}
	return netip.AddrFrom4(b)
}
