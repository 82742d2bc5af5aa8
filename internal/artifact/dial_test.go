package artifact

import (
	"bufio"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"golang.org/x/net/http/httpproxy"

	"goldsmith/internal/arm"
	"goldsmith/internal/artifact/artifacttest"
)

// portOn is the port of a server's URL.
func portOn(t testing.TB, raw string) string {
	t.Helper()
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

func TestRefusedTargetsAreNeverDialled(t *testing.T) {
	web := artifacttest.New(t)
	web.Put("/a.sh", artifacttest.File{Body: script})
	port := portOn(t, web.URL)
	closed := func(c *Config) { c.Allow = nil }
	for _, host := range []string{"127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "0.0.0.0", "2130706433", "0x7f000001", "0x7f.1", "127.1", "017700000001", "127.0.0.1.", "[fe80::1%25lo]", "[64:ff9b::7f00:1]"} {
		_, err := newFreezer(t, closed).Freeze(t.Context(), "http://"+host+":"+port+"/a.sh", "")
		wantCode(t, err, arm.CodeFetchRefused)
	}
	// The host's own address, whatever it is.
	own := func(c *Config) {
		c.Allow = nil
		c.Own = func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("10.99.0.1")}, nil }
	}
	_, err := newFreezer(t, own).Freeze(t.Context(), "http://10.99.0.1:"+port+"/a.sh", "")
	wantCode(t, err, arm.CodeFetchRefused, "address of this host")
	if n := len(web.Requests("/a.sh")); n != 0 {
		t.Errorf("%d requests got through", n)
	}
}

func TestNamesAreJudgedByWhatTheyResolveTo(t *testing.T) {
	web := artifacttest.New(t)
	web.Put("/a.sh", artifacttest.File{Body: script})
	port := portOn(t, web.URL)

	// Listens beside the allowed address, as a service of the host would.
	l, err := net.Listen("tcp", "127.0.0.2:"+port)
	if err != nil {
		t.Fatal(err)
	}
	secret := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the refused address was asked")
	}))
	_ = secret.Listener.Close() // replaced by the one above
	secret.Listener = l
	secret.Start()
	defer secret.Close()

	// The name changes its mind after the first look-up, and again after the second.
	rebinding := newResolver(t, "rebind.test", "127.0.0.1", "127.0.0.2")
	z := newFreezer(t, func(c *Config) { c.Resolver = rebinding })
	uri := "http://rebind.test:" + port + "/a.sh"
	if _, err := z.Freeze(t.Context(), uri, ""); err != nil {
		t.Fatal(err)
	}
	z.Fetcher.Close() // the next fetch connects anew
	_, err = z.Freeze(t.Context(), uri, "")
	wantCode(t, err, arm.CodeFetchRefused, "127.0.0.2")

	_, err = z.Freeze(t.Context(), "http://nowhere.test/x", "")
	wantCode(t, err, arm.CodeFetchFailed, "nowhere.test does not exist")
}

// newProxy is a forward proxy that counts what it is asked for and answers
// every plain request itself.
func newProxy(t *testing.T, asked *[]string) *httptest.Server {
	t.Helper()
	p := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*asked = append(*asked, r.RequestURI)
		_, _ = w.Write(script) // the client may be gone
	}))
	t.Cleanup(p.Close)
	return p
}

func TestProxy(t *testing.T) {
	var asked []string
	proxy := newProxy(t, &asked)
	resolver := newResolver(t, "inside.test", "127.0.0.2")
	z := newFreezer(t, func(c *Config) {
		c.Allow = nil // the proxy's own loopback address is exempt all the same
		c.Resolver = resolver
		c.Proxy = &httpproxy.Config{HTTPProxy: proxy.URL, HTTPSProxy: proxy.URL, NoProxy: "direct.test,127.0.0.3"}
	})
	for _, uri := range []string{"http://93.184.216.34/a.sh", "http://only-the-proxy-knows.test/a.sh"} {
		if got, err := z.Freeze(t.Context(), uri, ""); err != nil || got.SHA256 != sum(script) {
			t.Errorf("%s: %+v, %v", uri, got, err)
		}
	}
	if len(asked) != 2 {
		t.Errorf("the proxy was asked for %q", asked)
	}
	for _, uri := range []string{
		"http://169.254.169.254/metadata",                   // a literal
		"http://inside.test/",                               // resolves to the host
		"http://2852039166/metadata",                        // 169.254.169.254 to a lax resolver
		"http://127.0.0.3/",                                 // bypasses the proxy
		strings.Replace(proxy.URL, "127.0.0.1", "[::1]", 1), // never proxied, being loopback
		proxy.URL + "/x",                                    // the proxy's address as a target
	} {
		_, err := z.Freeze(t.Context(), uri, "")
		wantCode(t, err, arm.CodeFetchRefused)
	}
	if len(asked) != 2 {
		t.Errorf("the proxy was asked for %q", asked)
	}
}

func TestProxyTunnelsHTTPS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan string, DefaultAttempts)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			if line, err := bufio.NewReader(c).ReadString('\n'); err == nil {
				first <- line
			}
			_ = c.Close()
		}
	}()
	z := newFreezer(t, func(c *Config) {
		c.Attempts = 1
		c.Proxy = &httpproxy.Config{HTTPSProxy: "http://" + l.Addr().String()}
	})
	_, err = z.Freeze(t.Context(), "https://93.184.216.34/a.sh", "")
	wantCode(t, err, arm.CodeFetchFailed)
	if line := <-first; !strings.HasPrefix(line, "CONNECT 93.184.216.34:443 ") {
		t.Errorf("the proxy was asked %q", line)
	}
	_ = l.Close()
	<-done
}

func TestRefererDoesNotCarrySignatures(t *testing.T) {
	web := artifacttest.New(t)
	web.Put("/b.sh", artifacttest.File{Body: script})
	web.Fail("/a.sh", artifacttest.Redirect("/b.sh"))
	if _, err := newFreezer(t).Freeze(t.Context(), web.URL+"/a.sh?sig=SECRET", ""); err != nil {
		t.Fatal(err)
	}
	if got := web.Requests("/b.sh")[0].Header.Get("Referer"); got != "" {
		t.Errorf("Referer %q", got)
	}
}
