package bridge

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// netlink is a socket to the kernel's routing family (RFC 3549, rtnetlink(7)).
type netlink int

func openNetlink() (netlink, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE)
	if err != nil {
		return 0, fmt.Errorf("open a netlink socket: %w", err)
	}
	return netlink(fd), nil
}

func (s netlink) close() { _ = unix.Close(int(s)) }

var native = binary.NativeEndian

// word is a 32-bit value of an attribute.
func word(v uint32) []byte { return native.AppendUint32(nil, v) }

// attribute is one attribute of a message, padded.
func attribute(kind uint16, value []byte) []byte {
	b := native.AppendUint16(nil, uint16(unix.SizeofRtAttr+len(value)))
	b = append(native.AppendUint16(b, kind), value...)
	return append(b, make([]byte, (4-len(b)%4)%4)...)
}

// change asks for a change of the link with index: flags are those to set.
func (s netlink) change(kind uint16, family uint8, index int, flags uint32, attributes ...[]byte) error {
	body := []byte{family, 0, 0, 0}
	body = native.AppendUint32(body, uint32(index))
	body = native.AppendUint32(body, flags)
	body = native.AppendUint32(body, flags) // which of them change
	for _, a := range attributes {
		body = append(body, a...)
	}
	message := native.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+len(body)))
	message = native.AppendUint16(message, kind)
	message = native.AppendUint16(message, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	message = append(message, make([]byte, 8)...) // one message at a time, from whoever the kernel says
	message = append(message, body...)
	if err := unix.Sendto(int(s), message, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answer := make([]byte, 8<<10)
	n, _, err := unix.Recvfrom(int(s), answer, 0)
	if err != nil {
		return err
	}
	if n < unix.SizeofNlMsghdr+4 || native.Uint16(answer[4:]) != unix.NLMSG_ERROR {
		return errors.New("the kernel's answer is not one to a request")
	}
	if errno := -int32(native.Uint32(answer[unix.SizeofNlMsghdr:])); errno != 0 {
		return unix.Errno(errno)
	}
	return nil
}
