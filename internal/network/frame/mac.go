package frame

import (
	"fmt"
	"net"
)

// MAC is an Ethernet hardware address.
type MAC [6]byte

// Broadcast is the hardware address of every station.
var Broadcast = MAC{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// ParseMAC parses a unicast hardware address such as "52:54:00:67:6d:04".
func ParseMAC(s string) (MAC, error) {
	hw, err := net.ParseMAC(s)
	if err != nil {
		return MAC{}, fmt.Errorf("hardware address %q: %w", s, err)
	}
	if len(hw) != len(MAC{}) || hw[0]&1 != 0 {
		return MAC{}, fmt.Errorf("hardware address %q is not a 48-bit unicast address", s)
	}
	return MAC(hw), nil
}

// String is the address in colon form.
func (m MAC) String() string { return net.HardwareAddr(m[:]).String() }

// IsGroup reports whether the address is multicast or broadcast.
func (m MAC) IsGroup() bool { return m[0]&1 != 0 }

// Destination is the destination address of a frame of at least HeaderSize bytes.
func Destination(frame []byte) MAC { return MAC(frame[:6]) }

// Source is the source address of a frame of at least HeaderSize bytes.
func Source(frame []byte) MAC { return MAC(frame[6:12]) }
