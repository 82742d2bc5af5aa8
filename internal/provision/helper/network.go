package helper

import (
	"context"
	"fmt"
	"net"

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
func waitAddress(ctx context.Context, mac net.HardwareAddr) (address protocol.Address, err error) {
	const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR
	seen := false
	err = watchKernel(ctx, unix.NETLINK_ROUTE, groups, func() (bool, error) {
		address, seen = addressOf(mac)
		return address.Address != "", nil
	})
	switch {
	case err == nil || ctx.Err() == nil:
		return address, err
	case seen:
		return address, fmt.Errorf("%s got no address: is there a DHCP client in this guest? %w", address.Interface, err)
	}
	return address, fmt.Errorf("no network card %s appeared: %w", mac, err)
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
