package gateway

import (
	"fmt"
	"net"
	"net/netip"
)

// Egress says which outside addresses a network may reach. The zero value is
// the default policy: the internet, and nothing of the host or its networks.
//
// Deny wins over Allow, and Allow over everything else except the network's own
// subnet, which is never looked for outside.
type Egress struct {
	Allow []netip.Prefix // reached even if the default policy says no
	Deny  []netip.Prefix // never reached
	None  bool           // nothing outside is reached except Allow
}

// special are the ranges that the default policy keeps a guest from. The
// documentation ranges are not among them: sites do put services there.
var special = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "no destination"},
	{netip.MustParsePrefix("10.0.0.0/8"), "a private address"},
	{netip.MustParsePrefix("100.64.0.0/10"), "a carrier's private address"},
	{netip.MustParsePrefix("127.0.0.0/8"), "a loopback address"},
	{netip.MustParsePrefix("168.63.129.16/32"), "the host's cloud platform"},
	{netip.MustParsePrefix("169.254.0.0/16"), "a link-local address"},
	{netip.MustParsePrefix("172.16.0.0/12"), "a private address"},
	{netip.MustParsePrefix("192.168.0.0/16"), "a private address"},
	{netip.MustParsePrefix("224.0.0.0/4"), "a multicast address"},
	{netip.MustParsePrefix("240.0.0.0/4"), "a reserved address"},
	{netip.MustParsePrefix("::/127"), "a loopback address"},
	{netip.MustParsePrefix("fc00::/7"), "a private address"},
	{netip.MustParsePrefix("fe80::/10"), "a link-local address"},
	{netip.MustParsePrefix("ff00::/8"), "a multicast address"},
}

// Refuse says why addr may not be reached, or "" when it may. hostNets are the
// host's interface addresses with their prefix lengths, as they are now.
func (e Egress) Refuse(addr netip.Addr, hostNets []netip.Prefix) string {
	addr = addr.Unmap().WithZone("")
	switch {
	case !addr.IsValid():
		return "the address is not valid"
	case contains(e.Deny, addr):
		return fmt.Sprintf("the network's egress policy denies %v", addr)
	case contains(e.Allow, addr):
		return ""
	case e.None:
		return fmt.Sprintf("the network has no way out; allow %v to open one", addr)
	}
	for _, s := range special {
		if s.prefix.Contains(addr) {
			return fmt.Sprintf("%v is %s; allow it to open it", addr, s.what)
		}
	}
	for _, p := range hostNets {
		if p.Addr().Unmap() == addr {
			return fmt.Sprintf("%v is an address of the host; allow it to open it", addr)
		}
		if p.Masked().Contains(addr) {
			return fmt.Sprintf("%v is in the host's network %v; allow it to open it", addr, p.Masked())
		}
	}
	return ""
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// HostNetworks reads the addresses of the host's interfaces, with the prefix
// lengths of the networks they are in.
func HostNetworks() ([]netip.Prefix, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("read the host's own addresses: %w", err)
	}
	var nets []netip.Prefix
	for _, a := range addrs {
		ipnet, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(ipnet.IP)
		if !ok {
			continue
		}
		bits, _ := ipnet.Mask.Size()
		nets = append(nets, netip.PrefixFrom(ip.Unmap(), bits))
	}
	return nets, nil
}
