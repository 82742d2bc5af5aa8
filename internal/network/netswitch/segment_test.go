package netswitch

import (
	"bytes"
	"testing"

	"goldsmith/internal/network/frame"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"pgregory.net/rapid"
)

// TestSegments cuts packets of any size and puts them together again.
func TestSegments(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		payload := rapid.SliceOfN(rapid.Byte(), 0, 5000).Draw(t, "payload")
		options := rapid.SampledFrom([]int{0, 12, 40}).Draw(t, "options")
		mss := rapid.Uint16Range(1, 3000).Draw(t, "mss")
		flags := rapid.SampledFrom([]header.TCPFlags{
			header.TCPFlagAck, header.TCPFlagAck | header.TCPFlagPsh, header.TCPFlagAck | header.TCPFlagPsh | header.TCPFlagFin,
		}).Draw(t, "flags")
		sequence, id := rapid.Uint32().Draw(t, "sequence"), rapid.Uint16().Draw(t, "id")
		source, destination := tcpip.AddrFrom4([4]byte{10, 0, 0, 1}), tcpip.AddrFrom4([4]byte{10, 0, 0, 4})

		whole := make([]byte, frame.HeaderSize+header.IPv4MinimumSize+header.TCPMinimumSize+options, 6000)
		header.Ethernet(whole).Encode(&header.EthernetFields{SrcAddr: "\x02\x00\x00\x00\x00\x01", DstAddr: "\x02\x00\x00\x00\x00\x02", Type: header.IPv4ProtocolNumber})
		tcp := header.TCP(whole[frame.HeaderSize+header.IPv4MinimumSize:])
		tcp.Encode(&header.TCPFields{SrcPort: 80, DstPort: 4000, SeqNum: sequence, DataOffset: uint8(len(tcp)), Flags: flags, WindowSize: 100})
		for i := range options {
			tcp[header.TCPMinimumSize+i] = byte(i)
		}
		prefix := bytes.Clone(whole[:frame.HeaderSize])
		optional := bytes.Clone(tcp[header.TCPMinimumSize:])
		whole = append(whole, payload...)
		ip := header.IPv4(whole[frame.HeaderSize:])
		ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(ip)), ID: id, TTL: 64, Protocol: uint8(header.TCPProtocolNumber), SrcAddr: source, DstAddr: destination})

		var got []byte
		frames, want := 0, max(1, (len(payload)+int(mss)-1)/int(mss))
		all := segments(whole, stack.GSO{Type: stack.GSOTCPv4, MSS: mss}, func(b []byte) bool {
			last := frames == want-1
			ip := header.IPv4(b[frame.HeaderSize:])
			if !bytes.Equal(b[:frame.HeaderSize], prefix) || !ip.IsValid(len(ip)) || int(ip.TotalLength()) != len(ip) || !ip.IsChecksumValid() {
				t.Fatalf("frame %d is damaged: %x", frames, b)
			}
			if ip.ID() != id+uint16(frames) || ip.SourceAddress() != source || ip.DestinationAddress() != destination {
				t.Errorf("frame %d is of packet %d from %v to %v", frames, ip.ID(), ip.SourceAddress(), ip.DestinationAddress())
			}
			tcp := header.TCP(ip.Payload())
			data := tcp.Payload()
			if !tcp.IsChecksumValid(source, destination, checksum.Checksum(data, 0), uint16(len(data))) {
				t.Errorf("frame %d has a wrong checksum", frames)
			}
			if tcp.SequenceNumber() != sequence+uint32(len(got)) || !bytes.Equal(tcp.Options(), optional) {
				t.Errorf("frame %d begins at %d with options %x", frames, tcp.SequenceNumber(), tcp.Options())
			}
			if last && tcp.Flags() != flags || !last && tcp.Flags() != header.TCPFlagAck {
				t.Errorf("frame %d of %d has flags %v", frames, want, tcp.Flags())
			}
			if len(data) > int(mss) || !last && len(data) < int(mss) {
				t.Errorf("frame %d of %d holds %d bytes", frames, want, len(data))
			}
			got = append(got, data...)
			frames++
			return true
		})
		if !all || frames != want || !bytes.Equal(got, payload) {
			t.Errorf("%d frames of %d arrived with %d bytes of %d", frames, want, len(got), len(payload))
		}
	})
}

// TestSegmentsStop checks that nothing is sent after a frame that nobody took, and
// that a packet without a segment size is left whole.
func TestSegmentsStop(t *testing.T) {
	whole := func() []byte {
		b := make([]byte, frame.HeaderSize+header.IPv4MinimumSize+header.TCPMinimumSize+1000)
		header.IPv4(b[frame.HeaderSize:]).Encode(&header.IPv4Fields{TotalLength: uint16(len(b) - frame.HeaderSize)})
		header.TCP(b[frame.HeaderSize+header.IPv4MinimumSize:]).Encode(&header.TCPFields{DataOffset: header.TCPMinimumSize})
		return b
	}
	sent := 0
	if segments(whole(), stack.GSO{MSS: 100}, func([]byte) bool { sent++; return sent < 3 }) || sent != 3 {
		t.Errorf("%d frames were sent when the third was refused", sent)
	}
	sent = 0
	if !segments(whole(), stack.GSO{}, func([]byte) bool { sent++; return true }) || sent != 1 {
		t.Errorf("a packet without a segment size became %d frames", sent)
	}
}
