package artifact

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"goldsmith/internal/arm"
)

func TestAddressPolicy(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("203.0.113.9")}
	for addr, allowed := range map[string]bool{
		"93.184.216.34":                true,
		"10.1.2.4":                     true, // private ranges hold sites' artifacts
		"192.168.1.1":                  true,
		"172.16.0.1":                   true,
		"fd12::1":                      true,
		"2606:4700::1111":              true,
		"127.0.0.1":                    false,
		"127.255.255.254":              false,
		"::1":                          false,
		"0.0.0.0":                      false,
		"0.1.2.3":                      false,
		"::":                           false,
		"169.254.169.254":              false,
		"fe80::1":                      false,
		"fe80::1%eth0":                 false,
		"224.0.0.1":                    false,
		"ff02::1":                      false,
		"255.255.255.255":              false,
		"168.63.129.16":                false,
		"fd00:ec2::254":                false,
		"100.100.100.200":              false,
		"10.1.2.3":                     false,
		"203.0.113.9":                  false,
		"2001:db8::7":                  false,
		"::ffff:127.0.0.1":             false,
		"::ffff:10.1.2.3":              false,
		"::ffff:93.184.216.34":         true,
		"::127.0.0.1":                  false,
		"64:ff9b::7f00:1":              false,
		"64:ff9b::5db8:d822":           true,
		"64:ff9b:1:7f00:0:100::":       false,
		"64:ff9b:1::a9fe:a9fe":         false,
		"2002:7f00:1::":                false,
		"2002:5db8:d822::":             true,
		"2001:0:5db8:d822:0:0:80ff:fe": false, // Teredo client 127.0.1.1
	} {
		err := AddressPolicy{Own: own}.Judge(netip.MustParseAddr(addr))
		if allowed && err != nil {
			t.Errorf("%s is refused: %v", addr, err)
		}
		if !allowed {
			wantCode(t, err, arm.CodeFetchRefused, "--allow-fetch")
		}
	}
	if err := (AddressPolicy{}).Judge(netip.Addr{}); err == nil {
		t.Error("the invalid address is allowed")
	}
}

func TestAllowOpens(t *testing.T) {
	p := AddressPolicy{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
	for addr, allowed := range map[string]bool{"127.0.0.1": true, "::ffff:127.9.9.9": true, "64:ff9b::7f00:1": true, "::1": false, "169.254.1.1": false} {
		if err := p.Judge(netip.MustParseAddr(addr)); (err == nil) != allowed {
			t.Errorf("%s: %v, want allowed %t", addr, err, allowed)
		}
	}
}

// However an IPv4 address is dressed up as IPv6, a refused one stays refused.
func TestDressedAddressesStayRefused(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		raw := [4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "v4"))
		raw[0] = rapid.SampledFrom([]byte{127, 0, 224, raw[0]}).Draw(t, "first")
		v4 := netip.AddrFrom4(raw)
		p := AddressPolicy{Own: []netip.Addr{netip.AddrFrom4([4]byte{raw[0], 1, 1, 1})}}
		if p.Judge(v4) == nil {
			return
		}
		mapped := netip.AddrFrom16(v4.As16())
		nat := nat64.Addr().As16()
		six := sixToFour.Addr().As16()
		copy(nat[12:], raw[:])
		copy(six[2:], raw[:])
		for _, dressed := range []netip.Addr{mapped, netip.AddrFrom16(nat), netip.AddrFrom16(six)} {
			if p.Judge(dressed) == nil {
				t.Fatalf("%s is refused but %s is not", v4, dressed)
			}
		}
	})
}

func TestOwnAddresses(t *testing.T) {
	own, err := OwnAddresses()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range own {
		if a == netip.MustParseAddr("127.0.0.1") {
			return
		}
	}
	t.Errorf("%v lacks 127.0.0.1", own)
}
