package artifact

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"goldsmith/internal/arm"
	"goldsmith/internal/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// loopback1 opens the address of the in-process servers, and only that one.
var loopback1 = netip.MustParsePrefix("127.0.0.1/32")

func newFetcher(t testing.TB, change ...func(*Config)) *Fetcher {
	t.Helper()
	cfg := Config{
		Allow:       []netip.Prefix{loopback1},
		BackoffUnit: time.Millisecond,
		Stall:       5 * time.Second,
		Timeout:     30 * time.Second,
	}
	for _, c := range change {
		c(&cfg)
	}
	f, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func newFreezer(t testing.TB, change ...func(*Config)) *Freezer {
	t.Helper()
	s, err := OpenStore(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return &Freezer{Fetcher: newFetcher(t, change...), Store: s}
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func sum512(b []byte) string {
	s := sha512.Sum512(b)
	return hex.EncodeToString(s[:])
}

// wantCode checks an error's code and the words its message must have.
func wantCode(t testing.TB, err error, code arm.Code, words ...string) {
	t.Helper()
	if arm.CodeOf(err) != code {
		t.Fatalf("error is %q (%v), want code %q", arm.CodeOf(err), err, code)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("error %q does not say %q", err, w)
		}
	}
}

// files lists everything but lock files below dir.
func files(t testing.TB, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil && !info.IsDir() && filepath.Base(path) != "lock" {
			rel, _ := filepath.Rel(dir, path)
			out = append(out, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// recorder keeps the events it is sent.
type recorder struct {
	mu     sync.Mutex
	events []event.Event
	seen   chan event.Event // unless nil, gets every event
}

func (r *recorder) Emit(e event.Event) {
	r.mu.Lock()
	r.events = append(r.events, e)
	r.mu.Unlock()
	if r.seen != nil {
		r.seen <- e
	}
}

func (r *recorder) texts(kind event.Kind) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, e := range r.events {
		if e.Kind == kind {
			out = append(out, e.Text)
		}
	}
	return out
}

// newResolver answers queries for A records of name with addrs in turn, the last
// one for good.
func newResolver(t testing.TB, name string, addrs ...string) *net.Resolver {
	t.Helper()
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	next := 0
	server := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		switch {
		case !strings.EqualFold(q.Question[0].Name, name+"."):
			m.Rcode = dns.RcodeNameError
		case q.Question[0].Qtype == dns.TypeA:
			mu.Lock()
			a := addrs[min(next, len(addrs)-1)]
			next++
			mu.Unlock()
			m.Answer = []dns.RR{&dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET},
				A:   net.ParseIP(a),
			}}
		}
		_ = w.WriteMsg(m) // a client that is gone needs no answer
	})}
	done := make(chan struct{})
	go func() { defer close(done); _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = pc.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp", pc.LocalAddr().String())
	}}
}
