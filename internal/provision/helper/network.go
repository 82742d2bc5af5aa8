package helper

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"goldsmith/internal/provision/protocol"
)

// Network waits for the card with n.MAC to have an address, told by the kernel,
// and then for sshd to listen.
func (l *Linux) Network(ctx context.Context, n protocol.Network) (protocol.Address, error) {
	mac, err := net.ParseMAC(n.MAC)
	if err != nil {
		return protocol.Address{}, err
	}
	if n.SSHPort < 0 || n.SSHPort > 65535 {
		return protocol.Address{}, fmt.Errorf("no port %d", n.SSHPort)
	}
	if n.SSHPort == 0 {
		n.SSHPort = sshPort
	}
	address, err := waitAddress(ctx, mac)
	if err != nil {
		return address, err
	}
	return address, waitListeners(ctx, n.SSHPort, func(string) bool { return true })
}

// waitAddress looks at the cards whenever the kernel reports a change of links or
// addresses (rtnetlink(7)).
func waitAddress(ctx context.Context, mac net.HardwareAddr) (protocol.Address, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return protocol.Address{}, fmt.Errorf("cannot listen for network changes: %w", err)
	}
	changes := os.NewFile(uintptr(fd), "rtnetlink")
	defer changes.Close()
	const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return protocol.Address{}, fmt.Errorf("cannot listen for network changes: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = changes.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	message := make([]byte, 64<<10)
	for {
		address, seen := addressOf(mac)
		if address.Address != "" {
			return address, nil
		}
		if _, err := changes.Read(message); err != nil && !errors.Is(err, unix.ENOBUFS) {
			if ctx.Err() == nil {
				return address, fmt.Errorf("cannot listen for network changes: %w", err)
			}
			if seen {
				return address, fmt.Errorf("%s got no address: is there a DHCP client in this guest? %w", address.Interface, context.Cause(ctx))
			}
			return address, fmt.Errorf("no network card %s appeared: %w", mac, context.Cause(ctx))
		}
	}
}

// addressOf is the first global IPv4 address of a card, and whether there is such
// a card.
func addressOf(mac net.HardwareAddr) (protocol.Address, bool) {
	cards, err := net.Interfaces()
	if err != nil {
		return protocol.Address{}, false
	}
	for _, card := range cards {
		if card.HardwareAddr.String() != mac.String() {
			continue
		}
		found := protocol.Address{Interface: card.Name}
		addrs, err := card.Addrs()
		if err != nil || card.Flags&net.FlagUp == 0 {
			return found, true
		}
		for _, a := range addrs {
			if ip, ok := a.(*net.IPNet); ok && ip.IP.To4() != nil && ip.IP.IsGlobalUnicast() {
				found.Address = ip.String()
				break
			}
		}
		return found, true
	}
	return protocol.Address{}, false
}
