package network_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"goldsmith/internal/network"
	"goldsmith/internal/network/frame"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

func mac(t testing.TB, s string) frame.MAC {
	t.Helper()
	m, err := frame.ParseMAC(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// ipv4Frame is a frame from the build VM to the gateway around a transport
// segment whose checksum the caller need not have set.
func ipv4Frame(t testing.TB, to netip.Addr, proto tcpip.TransportProtocolNumber, segment []byte) []byte {
	t.Helper()
	src, dst := mac(t, network.BuildMAC), mac(t, network.GatewayMAC)
	b := make([]byte, frame.HeaderSize+header.IPv4MinimumSize+len(segment))
	header.Ethernet(b).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(src[:]), DstAddr: tcpip.LinkAddress(dst[:]), Type: header.IPv4ProtocolNumber,
	})
	ip := header.IPv4(b[frame.HeaderSize:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(len(ip)), TTL: 64, Protocol: uint8(proto),
		SrcAddr: tcpip.AddrFrom4(network.BuildAddress.As4()), DstAddr: tcpip.AddrFrom4(to.As4()),
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	copy(b[frame.HeaderSize+header.IPv4MinimumSize:], segment)
	return b
}

// syn is the first segment of a TCP connection.
func syn(t testing.TB, to netip.AddrPort) []byte {
	t.Helper()
	tcp := header.TCP(make([]byte, header.TCPMinimumSize))
	tcp.Encode(&header.TCPFields{
		SrcPort: 40000, DstPort: to.Port(), SeqNum: 1, DataOffset: header.TCPMinimumSize, Flags: header.TCPFlagSyn, WindowSize: 65535,
	})
	src, dst := tcpip.AddrFrom4(network.BuildAddress.As4()), tcpip.AddrFrom4(to.Addr().As4())
	tcp.SetChecksum(^tcp.CalculateChecksum(header.PseudoHeaderChecksum(header.TCPProtocolNumber, src, dst, uint16(len(tcp)))))
	return ipv4Frame(t, to.Addr(), header.TCPProtocolNumber, tcp)
}

// awaitTCP reads frames until a TCP segment with all of flags.
func awaitTCP(t testing.TB, wire net.Conn, flags header.TCPFlags) {
	t.Helper()
	if err := wire.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	frames := frame.NewReader(wire)
	for {
		b, err := frames.Next()
		if err != nil {
			t.Fatal(err)
		}
		ip := header.IPv4(b[frame.HeaderSize:])
		if header.Ethernet(b).Type() == header.IPv4ProtocolNumber && ip.TransportProtocol() == header.TCPProtocolNumber &&
			header.TCP(ip.Payload()).Flags().Contains(flags) {
			return
		}
	}
}

// flood asks the gateway for far more answers than a port's queue holds.
func flood(t testing.TB, wire net.Conn) {
	t.Helper()
	ping := header.ICMPv4(make([]byte, 1400))
	ping.SetType(header.ICMPv4Echo)
	ping.SetChecksum(header.ICMPv4Checksum(ping, 0))
	one := ipv4Frame(t, network.BuildGateway, header.ICMPv4ProtocolNumber, ping)
	var batch []byte
	for range 100 {
		batch = frame.Append(batch, one)
	}
	for range 100 {
		if _, err := wire.Write(batch); err != nil {
			t.Fatal(err)
		}
	}
}
