// Package artifact fetches what templates and operators name by URI (scripts,
// files, base images) and freezes it by digest.
//
// URIs are hostile: a Fetcher connects to no address its AddressPolicy refuses,
// whatever DNS or a redirect says, reads no more than it was told to, and gives
// up in bounded time. Everything read is verified against its digest before use.
package artifact

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"

	"goldsmith/internal/arm"
)

// Defaults of Config.
const (
	// DefaultMaxBytes caps a script or file. The real service advises less than
	// 20 MB for a File customizer; five times that lets real templates through.
	DefaultMaxBytes = 100 << 20
	// DefaultMaxDownload caps a base image: the largest OS disk Azure takes is
	// 4 TiB, cloud images are below 10 GB.
	DefaultMaxDownload = 64 << 30
	// DefaultAttempts is the real service's number of download attempts.
	DefaultAttempts = 10
	// DefaultTimeout bounds all attempts at one script or file together.
	DefaultTimeout = 15 * time.Minute
	// DefaultStall is the window in which at least minPerWindow bytes must come.
	DefaultStall = time.Minute
)

// Config configures a Fetcher. The zero value fetches http and https URIs from
// anywhere that AddressPolicy allows.
type Config struct {
	// Local also accepts file paths and file: URIs.
	Local bool
	// Allow opens address ranges that AddressPolicy refuses (--allow-fetch).
	Allow []netip.Prefix
	// Mirrors serve URL prefixes from elsewhere (--mirror).
	Mirrors []Mirror
	// Proxy is the proxy configuration; nil uses none. The proxy's own address is
	// the operator's choice and exempt from AddressPolicy. The target of a
	// proxied request is judged by resolving it here; a name that only the proxy
	// can resolve is left to the proxy's own rules.
	Proxy *httpproxy.Config
	// CAFile is a PEM file of certificates trusted beside the system's.
	CAFile string
	// MaxBytes caps a script or file; 0 is DefaultMaxBytes.
	MaxBytes int64
	// Attempts bounds the tries of one fetch; 0 is DefaultAttempts.
	Attempts int
	// Timeout bounds all tries of one script or file; 0 is DefaultTimeout.
	Timeout time.Duration
	// Stall is how long a transfer may bring next to nothing before the attempt
	// is given up; 0 is DefaultStall.
	Stall time.Duration
	// BackoffUnit is the first retry delay, doubled each time up to 32 units;
	// 0 is 250 ms.
	BackoffUnit time.Duration
	// Resolver resolves host names; nil is the system's.
	Resolver *net.Resolver
	// Own lists the host's own addresses; nil is OwnAddresses.
	Own func() ([]netip.Addr, error)
}

// Fetcher fetches URIs under a Config. It is safe for concurrent use.
type Fetcher struct {
	cfg     Config
	mirrors mirrors
	proxy   func(*url.URL) (*url.URL, error)

	// guarded judges every address it dials; trusted dials operator-chosen
	// mirrors; proxied dials the operator-chosen proxy only.
	guarded, trusted, proxied *http.Transport
	client                    *http.Client
}

// New makes a Fetcher; Close it. It fails when the CA file does not hold a
// certificate.
func New(cfg Config) (*Fetcher, error) {
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	if cfg.Attempts == 0 {
		cfg.Attempts = DefaultAttempts
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = DefaultTimeout
	}
	if cfg.Stall == 0 {
		cfg.Stall = DefaultStall
	}
	if cfg.BackoffUnit == 0 {
		cfg.BackoffUnit = 250 * time.Millisecond
	}
	if cfg.Own == nil {
		cfg.Own = OwnAddresses
	}
	roots, err := trustedRoots(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	f := &Fetcher{cfg: cfg, mirrors: newMirrors(cfg.Mirrors)}
	if cfg.Proxy != nil {
		f.proxy = cfg.Proxy.ProxyFunc()
	} else {
		f.proxy = func(*url.URL) (*url.URL, error) { return nil, nil }
	}
	free := &net.Dialer{Timeout: 30 * time.Second, Resolver: cfg.Resolver}
	judged := &net.Dialer{Timeout: 30 * time.Second, Resolver: cfg.Resolver, ControlContext: f.control}
	f.guarded = newTransport(judged, roots, cfg.Stall)
	f.trusted = newTransport(free, roots, cfg.Stall)
	f.proxied = newTransport(free, roots, cfg.Stall)
	f.proxied.Proxy = func(r *http.Request) (*url.URL, error) { return f.proxy(r.URL) }
	f.client = &http.Client{Transport: roundTripper(f.roundTrip), CheckRedirect: checkRedirect}
	return f, nil
}

// Close drops idle connections.
func (f *Fetcher) Close() {
	for _, t := range []*http.Transport{f.guarded, f.trusted, f.proxied} {
		t.CloseIdleConnections()
	}
}

func newTransport(d *net.Dialer, roots *x509.CertPool, headerTimeout time.Duration) *http.Transport {
	return &http.Transport{
		DialContext:            d.DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    20 * time.Second,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: 64 << 10,
		IdleConnTimeout:        30 * time.Second,
		DisableCompression:     true, // digests are of the bytes as stored
		ForceAttemptHTTP2:      true,
	}
}

func trustedRoots(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, arm.Errorf(arm.CodeUsage, "the extra CA file cannot be read: %w", err).At(file)
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM(pem) {
		return nil, arm.Errorf(arm.CodeUsage, "the extra CA file holds no PEM certificate").At(file)
	}
	return roots, nil
}

// location is where the content of a URI is read from.
type location struct {
	name string   // the URI as it may be shown
	web  *url.URL // http(s), or nil
	base *url.URL // the mirror that web is on, or nil

	root string // directory that confines path, or ""
	path string // file, relative to root if there is one
}

// locate decides where uri is read from. dir is what a relative file path is
// relative to.
func (f *Fetcher) locate(uri, dir string) (location, error) {
	name := Redact(uri)
	scheme, _, hasScheme := strings.Cut(uri, "://")
	if !hasScheme {
		return f.locateFile(uri, name, dir)
	}
	u, err := url.Parse(uri)
	if err != nil {
		return location{}, arm.Errorf(arm.CodeFetchFailed, "the URI does not parse: %w", cause(err)).At(name)
	}
	switch {
	case strings.EqualFold(scheme, "file"):
		if u.Host != "" && !strings.EqualFold(u.Host, "localhost") {
			return location{}, arm.Errorf(arm.CodeFetchRefused, "a file URI cannot name another host; write file:///path").At(name)
		}
		return f.locateFile(u.Path, name, dir)
	case !isWeb(scheme):
		return location{}, arm.Errorf(arm.CodeFetchRefused, "scheme %q is not supported; use http or https", scheme).At(name)
	case u.Hostname() == "":
		return location{}, arm.Errorf(arm.CodeFetchFailed, "the URI names no host").At(name)
	}
	u.Fragment, u.RawFragment = "", ""
	m, rest, ok := f.mirrors.find(u)
	if !ok {
		return location{name: name, web: u}, nil
	}
	web, root := m.target(u, rest)
	if web == nil {
		if rest == "" {
			return location{name: name, path: root}, nil
		}
		return location{name: name, root: root, path: filepath.FromSlash(rest)}, nil
	}
	base, err := url.Parse(m.To)
	if err != nil {
		return location{}, arm.Errorf(arm.CodeUsage, "mirror target does not parse: %w", cause(err)).At(Redact(m.To))
	}
	return location{name: name + " (mirrored at " + Redact(web.String()) + ")", web: web, base: base}, nil
}

func (f *Fetcher) locateFile(path, name, dir string) (location, error) {
	if !f.cfg.Local {
		return location{}, arm.Errorf(arm.CodeFetchRefused, "this is not an http or https URI; file paths work with local builds only").At(name)
	}
	if path == "" {
		return location{}, arm.Errorf(arm.CodeFetchFailed, "the file path is empty").At(name)
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	return location{name: name, path: path}, nil
}

// mirrorKey carries the mirror a request was sent to, through its redirects.
type mirrorKey struct{}

func withMirror(ctx context.Context, base *url.URL) context.Context {
	if base == nil {
		return ctx
	}
	return context.WithValue(ctx, mirrorKey{}, base)
}
