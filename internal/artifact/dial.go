package artifact

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"strings"
	"syscall"

	"goldsmith/internal/arm"
)

// maxRedirects is how many redirects one request follows.
const maxRedirects = 10

type roundTripper func(*http.Request) (*http.Response, error)

func (r roundTripper) RoundTrip(req *http.Request) (*http.Response, error) { return r(req) }

// roundTrip sends one hop of a request over the transport that its target is
// entitled to. Every hop comes through here, so a redirect gains nothing.
func (f *Fetcher) roundTrip(req *http.Request) (*http.Response, error) {
	if base, ok := req.Context().Value(mirrorKey{}).(*url.URL); ok && under(base, req.URL) {
		if p, err := f.proxy(req.URL); err == nil && p != nil {
			return f.proxied.RoundTrip(req)
		}
		return f.trusted.RoundTrip(req)
	}
	if err := plausibleHost(req.URL.Hostname()); err != nil {
		return nil, err
	}
	p, err := f.proxy(req.URL)
	if err != nil {
		return nil, arm.Errorf(arm.CodeUsage, "the proxy setting is not usable: %w", cause(err))
	}
	if p == nil {
		return f.guarded.RoundTrip(req)
	}
	if err := f.judgeName(req.Context(), req.URL.Hostname()); err != nil {
		return nil, err
	}
	return f.proxied.RoundTrip(req)
}

// under reports whether u lies below the mirror target base.
func under(base, u *url.URL) bool {
	if !sameOrigin(base, u) {
		return false
	}
	have, want := path.Clean("/"+u.Path), path.Clean("/"+base.Path)
	return have == want || want == "/" || strings.HasPrefix(have, want+"/")
}

// control judges the address about to be dialled. It runs after name
// resolution, so a name that resolves differently each time gains nothing.
func (f *Fetcher) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return arm.Errorf(arm.CodeFetchRefused, "%q is not an IP address and port", address)
	}
	return f.judge(at.Addr())
}

func (f *Fetcher) judge(a netip.Addr) error {
	own, err := f.cfg.Own()
	if err != nil {
		return err
	}
	return AddressPolicy{Allow: f.cfg.Allow, Own: own}.Judge(a)
}

// judgeName judges a target that a proxy will dial. A name that does not
// resolve here is not judged: behind a proxy that is the ordinary case.
func (f *Fetcher) judgeName(ctx context.Context, host string) error {
	if a, err := netip.ParseAddr(host); err == nil {
		return f.judge(a)
	}
	resolver := f.cfg.Resolver
	if resolver == nil {
		resolver = net.DefaultResolver
	}
	addrs, err := resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return ctx.Err()
	}
	for _, a := range addrs {
		if err := f.judge(a); err != nil {
			return err
		}
	}
	return nil
}

var numericLabel = regexp.MustCompile(`(?i)^(?:[0-9]+|0x[0-9a-f]*)$`)

// plausibleHost refuses host names that some resolvers read as an IPv4 address
// although they are not written as one ("2130706433", "0x7f.1", "127.1").
func plausibleHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	labels := strings.Split(strings.TrimSuffix(host, "."), ".")
	if numericLabel.MatchString(labels[len(labels)-1]) {
		return arm.Errorf(arm.CodeFetchRefused, "host %q is a number but not an IP address; write the address in full", host)
	}
	return nil
}

// pinnedKey marks requests whose content will be checked against a digest.
type pinnedKey struct{}

func checkRedirect(req *http.Request, via []*http.Request) error {
	// A Referer would hand the signature in the previous URL to the next host.
	req.Header.Del("Referer")
	last := via[len(via)-1]
	switch {
	case len(via) > maxRedirects:
		return arm.Errorf(arm.CodeFetchFailed, "the server redirected more than %d times", maxRedirects)
	case !isWeb(req.URL.Scheme):
		return arm.Errorf(arm.CodeFetchRefused, "the server redirected to scheme %q", req.URL.Scheme)
	case last.URL.Scheme == "https" && req.URL.Scheme == "http" && req.Context().Value(pinnedKey{}) == nil:
		return arm.Errorf(arm.CodeFetchRefused,
			"the server redirected from https to http (%s), where content can be changed on the way; give the content's sha256 to allow it", Redact(req.URL.String()))
	}
	return nil
}

// refused reports that a rule of this program, not the network, said no: no
// retry cures that.
func refused(err error) bool {
	var e *arm.Error
	return errors.As(err, &e)
}
