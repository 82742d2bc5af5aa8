package artifact

import (
	"net"
	"net/netip"

	"goldsmith/internal/arm"
)

// AddressPolicy decides which IP addresses a fetch of a user-given URI may
// connect to. It is pure: the host's own addresses are a value.
//
// Refused are loopback, link-local, unspecified, multicast and broadcast
// addresses, cloud metadata endpoints and the host's own addresses. Private
// ranges (RFC 1918, RFC 4193) are allowed: sites keep their artifacts there.
type AddressPolicy struct {
	Allow []netip.Prefix // opened by the operator; wins over every refusal
	Own   []netip.Addr   // addresses of the host's interfaces
}

// metadata are endpoints that hand out credentials of the host and live outside
// the link-local ranges: Azure's wire server, and the IMDS of AWS over IPv6 and
// of Alibaba Cloud.
var metadata = []netip.Addr{
	netip.MustParseAddr("168.63.129.16"),
	netip.MustParseAddr("fd00:ec2::254"),
	netip.MustParseAddr("100.100.100.200"),
}

// Judge returns nil when a may be connected to, and CodeFetchRefused otherwise.
// An IPv6 address that carries an IPv4 address (mapped, NAT64, 6to4, Teredo) is
// refused when either of the two is.
func (p AddressPolicy) Judge(a netip.Addr) error {
	a = a.Unmap().WithZone("")
	inner := embedded(a)
	for _, x := range append([]netip.Addr{a}, inner...) {
		for _, allowed := range p.Allow {
			if allowed.Contains(x) {
				return nil
			}
		}
	}
	for _, x := range append([]netip.Addr{a}, inner...) {
		if why := p.refusal(x); why != "" {
			return arm.Errorf(arm.CodeFetchRefused,
				"address %s is %s, which a fetch may not reach; if it is meant to, open it with --allow-fetch %s",
				a, why, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return nil
}

var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8") // Linux routes 0.0.0.0 to the host itself
	broadcast   = netip.MustParseAddr("255.255.255.255")
)

func (p AddressPolicy) refusal(a netip.Addr) string {
	switch {
	case !a.IsValid():
		return "not an IP address"
	case a.IsLoopback():
		return "a loopback address"
	case a.IsUnspecified(), thisNetwork.Contains(a):
		return "an unspecified address"
	case a.IsLinkLocalUnicast():
		return "a link-local address"
	case a.IsMulticast(), a == broadcast:
		return "a multicast or broadcast address"
	}
	for _, m := range metadata {
		if a == m {
			return "a cloud metadata endpoint"
		}
	}
	for _, own := range p.Own {
		if a == own.Unmap().WithZone("") {
			return "an address of this host"
		}
	}
	return ""
}

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
	sixToFour  = netip.MustParsePrefix("2002::/16")      // RFC 3056
	teredo     = netip.MustParsePrefix("2001::/32")      // RFC 4380
	compatible = netip.MustParsePrefix("::/96")          // RFC 4291, deprecated
)

// embedded lists the IPv4 addresses that a packet to the IPv6 address a could
// end up at.
func embedded(a netip.Addr) []netip.Addr {
	if !a.Is6() {
		return nil
	}
	b := a.As16()
	v4 := func(i, j, k, l int) netip.Addr { return netip.AddrFrom4([4]byte{b[i], b[j], b[k], b[l]}) }
	switch {
	case nat64.Contains(a):
		return []netip.Addr{v4(12, 13, 14, 15)}
	case nat64Local.Contains(a):
		// The operator chose the prefix length, so every layout of RFC 6052
		// that fits behind a /48 is read.
		return []netip.Addr{v4(6, 7, 9, 10), v4(7, 9, 10, 11), v4(9, 10, 11, 12), v4(12, 13, 14, 15)}
	case sixToFour.Contains(a):
		return []netip.Addr{v4(2, 3, 4, 5)}
	case teredo.Contains(a):
		client := netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]})
		return []netip.Addr{v4(4, 5, 6, 7), client}
	case compatible.Contains(a) && !a.IsLoopback() && !a.IsUnspecified():
		return []netip.Addr{v4(12, 13, 14, 15)}
	}
	return nil
}

// OwnAddresses lists the addresses of all the host's interfaces.
func OwnAddresses() ([]netip.Addr, error) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil, arm.Errorf(arm.CodeInternal, "the host's addresses cannot be listed, so no fetch can be judged safe: %w", err)
	}
	var out []netip.Addr
	for _, a := range all {
		if n, ok := a.(*net.IPNet); ok {
			if ip, ok := netip.AddrFromSlice(n.IP); ok {
				out = append(out, ip.Unmap())
			}
		}
	}
	return out, nil
}
