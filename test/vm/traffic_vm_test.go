//go:build vm

package vm

import (
	"bufio"
	"context"
	encoding "encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"testing"
)

// traffic is what "runs capture" writes of a run. Its fields are to be read when
// done is closed.
type traffic struct {
	in       *bufio.Reader
	ports    []string // of the switch, in the order of their interface blocks
	segments []segment
	done     chan struct{}
	err      error
}

// segment is one TCP segment where it entered the switch.
type segment struct {
	port     string // of the switch
	from, to netip.AddrPort
	bytes    int
}

// capture starts to record a run that is going on. When it returns everything
// from now on is recorded.
func (h host) capture(t *testing.T, run string) *traffic {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(t.Context()), patience, errors.New("the test's patience"))
	cmd := h.command(ctx, "runs", "capture", run, "--output", "/dev/stdout")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &traffic{in: bufio.NewReader(out), done: make(chan struct{})}
	began := make(chan struct{})
	go func() {
		defer close(c.done)
		c.err = c.read(began)
		c.err = errors.Join(c.err, cmd.Wait())
	}()
	t.Cleanup(func() {
		cancel()
		<-c.done
	})
	select {
	case <-began:
	case <-c.done:
		t.Fatalf("the capture ended: %v", c.err)
	}
	return c
}

// read reads the capture to its end, which is that of the run. It closes began
// when the capture is in place.
func (c *traffic) read(began chan<- struct{}) error {
	if kind, _, err := c.block(); err != nil || kind != 0x0A0D0D0A {
		return fmt.Errorf("the capture begins with a block of kind %#x: %w", kind, err)
	}
	close(began)
	for {
		kind, body, err := c.block()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch kind {
		case 1: // interface: its first option is its name
			n := encoding.LittleEndian.Uint16(body[10:])
			c.ports = append(c.ports, string(body[12:12+n]))
		case 6: // packet
			if s, ok := parseSegment(body[20 : 20+encoding.LittleEndian.Uint32(body[12:])]); ok {
				s.port = c.ports[encoding.LittleEndian.Uint32(body)]
				c.segments = append(c.segments, s)
			}
		}
	}
}

// block reads one block of pcapng.
func (c *traffic) block() (kind uint32, body []byte, err error) {
	head := make([]byte, 8)
	if _, err := io.ReadFull(c.in, head); err != nil {
		return 0, nil, err
	}
	size := encoding.LittleEndian.Uint32(head[4:])
	if size < 12 || size > 1<<20 {
		return 0, nil, fmt.Errorf("a block of %d bytes", size)
	}
	body = make([]byte, size-8)
	_, err = io.ReadFull(c.in, body)
	return encoding.LittleEndian.Uint32(head), body[:len(body)-4], err
}

// parseSegment reads the TCP segment of an Ethernet frame.
func parseSegment(b []byte) (s segment, ok bool) {
	const ethernet, ipv4, tcp = 14, 0x0800, 6
	if len(b) < ethernet+40 || encoding.BigEndian.Uint16(b[12:]) != ipv4 || b[ethernet+9] != tcp {
		return s, false
	}
	ip := b[ethernet:]
	header := int(ip[0]&15) * 4
	total := int(encoding.BigEndian.Uint16(ip[2:]))
	if total > len(ip) || header+20 > total {
		return s, false
	}
	seg := ip[header:total]
	at := func(addr, port []byte) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr)), encoding.BigEndian.Uint16(port))
	}
	return segment{from: at(ip[12:16], seg[:2]), to: at(ip[16:20], seg[2:4]), bytes: len(seg) - int(seg[12]>>4)*4}, true
}

// checkPath looks for data that went hop by hop, in this order, from link to
// balancer to proxy VM to build VM, and for anything that reached the build VM's
// sshd another way.
func checkPath(t *testing.T, c *traffic, nat, frontend, proxy, guest string, proxyPort, guestPort uint16) {
	t.Helper()
	hops := []struct {
		port, from, to string
		at             uint16
	}{
		{"link", nat, frontend, proxyPort}, {"balancer", frontend, proxy, proxyPort}, {"proxy", proxy, guest, guestPort},
	}
	<-c.done
	if c.err != nil {
		t.Errorf("runs capture: %v", c.err)
	}
	next := 0
	for _, s := range c.segments {
		if next < len(hops) {
			h := hops[next]
			if s.port == h.port && s.bytes > 0 && s.from.Addr().String() == h.from && s.to.Addr().String() == h.to && s.to.Port() == h.at {
				t.Logf("at port %s: %v to %v, %d bytes", s.port, s.from, s.to, s.bytes)
				next++
			}
		}
		if s.to.Addr().String() == guest && s.to.Port() == guestPort && (s.port != "proxy" || s.from.Addr().String() != proxy) {
			t.Errorf("a segment from %v at port %s to %v", s.from, s.port, s.to)
		}
	}
	if next < len(hops) {
		t.Errorf("in %d segments none of hop %+v after those before", len(c.segments), hops[next])
	}
}
