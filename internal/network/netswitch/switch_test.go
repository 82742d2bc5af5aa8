package netswitch_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"goldsmith/internal/network/frame"
	"goldsmith/internal/network/netswitch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	macA  = frame.MAC{2, 0, 0, 0, 0, 0xa}
	macB  = frame.MAC{2, 0, 0, 0, 0, 0xb}
	macC  = frame.MAC{2, 0, 0, 0, 0, 0xc}
	addrA = netip.MustParseAddr("10.0.0.10")
	addrB = netip.MustParseAddr("10.0.0.11")
	addrC = netip.MustParseAddr("10.0.0.12")
)

// station is what is plugged into a port.
type station struct {
	net.Conn
	port   *netswitch.Port
	frames *frame.Reader
}

func plug(t testing.TB, sw *netswitch.Switch, cfg netswitch.PortConfig) *station {
	t.Helper()
	ours, theirs := socketPair(t)
	port, err := sw.Attach(ours, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = theirs.Close() })
	return &station{Conn: theirs, port: port, frames: frame.NewReader(theirs)}
}

func (s *station) send(t testing.TB, frames ...[]byte) {
	t.Helper()
	var b []byte
	for _, f := range frames {
		b = frame.Append(b, f)
	}
	if _, err := s.Write(b); err != nil {
		t.Fatal(err)
	}
}

// receive waits for the next frame.
func (s *station) receive(t testing.TB) []byte {
	t.Helper()
	if err := s.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b, err := s.frames.Next()
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Clone(b)
}

func socketPair(t testing.TB) (net.Conn, net.Conn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var conns [2]net.Conn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "wire")
		conns[i], err = net.FileConn(f)
		if cerr := f.Close(); err != nil || cerr != nil {
			t.Fatal(err, cerr)
		}
	}
	return conns[0], conns[1]
}

func newSwitch(t testing.TB) *netswitch.Switch {
	t.Helper()
	sw := netswitch.New()
	t.Cleanup(func() {
		if err := sw.Close(); err != nil {
			t.Error(err)
		}
	})
	return sw
}

func datagram(from, to frame.MAC, src, dst netip.Addr, payload string) []byte {
	return frame.Datagram{
		From: from, To: to, Source: netip.AddrPortFrom(src, 4000), Target: netip.AddrPortFrom(dst, 5000), Payload: []byte(payload),
	}.Frame()
}

func guestPorts(t testing.TB, sw *netswitch.Switch) (a, b, c *station) {
	a = plug(t, sw, netswitch.PortConfig{Name: "a", MAC: macA, Addrs: []netip.Addr{addrA}})
	b = plug(t, sw, netswitch.PortConfig{Name: "b", MAC: macB, Addrs: []netip.Addr{addrB}})
	c = plug(t, sw, netswitch.PortConfig{Name: "c", MAC: macC, Addrs: []netip.Addr{addrC}})
	return a, b, c
}

func TestUnicastGoesToItsPortAndGroupsToAllOthers(t *testing.T) {
	a, b, c := guestPorts(t, newSwitch(t))
	toB := datagram(macA, macB, addrA, addrB, "to b")
	all := datagram(macA, frame.Broadcast, addrA, netip.MustParseAddr("255.255.255.255"), "to all")
	group := datagram(macA, frame.MAC{1, 0, 0x5e, 0, 0, 0xfb}, addrA, netip.MustParseAddr("224.0.0.251"), "to a group")
	nobody := datagram(macA, frame.MAC{2, 9, 9, 9, 9, 9}, addrA, addrB, "to nobody")
	self := datagram(macA, macA, addrA, addrA, "to itself")
	a.send(t, toB, nobody, self, all, group)
	for _, want := range [][]byte{toB, all, group} {
		if got := b.receive(t); !bytes.Equal(got, want) {
			t.Errorf("b got %q, want %q", got, want)
		}
	}
	for _, want := range [][]byte{all, group} {
		if got := c.receive(t); !bytes.Equal(got, want) {
			t.Errorf("c got %q, want %q", got, want)
		}
	}
	s := a.port.Stats()
	if s.FramesIn != 5 || s.FramesOut != 0 || s.Dropped[netswitch.UnknownDestination] != 2 {
		t.Errorf("statistics of a: %+v", s)
	}
}

func TestUplinkGetsUnknownDestinations(t *testing.T) {
	sw := newSwitch(t)
	a := plug(t, sw, netswitch.PortConfig{Name: "a", MAC: macA, Addrs: []netip.Addr{addrA}})
	up := plug(t, sw, netswitch.PortConfig{Name: "up", MAC: macB, Trusted: true, Uplink: true})
	want := datagram(macA, macC, addrA, addrC, "beyond")
	a.send(t, want)
	if got := up.receive(t); !bytes.Equal(got, want) {
		t.Errorf("got %q", got)
	}
	answer := datagram(macC, macA, addrC, addrA, "back")
	up.send(t, answer)
	if got := a.receive(t); !bytes.Equal(got, answer) {
		t.Errorf("got %q", got)
	}
}

func TestAttachRefusesConflicts(t *testing.T) {
	sw := newSwitch(t)
	plug(t, sw, netswitch.PortConfig{Name: "a", MAC: macA, Uplink: true, Trusted: true})
	for name, cfg := range map[string]netswitch.PortConfig{
		"same hardware address": {Name: "x", MAC: macA},
		"second uplink":         {Name: "x", MAC: macB, Uplink: true},
		"group address":         {Name: "x", MAC: frame.Broadcast},
		"tiny mtu":              {Name: "x", MAC: macB, MTU: 20},
		"huge mtu":              {Name: "x", MAC: macB, MTU: 70000},
		"ipv6":                  {Name: "x", MAC: macB, Addrs: []netip.Addr{netip.MustParseAddr("fd00::1")}},
	} {
		ours, theirs := socketPair(t)
		if _, err := sw.Attach(ours, cfg); err == nil {
			t.Errorf("%s: attached", name)
		}
		if _, err := theirs.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%s: the refused wire is not closed: %v", name, err)
		}
		_ = theirs.Close()
	}
}

func TestPortEndsWithItsStreamAndCanBePluggedAgain(t *testing.T) {
	sw := newSwitch(t)
	cfg := netswitch.PortConfig{Name: "a", MAC: macA, Addrs: []netip.Addr{addrA}}
	for range 3 {
		s := plug(t, sw, cfg)
		_ = s.Close()
		<-s.port.Done()
		if err := s.port.Err(); err != nil {
			t.Errorf("hanging up is reported as %v", err)
		}
	}
}

func TestBadStreamEndsOnlyItsPort(t *testing.T) {
	a, b, c := guestPorts(t, newSwitch(t))
	a.send(t, make([]byte, 5)) // a runt is survived
	a.send(t, datagram(macA, macB, addrA, addrB, "after the runt"))
	b.receive(t)
	if _, err := a.Write([]byte{0xff, 0xff, 0xff, 0xff}); err != nil {
		t.Fatal(err)
	}
	<-a.port.Done()
	if err := a.port.Err(); !errors.Is(err, frame.ErrOversize) {
		t.Errorf("port ended with %v", err)
	}
	if s := a.port.Stats(); s.Dropped[netswitch.Runt] != 1 || s.Dropped[netswitch.Oversize] != 1 {
		t.Errorf("statistics: %+v", s)
	}
	want := datagram(macC, macB, addrC, addrB, "others go on")
	c.send(t, want)
	if got := b.receive(t); !bytes.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

func TestStalledPortLosesItsOwnFramesOnly(t *testing.T) {
	sw := newSwitch(t)
	a, b, _ := guestPorts(t, sw) // c never reads
	const frames, size = 4000, 1400
	toAll := datagram(macA, frame.Broadcast, addrA, netip.MustParseAddr("255.255.255.255"), string(make([]byte, size)))
	for range frames {
		a.send(t, toAll)
		b.receive(t) // one after the other: b must never miss one
	}
	stats := sw.PortStats("c")
	if lost := b.port.Stats().Dropped; len(lost) != 0 {
		t.Errorf("b reads, and lost %v", lost)
	}
	if stats.Dropped[netswitch.QueueFull] == 0 {
		t.Errorf("nothing was dropped at c: %+v", stats)
	}
	if stats.BytesOut > netswitch.DefaultQueueBytes+1<<20 {
		t.Errorf("c holds %d bytes", stats.BytesOut)
	}
}

// TestFramesOfAnySizeKeepTheirOrder lets frames gather before they are read.
func TestFramesOfAnySizeKeepTheirOrder(t *testing.T) {
	sw := newSwitch(t)
	const mtu = frame.MaxSize - frame.HeaderSize
	a := plug(t, sw, netswitch.PortConfig{Name: "a", MAC: macA, Addrs: []netip.Addr{addrA}, MTU: mtu})
	b := plug(t, sw, netswitch.PortConfig{Name: "b", MAC: macB, Addrs: []netip.Addr{addrB}, MTU: mtu, QueueBytes: 32 << 20})
	var want [][]byte
	for i := range 400 {
		size := []int{10, 1400, 9000, 40000, 65000}[i%5] + i
		want = append(want, datagram(macA, macB, addrA, addrB, strings.Repeat(string(rune('A'+i%50)), size)))
	}
	a.send(t, want...)
	for i, f := range want {
		if got := b.receive(t); !bytes.Equal(got, f) {
			t.Fatalf("frame %d of %d bytes came as %d bytes", i, len(f), len(got))
		}
	}
}

func TestFilterRunsAtEachPortInBothDirections(t *testing.T) {
	sw := newSwitch(t)
	a, b, c := guestPorts(t, sw)
	b.port.SetFilter(func(dir netswitch.Direction, f []byte) bool {
		return dir == netswitch.FromPort || !bytes.HasSuffix(f, []byte("secret"))
	})
	c.port.SetFilter(func(dir netswitch.Direction, _ []byte) bool { return dir == netswitch.ToPort })
	c.send(t, datagram(macC, macB, addrC, addrB, "c may not send"))
	a.send(t, datagram(macA, macB, addrA, addrB, "a secret"), datagram(macA, macC, addrA, addrC, "hello c"))
	a.send(t, datagram(macA, macB, addrA, addrB, "hello b"))
	if got := b.receive(t); !bytes.HasSuffix(got, []byte("hello b")) {
		t.Errorf("b got %q", got)
	}
	if got := c.receive(t); !bytes.HasSuffix(got, []byte("hello c")) {
		t.Errorf("c got %q", got)
	}
	b.port.SetFilter(nil)
	a.send(t, datagram(macA, macB, addrA, addrB, "a secret"))
	if got := b.receive(t); !bytes.HasSuffix(got, []byte("a secret")) {
		t.Errorf("b got %q", got)
	}
	if n := b.port.Stats().Dropped[netswitch.Filtered]; n != 1 {
		t.Errorf("b filtered %d frames", n)
	}
}

func TestTapSeesBothSides(t *testing.T) {
	sw := newSwitch(t)
	a, b, _ := guestPorts(t, sw)
	var from, to atomic.Int64
	sw.SetTap(func(port string, dir netswitch.Direction, _ []byte) {
		switch {
		case port == "a" && dir == netswitch.FromPort:
			from.Add(1)
		case port == "b" && dir == netswitch.ToPort:
			to.Add(1)
		}
	})
	a.send(t, datagram(macA, macB, addrA, addrB, "one"))
	b.receive(t)
	sw.SetTap(nil)
	a.send(t, datagram(macA, macB, addrA, addrB, "two"))
	b.receive(t)
	if from.Load() != 1 || to.Load() != 1 {
		t.Errorf("tap saw %d and %d frames", from.Load(), to.Load())
	}
}

func TestClosedSwitchTakesNoPorts(t *testing.T) {
	sw := netswitch.New()
	if err := sw.Close(); err != nil {
		t.Fatal(err)
	}
	ours, theirs := socketPair(t)
	defer theirs.Close()
	if _, err := sw.Attach(ours, netswitch.PortConfig{Name: "late", MAC: macA}); !errors.Is(err, netswitch.ErrClosed) {
		t.Errorf("got %v", err)
	}
}
