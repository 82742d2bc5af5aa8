package gateway

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func prefixes(s ...string) []netip.Prefix {
	var p []netip.Prefix
	for _, x := range s {
		p = append(p, netip.MustParsePrefix(x))
	}
	return p
}

func TestEgressRefuse(t *testing.T) {
	host := prefixes("198.51.100.7/24", "fd00::2/64", "127.0.0.1/8")
	all := prefixes("0.0.0.0/0", "::/0")
	tests := []struct {
		name   string
		egress Egress
		addr   string
		want   string // part of the reason, "" for allowed
	}{
		{"internet", Egress{}, "93.184.216.34", ""},
		{"documentation range", Egress{}, "203.0.113.5", ""},
		{"internet, ipv6", Egress{}, "2606:4700::1111", ""},
		{"loopback", Egress{}, "127.0.0.1", "loopback"},
		{"loopback, elsewhere", Egress{}, "127.9.9.9", "loopback"},
		{"loopback, mapped", Egress{}, "::ffff:127.0.0.1", "loopback"},
		{"loopback, ipv6", Egress{}, "::1", "loopback"},
		{"unspecified, which is loopback too", Egress{}, "0.0.0.0", "no destination"},
		{"unspecified, ipv6", Egress{}, "::", "loopback"},
		{"identity endpoint", Egress{}, "169.254.169.254", "link-local"},
		{"platform endpoint", Egress{}, "168.63.129.16", "cloud platform"},
		{"link-local, zone", Egress{}, "fe80::1%eth0", "link-local"},
		{"private", Egress{}, "10.1.2.3", "private"},
		{"private", Egress{}, "172.31.255.255", "private"},
		{"next to private", Egress{}, "172.32.0.0", ""},
		{"private", Egress{}, "192.168.0.1", "private"},
		{"unique local", Egress{}, "fd12::1", "private"},
		{"carrier", Egress{}, "100.100.100.200", "carrier"},
		{"multicast", Egress{}, "224.0.0.251", "multicast"},
		{"broadcast", Egress{}, "255.255.255.255", "reserved"},
		{"host itself", Egress{}, "198.51.100.7", "an address of the host"},
		{"host's neighbour", Egress{}, "198.51.100.1", "host's network 198.51.100.0/24"},
		{"allowed private", Egress{Allow: prefixes("10.1.0.0/16")}, "10.1.2.3", ""},
		{"not allowed private", Egress{Allow: prefixes("10.1.0.0/16")}, "10.2.2.3", "private"},
		{"allowed loopback", Egress{Allow: prefixes("127.0.0.1/32")}, "127.0.0.1", ""},
		{"allowed host", Egress{Allow: prefixes("198.51.100.7/32")}, "198.51.100.7", ""},
		{"denied", Egress{Deny: prefixes("93.184.216.0/24")}, "93.184.216.34", "denies"},
		{"deny wins", Egress{Allow: all, Deny: prefixes("10.0.0.0/8")}, "10.1.2.3", "denies"},
		{"siloed", Egress{None: true}, "93.184.216.34", "no way out"},
		{"siloed but for one", Egress{None: true, Allow: prefixes("93.184.216.34/32")}, "93.184.216.34", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name+" "+tt.addr, func(t *testing.T) {
			got := tt.egress.Refuse(netip.MustParseAddr(tt.addr), host)
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if got := (Egress{Allow: all}).Refuse(netip.Addr{}, nil); got == "" {
		t.Error("an invalid address is allowed")
	}
}

func TestEgressProperties(t *testing.T) {
	addr := rapid.Custom(func(t *rapid.T) netip.Addr {
		return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "addr")))
	})
	prefix := rapid.Custom(func(t *rapid.T) netip.Prefix {
		return netip.PrefixFrom(addr.Draw(t, "base"), rapid.IntRange(0, 32).Draw(t, "bits"))
	})
	rapid.Check(t, func(t *rapid.T) {
		e := Egress{
			Allow: rapid.SliceOfN(prefix, 0, 3).Draw(t, "allow"), Deny: rapid.SliceOfN(prefix, 0, 3).Draw(t, "deny"),
			None: rapid.Bool().Draw(t, "none"),
		}
		a, host := addr.Draw(t, "to"), rapid.SliceOfN(prefix, 0, 3).Draw(t, "host")
		allowed := e.Refuse(a, host) == ""
		switch {
		case contains(e.Deny, a) && allowed:
			t.Fatal("denied and allowed")
		case !contains(e.Deny, a) && contains(e.Allow, a) && !allowed:
			t.Fatal("allowed and refused")
		case e.None && !contains(e.Allow, a) && allowed:
			t.Fatal("a siloed network has a way out")
		}
		mapped := netip.AddrFrom16(a.As16())
		if (e.Refuse(mapped, host) == "") != allowed {
			t.Fatal("the mapped form of an address is judged differently")
		}
	})
}

func TestHostNetworksHoldsLoopback(t *testing.T) {
	nets, err := HostNetworks()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range nets {
		if p.Addr().IsLoopback() {
			return
		}
	}
	t.Errorf("no loopback address in %v", nets)
}
