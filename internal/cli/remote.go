package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"goldsmith/internal/arm"
	"goldsmith/internal/server"
)

// localServer is the --server that stands for the service of the data directory.
const localServer = "local"

// serverFlags say which service a command talks to, and how it signs in.
type serverFlags struct {
	url    string
	ca     string
	client string
	secret string // file
}

func (s *serverFlags) register(f *pflag.FlagSet) {
	f.StringVar(&s.url, "server", "", "work at the service at this https address, or \"local\" for that of the data directory (default $GOLDSMITH_SERVER)")
	f.StringVar(&s.ca, "server-ca", "", "trust the certificates in this PEM file for --server (default $GOLDSMITH_SERVER_CA)")
	f.StringVar(&s.client, "client-id", "", "sign in at --server as this service principal (default $GOLDSMITH_CLIENT_ID, else az's own sign-in)")
	f.StringVar(&s.secret, "client-secret-file", "", "file with its secret (default $GOLDSMITH_CLIENT_SECRET_FILE)")
}

// remote is a service that commands talk to.
type remote struct {
	base         string // without a slash at its end
	client       *http.Client
	subscription string
	token        string // "" through the socket
}

// remote opens the service that the user named; nil when none is named: the
// command then works on the data directory.
func (a *app) remote(ctx context.Context) (*remote, error) {
	address := a.server.url
	if address == "" {
		address = a.env.Getenv("GOLDSMITH_SERVER")
	}
	if address == "" {
		return nil, nil
	}
	r := &remote{base: strings.TrimRight(address, "/")}
	if address == localServer {
		dir, err := a.dataDir()
		if err != nil {
			return nil, err
		}
		r.base = "http://" + localServer
		r.client = &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return server.DialSocket(ctx, dir) },
		}}
	} else {
		if u, err := url.Parse(address); err != nil || u.Scheme != "https" || u.Host == "" {
			return nil, arm.Errorf(arm.CodeUsage, "--server %q is neither an https address nor %q", address, localServer)
		}
		if err := a.secure(r); err != nil {
			return nil, err
		}
		if err := a.signIn(ctx, r); err != nil {
			return nil, err
		}
	}
	return r, r.choose(ctx)
}

// secure makes the client that trusts the service's authority.
func (a *app) secure(r *remote) error {
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	files := []string{a.server.ca, a.env.Getenv("GOLDSMITH_SERVER_CA"), a.env.Getenv("REQUESTS_CA_BUNDLE")}
	if dir, err := a.dataDir(); err == nil {
		if d, err := server.ReadDescription(dir); err == nil && d.URL == r.base {
			files = append(files, d.Authority)
		}
	}
	for i, f := range files {
		if f == "" {
			continue
		}
		pem, err := os.ReadFile(f)
		if err == nil && !pool.AppendCertsFromPEM(pem) {
			err = arm.Errorf(arm.CodeUsage, "%s holds no certificate", f)
		}
		if err != nil && i < 2 { // the user named this one
			return arm.Errorf(arm.CodeUsage, "the service's certificate authority: %w", err)
		}
	}
	r.client = &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: 10 * time.Second,
	}}
	return nil
}

// signIn gets a token: as the service principal that the user named, as the
// administrator of the data directory's service, or by az's own sign-in.
func (a *app) signIn(ctx context.Context, r *remote) error {
	client, secretFile := a.server.client, a.server.secret
	if client == "" {
		client = a.env.Getenv("GOLDSMITH_CLIENT_ID")
	}
	if secretFile == "" {
		secretFile = a.env.Getenv("GOLDSMITH_CLIENT_SECRET_FILE")
	}
	if client != "" || secretFile != "" {
		if client == "" || secretFile == "" {
			return arm.Errorf(arm.CodeUsage, "--client-id and --client-secret-file belong together")
		}
		secret, err := os.ReadFile(secretFile)
		if err != nil {
			return arm.Errorf(arm.CodeUsage, "--client-secret-file: %w", err)
		}
		return r.signInAs(ctx, client, strings.TrimSpace(string(secret)))
	}
	az, err := exec.LookPath("az")
	if err != nil {
		return arm.Errorf(arm.CodeUsage, "there is no way to sign in at %s: give --client-id and --client-secret-file, or install az and run goldsmith azure-cli setup", r.base)
	}
	cmd := exec.CommandContext(ctx, az, "account", "get-access-token", "--resource", r.base+"/", "--query", "accessToken", "--output", "tsv")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return arm.Errorf(arm.CodeUnauthorized, "az has no token for %s: %w\n%s", r.base, err, strings.TrimSpace(stderr.String()))
	}
	r.token = strings.TrimSpace(string(out))
	return nil
}

// signInAs gets a token for a service principal.
func (r *remote) signInAs(ctx context.Context, client, secret string) error {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {client}, "client_secret": {secret}, "scope": {r.base + "/.default"}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.base+"/adfs/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		return arm.Errorf(arm.CodeUsage, "sign in: %w", err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	var answer struct {
		Token       string `json:"access_token"`
		Description string `json:"error_description"`
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return arm.Errorf(arm.CodeUsage, "sign in at %s: %w", r.base, err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&answer); err != nil || answer.Token == "" {
		return arm.Errorf(arm.CodeUnauthorized, "%s does not let %s in: %s", r.base, client, firstOf(answer.Description, resp.Status))
	}
	r.token = answer.Token
	return nil
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// choose takes the service's subscription.
func (r *remote) choose(ctx context.Context) error {
	var subs struct {
		Value []struct {
			ID string `json:"subscriptionId"`
		} `json:"value"`
	}
	if err := r.call(ctx, http.MethodGet, "/subscriptions", "2022-12-01", nil, &subs); err != nil {
		return err
	}
	if len(subs.Value) == 0 {
		return arm.Errorf(arm.CodeUnauthorized, "%s shows no subscription: this principal holds no role there", r.base)
	}
	r.subscription = subs.Value[0].ID
	return nil
}

// send sends a request; query may be nil. The caller closes the answer's body.
func (r *remote) send(ctx context.Context, method, path, version string, query url.Values, body any, accept string) (*http.Response, error) {
	if query == nil {
		query = url.Values{}
	}
	query.Set("api-version", version)
	var content io.Reader
	if body != nil {
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, arm.Errorf(arm.CodeInternal, "encode a request: %w", err)
		}
		content = bytes.NewReader(encoded)
	}
	req, err := http.NewRequestWithContext(ctx, method, r.base+path+"?"+query.Encode(), content)
	if err != nil {
		return nil, arm.Errorf(arm.CodeUsage, "%s: %w", path, err)
	}
	if r.token != "" {
		req.Header.Set("Authorization", "Bearer "+r.token)
	}
	if content != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", accept)
	req.Header.Set("User-Agent", "goldsmith")
	resp, err := r.client.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, cause
		}
		if coded := (*arm.Error)(nil); errors.As(err, &coded) {
			return nil, coded // there is no service behind the socket
		}
		return nil, arm.Errorf(arm.CodeUsage, "ask %s: %w", r.base, err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, remoteFault(resp)
}

// remoteFault is the error of an answer.
func remoteFault(resp *http.Response) error {
	type fault struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Target  string `json:"target"`
		Details []struct {
			Message string `json:"message"`
		} `json:"details"`
	}
	var body struct {
		fault        // old versions have no envelope
		Error *fault `json:"error"`
	}
	_ = json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&body) // what is missing is said by the status
	f := body.fault
	if body.Error != nil {
		f = *body.Error
	}
	if f.Code == "" {
		f.Code, f.Message = string(arm.CodeInternal), "the service answers "+resp.Status
	}
	for _, d := range f.Details {
		f.Message += "\n" + d.Message
	}
	return &arm.Error{Code: arm.Code(f.Code), Message: f.Message, Target: f.Target}
}

// call sends a request and decodes the answer into out, if out is not nil.
func (r *remote) call(ctx context.Context, method, path, version string, body, out any) error {
	resp, err := r.send(ctx, method, path, version, nil, body, "application/json")
	if err != nil {
		return err
	}
	return decodeAnswer(resp, out)
}

func decodeAnswer(resp *http.Response, out any) error {
	defer resp.Body.Close()
	if out == nil {
		_, err := io.Copy(io.Discard, resp.Body)
		return err
	}
	if err := json.NewDecoder(resp.Body).Decode(out); err != nil {
		return arm.Errorf(arm.CodeInternal, "the service's answer does not decode: %w", err)
	}
	return nil
}

// list reads all pages of a list, or as many as hold limit values; 0 is all.
func list[T any](ctx context.Context, r *remote, path, version string, query url.Values, limit int) ([]T, error) {
	var all []T
	for {
		resp, err := r.send(ctx, http.MethodGet, path, version, query, nil, "application/json")
		if err != nil {
			return nil, err
		}
		var page struct {
			Value []T    `json:"value"`
			Next  string `json:"nextLink"`
		}
		if err := decodeAnswer(resp, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Value...)
		if limit > 0 && len(all) >= limit {
			return all[:limit], nil
		}
		if page.Next == "" {
			return all, nil
		}
		// The link's host is what the service calls itself; ours is how it is reached.
		next, err := url.Parse(page.Next)
		if err != nil {
			return nil, arm.Errorf(arm.CodeInternal, "the link to the next page does not parse: %w", err)
		}
		query = next.Query()
	}
}

// below is a path in the subscription.
func (r *remote) below(format string, args ...any) string {
	return "/subscriptions/" + r.subscription + fmt.Sprintf(format, args...)
}

// onlyHere refuses --server for a command that the interface does not carry.
func (a *app) onlyHere() error {
	if a.server.url == "" && a.env.Getenv("GOLDSMITH_SERVER") == "" {
		return nil
	}
	return arm.Errorf(arm.CodeUsage, "this command works on a data directory, not through --server: run it on the service's host")
}
