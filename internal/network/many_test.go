package network_test

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"goldsmith/internal/network"
	"goldsmith/internal/network/frame"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// A guest that opens ten thousand connections gets refusals, costs bounded memory,
// and leaves the gateway alive.
func TestTenThousandConnections(t *testing.T) {
	var world outside
	n := newNetwork(t, network.Config{Dial: world.dial, Policy: policyOf(t, "")})
	wire := rawWire(t, n)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	gate := netip.MustParseAddrPort("203.0.113.9:443")
	src, dst := tcpip.AddrFrom4(network.BuildAddress.As4()), tcpip.AddrFrom4(gate.Addr().As4())
	var stream []byte
	for port := range uint16(10000) {
		b := syn(t, gate)
		seg := header.TCP(header.IPv4(b[frame.HeaderSize:]).Payload())
		seg.SetSourcePort(20000 + port)
		seg.SetChecksum(0)
		seg.SetChecksum(^seg.CalculateChecksum(header.PseudoHeaderChecksum(header.TCPProtocolNumber, src, dst, uint16(len(seg)))))
		stream = frame.Append(stream, b)
	}
	stream = frame.Append(stream, ping(t, network.BuildGateway, 77))
	if _, err := wire.Write(stream); err != nil {
		t.Fatal(err)
	}
	if err := wire.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	frames := frame.NewReader(wire)
	for {
		b, err := frames.Next()
		if err != nil {
			t.Fatalf("the gateway does not answer any more: %v", err)
		}
		if len(b) > 42 && header.IPv4(b[frame.HeaderSize:]).TransportProtocol() == header.ICMPv4ProtocolNumber {
			break
		}
	}
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 256<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}
