package armtemplate

import (
	"encoding/binary"
	"net/netip"
)

func init() {
	register(map[string]function{
		"cidrSubnet": {3, 3, (*arguments).cidrSubnet},
		"cidrHost":   {2, 2, (*arguments).cidrHost},
		"parseCidr":  {1, 1, (*arguments).parseCIDR},
	})
}

// prefix is argument 0, a network of IPv4.
func (a *arguments) prefix() (netip.Prefix, uint32, error) {
	s, err := a.text(0)
	if err != nil {
		return netip.Prefix{}, 0, err
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() {
		return p, 0, a.fail("'%s' is not a network of IPv4 like 10.0.0.0/16", clip(s))
	}
	p = p.Masked()
	b := p.Addr().As4()
	return p, binary.BigEndian.Uint32(b[:]), nil
}

func address(n uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], n)
	return netip.AddrFrom4(b)
}

// cidrSubnet is subnet number 3 of the length that argument 2 says.
func (a *arguments) cidrSubnet() (value, error) {
	p, base, err := a.prefix()
	if err != nil {
		return nil, err
	}
	length, err := a.number(1)
	if err != nil {
		return nil, err
	}
	index, err := a.number(2)
	if err != nil {
		return nil, err
	}
	if length < int64(p.Bits()) || length > 32 || index < 0 || index >= 1<<(length-int64(p.Bits())) {
		return nil, a.fail("%s has no subnet %d of /%d", p, index, length)
	}
	return text(netip.PrefixFrom(address(base+uint32(index<<(32-length))), int(length)).String()), nil
}

// cidrHost is a usable address: 0 is the first after that of the network.
func (a *arguments) cidrHost() (value, error) {
	p, base, err := a.prefix()
	if err != nil {
		return nil, err
	}
	index, err := a.number(1)
	if err != nil {
		return nil, err
	}
	if size := int64(1) << (32 - p.Bits()); index < 0 || index+1 >= size {
		return nil, a.fail("%s has no host %d", p, index)
	}
	return text(address(base + uint32(index) + 1).String()), nil
}

func (a *arguments) parseCIDR() (value, error) {
	p, base, err := a.prefix()
	if err != nil {
		return nil, err
	}
	size := uint64(1) << (32 - p.Bits())
	mask := address(uint32((uint64(1)<<32 - size)))
	last := base + uint32(size-1)
	first, end := base, last
	if size > 2 {
		first, end = base+1, last-1
	}
	return object("network", text(p.Addr().String()), "netmask", text(mask.String()), "broadcast", text(address(last).String()),
		"firstUsable", text(address(first).String()), "lastUsable", text(address(end).String()), "cidr", number(int64(p.Bits()))), nil
}
