package gateway

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/miekg/dns"
	"pgregory.net/rapid"
)

// offline is a gateway that answers without a netstack or an outside.
func offline(host ...string) *Gateway {
	return &Gateway{
		cfg: Config{
			Subnet: netip.MustParsePrefix("10.0.0.0/24"), Addr: serverAddr,
			Records:      map[string]netip.Addr{"mirror.internal": serverAddr},
			Resolvers:    func() ([]netip.AddrPort, error) { return nil, errors.New("offline") },
			HostNetworks: func() ([]netip.Prefix, error) { return prefixes(host...), nil },
		},
		flows: newFlowLog(nil),
	}
}

func TestScreenKeepsOnlyWhatTheGuestMayReach(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g := offline("198.51.100.7/24")
		var answer []dns.RR
		for _, b := range rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 4, 4), 0, 10).Draw(t, "addresses") {
			answer = append(answer, &dns.A{Hdr: dns.RR_Header{Name: "x.", Rrtype: dns.TypeA}, A: b})
		}
		kept, withheld := g.screen("x", answer)
		if withheld != (len(kept) < len(answer)) {
			t.Fatalf("withheld %v, kept %d of %d", withheld, len(kept), len(answer))
		}
		for _, rr := range kept {
			addr, _ := netip.AddrFromSlice(rr.(*dns.A).A)
			if g.permit(addr) != nil {
				t.Fatalf("%v is in the answer", addr)
			}
			if g.names.lookup(addr) != "x" {
				t.Fatalf("%v is not remembered", addr)
			}
		}
	})
}

func TestNameMemoryIsBounded(t *testing.T) {
	var m nameMemory
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{1, byte(i >> 16), byte(i >> 8), byte(i)}) }
	for i := range 3 * maxNames {
		m.learn(addr(i), fmt.Sprint(i))
	}
	if len(m.names) != maxNames || len(m.order) != maxNames {
		t.Errorf("holds %d and %d", len(m.names), len(m.order))
	}
	for i, want := range map[int]string{0: "", 2*maxNames - 1: "", 2 * maxNames: fmt.Sprint(2 * maxNames), 3*maxNames - 1: fmt.Sprint(3*maxNames - 1)} {
		if got := m.lookup(addr(i)); got != want {
			t.Errorf("address %d is %q, want %q", i, got, want)
		}
	}
}

func TestEqualRefusalsAreToldOnce(t *testing.T) {
	var told []Flow
	l := newFlowLog(func(f Flow) { told = append(told, f) })
	for i := range 5 {
		l.refuse(Flow{Protocol: "tcp", Remote: netip.AddrPortFrom(serverAddr, uint16(i/3))}, "no")
	}
	if len(told) != 2 || !told[0].Ended || told[0].Reason != "no" {
		t.Errorf("told %+v", told)
	}
	for i := range 2 * maxRefusals {
		l.refuse(Flow{Protocol: "udp", Remote: netip.AddrPortFrom(serverAddr, uint16(i))}, "no")
	}
	if len(told) != maxRefusals {
		t.Errorf("told %d refusals", len(told))
	}
}

func TestReverseAddr(t *testing.T) {
	for name, want := range map[string]string{
		"4.0.0.10.in-addr.arpa": "10.0.0.4", "255.1.168.192.in-addr.arpa": "192.168.1.255",
		"0.0.10.in-addr.arpa": "", "256.0.0.10.in-addr.arpa": "", "a.0.0.10.in-addr.arpa": "", "example.com": "", ".in-addr.arpa": "",
	} {
		got, ok := reverseAddr(name)
		if ok != (want != "") || (ok && got.String() != want) {
			t.Errorf("%s: got %v, %v, want %q", name, got, ok, want)
		}
	}
}

func FuzzDNS(f *testing.F) {
	for _, m := range []*dns.Msg{
		new(dns.Msg).SetQuestion("mirror.internal.", dns.TypeA),
		new(dns.Msg).SetQuestion("4.0.0.10.in-addr.arpa.", dns.TypePTR),
		new(dns.Msg).SetQuestion("example.", dns.TypeAXFR),
	} {
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	g := offline()
	f.Fuzz(func(t *testing.T, b []byte) {
		req := new(dns.Msg)
		if req.Unpack(b) != nil {
			return
		}
		resp := g.resolve(t.Context(), req)
		if !resp.Response || resp.Id != req.Id {
			t.Fatalf("answer %v to %v", resp, req)
		}
		// The server packs what it is given; a name that came in must go out.
		resp.Truncate(dns.MinMsgSize)
		if _, err := resp.Pack(); err != nil && len(resp.Answer) > 0 {
			t.Fatalf("cannot pack the answer: %v", err)
		}
		_, _ = g.screen("x", req.Answer)
	})
}
