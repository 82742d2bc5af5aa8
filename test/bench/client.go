package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"goldsmith/internal/server"
)

// client is a load client of a service: it keeps its connections, and is signed
// in.
type client struct {
	http         *http.Client
	base, token  string
	subscription string // path of the subscription
}

// newClient signs in at the service of a data directory.
func newClient(ctx context.Context, data, app, secret string) (*client, error) {
	d, err := server.ReadDescription(data)
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(d.Authority)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	c := &client{base: d.URL, subscription: "/subscriptions/" + d.Subscription, http: &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 64,
	}}}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {app}, "client_secret": {secret}, "scope": {d.URL + "/.default"}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, d.URL+"/adfs/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := c.send(r, &answer); err != nil {
		return nil, fmt.Errorf("sign in: %w", err)
	}
	c.token = answer.Token
	return c, nil
}

func (c *client) close() { c.http.CloseIdleConnections() }

// do sends a request on a path of the subscription and decodes the answer into
// out, nil for one that is only read.
func (c *client) do(ctx context.Context, method, path, version string, body []byte, out any) error {
	sep := "?"
	if strings.Contains(path, "?") {
		sep = "&"
	}
	r, err := http.NewRequestWithContext(ctx, method, c.base+c.subscription+path+sep+"api-version="+version, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+c.token)
	return c.send(r, out)
}

func (c *client) send(r *http.Request, out any) error {
	resp, err := c.http.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4096)) // what came says enough
		return fmt.Errorf("%s %s: %s: %s", r.Method, r.URL.Path, resp.Status, text)
	}
	if out != nil {
		return json.NewDecoder(resp.Body).Decode(out)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// load lets a number of clients make n requests as fast as they are answered, and
// adds the rate, the 99th percentile, and the processor time of the service and of
// the clients to the report.
func (c *client) load(r *report, s *served, name, goal string, clients, n int, request func(i int) error) (perSecond float64, err error) {
	took := make([]time.Duration, n)
	errs := make(chan error, clients)
	var next atomic.Int64
	var wg sync.WaitGroup
	before, err := s.cpu()
	if err != nil {
		return 0, err
	}
	own, start := ownCPU(), time.Now()
	for range clients {
		wg.Go(func() {
			for i := int(next.Add(1) - 1); i < n; i = int(next.Add(1) - 1) {
				at := time.Now()
				if err := request(i); err != nil {
					errs <- err
					return
				}
				took[i] = time.Since(at)
			}
		})
	}
	wg.Wait()
	elapsed := time.Since(start)
	select {
	case err := <-errs:
		return 0, fmt.Errorf("%s: %w", name, err)
	default:
	}
	after, err := s.cpu()
	if err != nil {
		return 0, err
	}
	slices.Sort(took)
	perSecond = float64(n) / elapsed.Seconds()
	perRequest := func(d time.Duration) float64 { return float64(d.Microseconds()) / float64(n) }
	r.join("load", name+", rate", "1/s", goal, perSecond)
	r.join("load", name+", 99th percentile", "ms", "to be reached: under 50 ms", took[n*99/100].Seconds()*1000)
	r.join("load", name+", processor time of the service", "us each", "", perRequest(after-before))
	r.join("load", name+", processor time of the clients", "us each", "", perRequest(ownCPU()-own))
	return perSecond, nil
}

// ownCPU is the processor time that this process has used.
func ownCPU() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // fails for a bad pointer only
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
