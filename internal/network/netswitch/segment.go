package netswitch

import (
	"cmp"

	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"goldsmith/internal/network/frame"
)

// segments cuts a TCP packet that a netstack left to its card into frames and
// gives each to send, until that returns false. It does what such cards do: only
// the last frame keeps PSH and FIN, and the identifications of the packets count
// up, so that a receiver can put them together again. A header is written over
// the end of the frame before, so send must not keep its frame.
func segments(whole []byte, opts stack.GSO, send func(frame []byte) bool) bool {
	const pushOrEnd = header.TCPFlagPsh | header.TCPFlagFin
	ip := header.IPv4(whole[frame.HeaderSize:])
	tcp := header.TCP(ip[ip.HeaderLength():])
	headers := frame.HeaderSize + int(ip.HeaderLength()) + int(tcp.DataOffset())
	first := append(make([]byte, 0, 128), whole[:headers]...)
	id, flags, sequence := ip.ID(), tcp.Flags(), tcp.SequenceNumber()
	size := cmp.Or(int(opts.MSS), len(whole)) // none before there is anything to cut
	source, destination := ip.SourceAddress(), ip.DestinationAddress()

	for at := 0; ; at += size {
		end := min(headers+at+size, len(whole))
		last := end == len(whole)
		b := whole[at:end]
		copy(b, first)
		ip = header.IPv4(b[frame.HeaderSize:])
		tcp = header.TCP(ip[ip.HeaderLength():])
		ip.SetTotalLength(uint16(len(ip)))
		ip.SetID(id)
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		tcp.SetSequenceNumber(sequence)
		if !last {
			tcp.SetFlags(uint8(flags &^ pushOrEnd))
		}
		tcp.SetChecksum(0)
		sum := header.PseudoHeaderChecksum(header.TCPProtocolNumber, source, destination, uint16(len(tcp)))
		tcp.SetChecksum(^checksum.Checksum(tcp, sum))
		if !send(b) {
			return false
		}
		if last {
			return true
		}
		id++
		sequence += uint32(size)
	}
}
