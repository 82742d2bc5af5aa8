package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/netutil"
	"goldsmith/internal/network/stream"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

const (
	dnsPort        = 53
	maxQueries     = 64 // answered at once; more are dropped, and asked again
	resolveTimeout = 3 * time.Second
	recordTTL      = 60   // seconds
	maxAnswer      = 1232 // bytes over UDP: never fragmented
)

// resolvConf names the host's DNS servers.
const resolvConf = "/etc/resolv.conf"

// hostResolvers reads the DNS servers that the host uses.
func hostResolvers() ([]netip.AddrPort, error) {
	c, err := dns.ClientConfigFromFile(resolvConf)
	if err != nil {
		return nil, fmt.Errorf("read the host's dns servers: %w", err)
	}
	var servers []netip.AddrPort
	for _, s := range c.Servers {
		if a, err := netip.ParseAddr(s); err == nil {
			servers = append(servers, netip.AddrPortFrom(a, dnsPort))
		}
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("%s names no dns server", resolvConf)
	}
	return servers, nil
}

// dnsServer answers the guests' DNS queries at the gateway's address.
type dnsServer struct {
	gateway *Gateway
	slots   chan struct{}
	servers []*dns.Server
	ended   chan error // one for each of servers
}

func newDNSServer(g *Gateway) (*dnsServer, error) {
	at := tcpip.FullAddress{NIC: nic, Addr: stream.Addr(g.cfg.Addr), Port: dnsPort}
	packets, err := gonet.DialUDP(g.stack, &at, nil, ipv4.ProtocolNumber)
	if err != nil {
		return nil, err
	}
	listener, err := gonet.ListenTCP(g.stack, at, ipv4.ProtocolNumber)
	if err != nil {
		_ = packets.Close()
		return nil, err
	}
	s := &dnsServer{gateway: g, slots: make(chan struct{}, maxQueries), ended: make(chan error, 2)}
	s.servers = []*dns.Server{
		{PacketConn: packets, Handler: s, UDPSize: dns.MaxMsgSize},
		{Listener: netutil.LimitListener(wakingListener{listener}, maxQueries), Handler: s},
	}
	for _, srv := range s.servers {
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		go func() { s.ended <- srv.ActivateAndServe() }()
		<-started
	}
	return s, nil
}

// wakingListener wakes a waiting Accept when it is closed, which closing the
// netstack's listener alone does not.
type wakingListener struct{ *gonet.TCPListener }

func (l wakingListener) Close() error {
	l.Shutdown()
	return l.TCPListener.Close()
}

func (s *dnsServer) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), resolveTimeout+time.Second)
	defer cancel()
	var errs []error
	for _, srv := range s.servers {
		errs = append(errs, srv.ShutdownContext(ctx))
	}
	for range s.servers {
		<-s.ended
	}
	return errors.Join(errs...)
}

// ServeDNS implements dns.Handler.
func (s *dnsServer) ServeDNS(w dns.ResponseWriter, req *dns.Msg) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	default:
		return
	}
	ctx, done, ok := s.gateway.enter()
	if !ok {
		return
	}
	defer done()
	resp := s.gateway.resolve(ctx, req)
	if _, overUDP := w.RemoteAddr().(*net.UDPAddr); overUDP {
		size := dns.MinMsgSize
		if opt := req.IsEdns0(); opt != nil {
			size = min(max(size, int(opt.UDPSize())), maxAnswer)
			resp.SetEdns0(maxAnswer, false)
		}
		resp.Truncate(size)
	}
	_ = w.WriteMsg(resp) // a guest that does not listen asks again
}

// resolve answers one query.
func (g *Gateway) resolve(ctx context.Context, req *dns.Msg) *dns.Msg {
	resp := new(dns.Msg).SetReply(req)
	resp.RecursionAvailable = true
	if req.Opcode != dns.OpcodeQuery || len(req.Question) != 1 || req.Question[0].Qclass != dns.ClassINET {
		return resp.SetRcode(req, dns.RcodeNotImplemented)
	}
	q := req.Question[0]
	name := strings.ToLower(strings.TrimSuffix(q.Name, "."))
	if addr, ok := g.cfg.Records[name]; ok {
		if q.Qtype == dns.TypeA {
			resp.Answer = []dns.RR{&dns.A{
				Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: recordTTL},
				A:   addr.AsSlice(),
			}}
			g.names.learn(addr, name)
		}
		return resp
	}
	switch {
	case q.Qtype == dns.TypeAAAA:
		return resp // the network has IPv4 only: the name exists, no such address does
	case q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR || q.Qtype == dns.TypeANY:
		return resp.SetRcode(req, dns.RcodeRefused)
	}
	if addr, ok := reverseAddr(name); ok && g.permit(addr) != nil {
		return resp.SetRcode(req, dns.RcodeNameError) // names of private addresses stay private
	}
	if g.cfg.Egress.None && len(g.cfg.Egress.Allow) == 0 {
		// A query is a way out too.
		return resp.SetRcode(req, dns.RcodeRefused)
	}
	upstream, err := g.exchange(ctx, q)
	if err != nil {
		return resp.SetRcode(req, dns.RcodeServerFailure)
	}
	resp.Rcode = upstream.Rcode
	resp.Ns = upstream.Ns
	var withheld bool
	resp.Answer, withheld = g.screen(name, upstream.Answer)
	if withheld && !slices.ContainsFunc(resp.Answer, isAddress) {
		resp.Answer, resp.Ns = nil, nil
		resp.Rcode = dns.RcodeNameError
	}
	return resp
}

// screen keeps from the guest every address that it may not reach, so that no
// outside name can stand for an inside address, and remembers the others.
func (g *Gateway) screen(name string, answer []dns.RR) (kept []dns.RR, withheld bool) {
	for _, rr := range answer {
		a, ok := rr.(*dns.A)
		if !ok {
			kept = append(kept, rr)
			continue
		}
		addr, ok := netip.AddrFromSlice(a.A.To4())
		if !ok {
			withheld = true
			continue
		}
		if err := g.permit(addr); err != nil {
			reason, _ := reasonOf(err)
			g.flows.refuse(Flow{Protocol: "dns", Remote: netip.AddrPortFrom(addr, 0), Name: name}, reason)
			withheld = true
			continue
		}
		g.names.learn(addr, name)
		kept = append(kept, rr)
	}
	return kept, withheld
}

func isAddress(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeA }

// exchange asks the host's resolvers, one after the other, a question of its
// own: nothing else of the guest's message goes out.
func (g *Gateway) exchange(ctx context.Context, q dns.Question) (*dns.Msg, error) {
	servers, err := g.cfg.Resolvers()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	query := new(dns.Msg).SetQuestion(q.Name, q.Qtype)
	query.SetEdns0(maxAnswer, false)
	err = errors.New("there is no dns server to ask")
	for i, server := range servers {
		share := resolveTimeout / time.Duration(len(servers)-i)
		for _, network := range []string{"udp", "tcp"} {
			client := dns.Client{Net: network, Timeout: share}
			var resp *dns.Msg
			resp, _, err = client.ExchangeContext(ctx, query, server.String())
			if err != nil {
				break
			}
			if network == "udp" && resp.Truncated {
				continue
			}
			return resp, nil
		}
	}
	return nil, err
}

// reverseAddr reads the address out of a name under in-addr.arpa.
func reverseAddr(name string) (netip.Addr, bool) {
	digits, ok := strings.CutSuffix(name, ".in-addr.arpa")
	if !ok {
		return netip.Addr{}, false
	}
	labels := strings.Split(digits, ".")
	if len(labels) != 4 {
		return netip.Addr{}, false
	}
	var b [4]byte
	for i, l := range labels {
		n, err := strconv.ParseUint(l, 10, 8)
		if err != nil {
			return netip.Addr{}, false
		}
		b[3-i] = byte(n)
	}
	return netip.AddrFrom4(b), true
}
