package network_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"goldsmith/internal/network"
)

// nameServer serves zone, keyed by "name. TYPE", on one loopback port by UDP
// and TCP. Names under big.example. are truncated over UDP.
func nameServer(t testing.TB, zone map[string][]string) netip.AddrPort {
	t.Helper()
	l, pc := listenBoth(t)
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) {
		resp := new(dns.Msg).SetReply(req)
		q := req.Question[0]
		_, udp := w.RemoteAddr().(*net.UDPAddr)
		records, known := zone[q.Name+" "+dns.TypeToString[q.Qtype]]
		switch {
		case !known:
			resp.Rcode = dns.RcodeNameError
		case udp && strings.HasSuffix(q.Name, "big.example."):
			resp.Truncated = true
		default:
			for _, r := range records {
				rr, err := dns.NewRR(r)
				if err != nil {
					t.Error(err)
					continue
				}
				resp.Answer = append(resp.Answer, rr)
			}
		}
		_ = w.WriteMsg(resp)
	})
	for _, s := range []*dns.Server{{PacketConn: pc, Handler: handler}, {Listener: l, Handler: handler}} {
		started, ended := make(chan struct{}), make(chan error, 1)
		s.NotifyStartedFunc = func() { close(started) }
		go func() { ended <- s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() {
			if err := s.Shutdown(); err != nil {
				t.Error(err)
			}
			<-ended
		})
	}
	return netip.MustParseAddrPort(pc.LocalAddr().String())
}

// listenBoth opens a loopback port that is free for TCP and UDP.
func listenBoth(t testing.TB) (net.Listener, net.PacketConn) {
	t.Helper()
	for range 20 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if pc, err := net.ListenPacket("udp", l.Addr().String()); err == nil {
			return l, pc
		}
		_ = l.Close()
	}
	t.Fatal("no port is free for both tcp and udp")
	return nil, nil
}

func TestDNS(t *testing.T) {
	big := []string{}
	for i := range 100 {
		big = append(big, fmt.Sprintf("many.big.example. 60 IN A 203.0.113.%d", i+1))
	}
	server := nameServer(t, map[string][]string{
		"deb.example. A":                 {"deb.example. 60 IN CNAME cdn.example.", "cdn.example. 60 IN A 203.0.113.10"},
		"deb.example. AAAA":              {"deb.example. 60 IN AAAA 2001:db8::1"},
		"text.example. TXT":              {"text.example. 60 IN TXT \"hello\""},
		"rebind.example. A":              {"rebind.example. 60 IN A 127.0.0.1"},
		"metadata.example. A":            {"metadata.example. 60 IN A 169.254.169.254"},
		"inside.example. A":              {"inside.example. 60 IN A 10.0.0.1"},
		"mixed.example. A":               {"mixed.example. 60 IN A 192.168.1.1", "mixed.example. 60 IN A 203.0.113.11"},
		"many.big.example. A":            big,
		"4.0.0.10.in-addr.arpa. PTR":     {"4.0.0.10.in-addr.arpa. 60 IN PTR host.lan."},
		"10.113.0.203.in-addr.arpa. PTR": {"10.113.0.203.in-addr.arpa. 60 IN PTR deb.example."},
	})
	n := newNetwork(t, network.Config{
		Resolvers: []netip.AddrPort{server},
		Records:   map[string]netip.Addr{"mirror.internal": network.BuildGateway},
	})
	g := plug(t, n)
	tests := []struct {
		name, network string
		qtype         uint16
		rcode         int
		want          []string // data of the answers
	}{
		{"deb.example.", "udp", dns.TypeA, dns.RcodeSuccess, []string{"cdn.example.", "203.0.113.10"}},
		{"DEB.example.", "tcp", dns.TypeA, dns.RcodeNameError, nil}, // the test's server knows lower case only
		{"deb.example.", "tcp", dns.TypeA, dns.RcodeSuccess, []string{"cdn.example.", "203.0.113.10"}},
		{"deb.example.", "udp", dns.TypeAAAA, dns.RcodeSuccess, nil},
		{"text.example.", "udp", dns.TypeTXT, dns.RcodeSuccess, []string{`"hello"`}},
		{"text.example.", "udp", dns.TypeANY, dns.RcodeRefused, nil},
		{"nothing.example.", "udp", dns.TypeA, dns.RcodeNameError, nil},
		{"rebind.example.", "udp", dns.TypeA, dns.RcodeNameError, nil},
		{"metadata.example.", "udp", dns.TypeA, dns.RcodeNameError, nil},
		{"inside.example.", "udp", dns.TypeA, dns.RcodeNameError, nil},
		{"mixed.example.", "udp", dns.TypeA, dns.RcodeSuccess, []string{"203.0.113.11"}},
		{"mirror.internal.", "udp", dns.TypeA, dns.RcodeSuccess, []string{"10.0.0.1"}},
		{"Mirror.Internal.", "udp", dns.TypeA, dns.RcodeSuccess, []string{"10.0.0.1"}},
		{"mirror.internal.", "udp", dns.TypeMX, dns.RcodeSuccess, nil},
		{"4.0.0.10.in-addr.arpa.", "udp", dns.TypePTR, dns.RcodeNameError, nil},
		{"10.113.0.203.in-addr.arpa.", "udp", dns.TypePTR, dns.RcodeSuccess, []string{"deb.example."}},
	}
	for _, tt := range tests {
		t.Run(tt.network+" "+tt.name+" "+dns.TypeToString[tt.qtype], func(t *testing.T) {
			resp, err := g.Exchange(testContext(t), tt.network, new(dns.Msg).SetQuestion(tt.name, tt.qtype))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, rr := range resp.Answer {
				got = append(got, strings.TrimPrefix(rr.String(), rr.Header().String()))
			}
			if resp.Rcode != tt.rcode || !cmp.Equal(tt.want, got) {
				t.Errorf("got %s %q, want %s %q", dns.RcodeToString[resp.Rcode], got, dns.RcodeToString[tt.rcode], tt.want)
			}
		})
	}
	t.Run("too big for a packet", func(t *testing.T) {
		q := new(dns.Msg).SetQuestion("many.big.example.", dns.TypeA)
		resp, err := g.Exchange(testContext(t), "udp", q)
		if err != nil {
			t.Fatal(err)
		}
		resp.Compress = true // as it was on the wire
		if !resp.Truncated || len(resp.Answer) == 0 || resp.Len() > dns.MinMsgSize {
			t.Errorf("udp: %d bytes: %v", resp.Len(), resp)
		}
		resp, err = g.Exchange(testContext(t), "tcp", q)
		if err != nil || len(resp.Answer) != len(big) {
			t.Errorf("tcp: %v, %v", resp, err)
		}
	})
}

func TestFlowsCarryNames(t *testing.T) {
	server := nameServer(t, map[string][]string{
		"deb.example. A": {"deb.example. 60 IN A 203.0.113.10"},
		"lan.example. A": {"lan.example. 60 IN A 192.168.1.1"},
	})
	var world outside
	world.add("tcp 203.0.113.10:80", serve(t, echo))
	log := newFlows()
	n := newNetwork(t, network.Config{Resolvers: []netip.AddrPort{server}, Dial: world.dial, OnFlow: log.add})
	g := plug(t, n)
	c, err := g.Dial(testContext(t), "tcp", "deb.example:80")
	if err != nil {
		t.Fatal(err)
	}
	exchange(t, c, []byte("hello"))
	_ = c.Close()
	if f := log.next(t); f.Name != "deb.example" || !f.Allowed {
		t.Errorf("flow %+v", f)
	}
	mustFail(t, g, "tcp", "lan.example:80")
	if f := log.next(t); f.Protocol != "dns" || f.Name != "lan.example" || f.Allowed || !strings.Contains(f.Reason, "private address") {
		t.Errorf("flow %+v", f)
	}
}

func TestDNSWithoutAWayOut(t *testing.T) {
	server := nameServer(t, map[string][]string{"deb.example. A": {"deb.example. 60 IN A 203.0.113.10"}})
	dead := netip.MustParseAddrPort("127.0.0.1:1")
	tests := []struct {
		name  string
		cfg   network.Config
		rcode int
	}{
		{"siloed", network.Config{Egress: network.Egress{None: true}, Resolvers: []netip.AddrPort{server}}, dns.RcodeRefused},
		{"resolver is down", network.Config{Resolvers: []netip.AddrPort{dead}}, dns.RcodeServerFailure},
		{"no resolver", network.Config{Resolvers: []netip.AddrPort{}}, dns.RcodeServerFailure},
		{"second resolver answers", network.Config{Resolvers: []netip.AddrPort{dead, server}}, dns.RcodeSuccess},
		{"allow-list holds it", network.Config{
			Egress:    network.Egress{None: true, Allow: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}},
			Resolvers: []netip.AddrPort{server},
		}, dns.RcodeSuccess},
		{"allow-list holds another", network.Config{
			Egress:    network.Egress{None: true, Allow: []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}},
			Resolvers: []netip.AddrPort{server},
		}, dns.RcodeNameError},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := plug(t, newNetwork(t, tt.cfg))
			resp, err := g.Exchange(testContext(t), "udp", new(dns.Msg).SetQuestion("deb.example.", dns.TypeA))
			if err != nil || resp.Rcode != tt.rcode {
				t.Errorf("got %v, %v, want %s", resp, err, dns.RcodeToString[tt.rcode])
			}
		})
	}
}
