package vnet

import (
	"net/netip"

	"goldsmith/internal/arm"
	"goldsmith/internal/resource"
)

// Capacity is how many addresses of a subnet somebody can have.
func (s Subnet) Capacity() int { return 1<<(32-s.Prefix.Bits()) - ReservedAddresses }

// Gateway is the address of a subnet's router.
func (s Subnet) Gateway() netip.Addr { return s.Prefix.Addr().Next() }

// Reserved reports whether addr is one of the addresses that nobody gets.
func (s Subnet) Reserved(addr netip.Addr) bool {
	first := s.Prefix.Addr()
	for range ReservedAddresses - 1 {
		if addr == first {
			return true
		}
		first = first.Next()
	}
	return s.Prefix.Contains(addr) && !s.Prefix.Contains(addr.Next())
}

// Taken are the addresses of a subnet in use, by the resource that uses them.
func (s *Snapshot) Taken(subnetID string) map[netip.Addr]string {
	taken := map[netip.Addr]string{}
	key := resource.Key(subnetID)
	for _, u := range s.uses {
		if u.Addr.IsValid() && resource.Key(u.Of) == key {
			taken[u.Addr] = u.By
		}
	}
	return taken
}

// Free is how many addresses a subnet has left.
func (s *Snapshot) Free(sub Subnet) int {
	free := sub.Capacity()
	for addr := range s.Taken(sub.ID) {
		if sub.Prefix.Contains(addr) && !sub.Reserved(addr) {
			free--
		}
	}
	return free
}

// Allocate picks the count lowest free addresses of a subnet. The error is
// CodeSubnetFull.
func (s *Snapshot) Allocate(sub Subnet, count int) ([]netip.Addr, error) {
	taken := s.Taken(sub.ID)
	var out []netip.Addr
	for a := sub.Prefix.Addr(); len(out) < count && sub.Prefix.Contains(a); a = a.Next() {
		if _, used := taken[a]; !used && !sub.Reserved(a) {
			out = append(out, a)
		}
	}
	if len(out) < count {
		return nil, arm.Errorf(CodeSubnetFull, "subnet %s (%v) has %d free addresses; %d are needed", sub.Name, sub.Prefix, len(out), count).At(sub.ID)
	}
	return out, nil
}

// CheckAddress says why a resource may not have addr in a subnet.
func (s *Snapshot) CheckAddress(sub Subnet, addr netip.Addr, owner string) error {
	switch by, used := s.Taken(sub.ID)[addr]; {
	case !sub.Prefix.Contains(addr):
		return arm.Errorf(CodeAddressOutside, "%v is not in subnet %s (%v)", addr, sub.Name, sub.Prefix).At(owner)
	case sub.Reserved(addr):
		return arm.Errorf(CodeAddressReserved, "%v is one of the %d addresses of subnet %s that are reserved", addr, ReservedAddresses, sub.Name).At(owner)
	case used && resource.Key(by) != resource.Key(owner):
		return arm.Errorf(CodeAddressTaken, "%v is in use by %s", addr, by).At(owner)
	}
	return nil
}
