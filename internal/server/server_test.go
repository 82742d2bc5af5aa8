package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"goldsmith/internal/arm"
	"goldsmith/internal/build"
	"goldsmith/internal/build/buildtest"
	"goldsmith/internal/identity"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// service is a running Server.
type service struct {
	*Server
	t      *testing.T
	client *http.Client
	notice *logBuffer
	log    *logBuffer
	stop   func() error
}

// logBuffer is a log that is read while it is written.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// start runs a service on the data directory of a lab until stop or the test's
// end.
func start(t *testing.T, data string, settings Settings) *service {
	t.Helper()
	log := &logBuffer{}
	logger := slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	metrics := NewMetrics(logger)
	lab := buildtest.Open(t, data, func(c *build.Config) { c.Observe, c.Logger = metrics, logger })
	settings.Listen, settings.Slots = "127.0.0.1:0", 1
	s := &service{t: t, notice: &logBuffer{}, log: log}
	var err error
	s.Server, err = New(t.Context(), Config{
		Data: data, Settings: settings, Engine: lab.Engine, Version: "test", Log: logger, Metrics: metrics, Notice: s.notice,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.stop = sync.OnceValue(func() error {
		cancel()
		s.client.CloseIdleConnections()
		err := <-done
		if cerr := s.Close(); err == nil {
			err = cerr
		}
		return err
	})
	pool := x509.NewCertPool()
	if ca, err := os.ReadFile(filepath.Join(data, authorityFile)); err == nil {
		pool.AppendCertsFromPEM(ca)
	}
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// do sends a request and reads the answer.
func (s *service) do(r *http.Request) (int, http.Header, string) {
	s.t.Helper()
	resp, err := s.client.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, resp.Header, string(body)
}

func (s *service) get(path, token string) (int, http.Header, string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, s.URL()+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	return s.do(r)
}

// signIn is a token of the administrator.
func (s *service) signIn(data string) string {
	s.t.Helper()
	admin, err := ReadAdministrator(data)
	if err != nil {
		s.t.Fatal(err)
	}
	secret, err := os.ReadFile(AdministratorSecret(data))
	if err != nil {
		s.t.Fatal(err)
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {admin.App}, "client_secret": {strings.TrimSpace(string(secret))}, "scope": {s.URL() + "//.default"}}
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.URL()+"/adfs/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	status, _, body := s.do(r)
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK {
		s.t.Fatalf("%d %s", status, body)
	}
	return answer.Token
}

func TestFirstStartAndTheNext(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := start(t, data, Settings{})
	d, err := ReadDescription(data)
	if err != nil || d.URL != s.URL() {
		t.Fatalf("%+v %v", d, err)
	}
	for _, want := range []string{d.URL, d.Tenant, d.Subscription, d.Authority, "goldsmith azure-cli setup"} {
		if !strings.Contains(s.notice.String(), want) {
			t.Errorf("the notice does not say %s:\n%s", want, s.notice)
		}
	}
	for _, name := range []string{administratorFile, secretFile, descriptionFile, authorityKey, serverKey, SocketName} {
		info, err := os.Stat(filepath.Join(data, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", name, info, err)
		}
	}
	token := s.signIn(data)
	group := "/subscriptions/" + d.Subscription + "/resourcegroups/g?api-version=2021-04-01"
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL()+group, strings.NewReader(`{"location":"westus2"}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	if status, _, body := s.do(r); status != http.StatusCreated {
		t.Fatalf("%d %s", status, body)
	}
	status, header, body := s.get(group, "")
	if status != http.StatusUnauthorized || !strings.Contains(header.Get("WWW-Authenticate"), s.URL()+"/"+d.Tenant) {
		t.Errorf("without a token: %d %v %s", status, header, body)
	}
	if status, _, body := s.get("/metadata/endpoints?api-version=2022-09-01", ""); status != http.StatusOK || !strings.Contains(body, s.URL()+"/adfs") {
		t.Errorf("%d %s", status, body)
	}
	if !strings.Contains(s.log.String(), `"path":"/adfs/oauth2/token"`) || strings.Contains(s.log.String(), token) {
		t.Errorf("the log: %s", s.log)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}

	again := start(t, data, Settings{URL: d.URL}) // the address was chosen by the kernel
	if strings.Contains(again.notice.String(), "first start") {
		t.Errorf("another first start: %s", again.notice)
	}
	caller, err := again.tenant.Management().Token(t.Context(), token)
	if err != nil || caller.Name != "administrator" {
		t.Errorf("a token of before: %+v %v", caller, err)
	}
}

func TestOneServiceForADirectory(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	export := filepath.Join(data, "downloads", "export-1", "image.vhd")
	write := func() {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Dir(export), 0o700), os.WriteFile(export, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write()
	s := start(t, data, Settings{})
	if _, err := os.Stat(filepath.Dir(export)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what a dead service left: %v", err)
	}
	write()
	_, err := New(t.Context(), Config{Data: data, Engine: s.cfg.Engine, Log: s.cfg.Log, Metrics: NewMetrics(s.cfg.Log), Settings: Settings{Listen: "127.0.0.1:0"}})
	if !arm.IsCode(err, arm.CodeConflict) {
		t.Errorf("a second service: %v", err)
	}
	if _, err := os.Stat(export); err != nil {
		t.Errorf("the second service removed what the first works on: %v", err)
	}
	busy := filepath.Join(t.TempDir(), "data")
	lab := buildtest.Open(t, busy)
	_, err = New(t.Context(), Config{Data: busy, Engine: lab.Engine, Log: s.cfg.Log, Metrics: NewMetrics(s.cfg.Log), Settings: Settings{Listen: s.Address()}})
	if !arm.IsCode(err, arm.CodeUsage) {
		t.Errorf("an address in use: %v", err)
	}
}

func TestSocketIsTheOwners(t *testing.T) {
	data := filepath.Join(t.TempDir(), strings.Repeat("long", 30), "data")
	s := start(t, data, Settings{})
	d, err := ReadDescription(data)
	if err != nil {
		t.Fatal(err)
	}
	local := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return DialSocket(ctx, data) }}
	defer local.CloseIdleConnections()
	s.client.CloseIdleConnections()
	s.client = &http.Client{Transport: local}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://local/subscriptions/"+d.Subscription+"/resourcegroups?api-version=2021-04-01", nil)
	if err != nil {
		t.Fatal(err)
	}
	if status, _, body := s.do(r); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := DialSocket(t.Context(), data); !arm.IsCode(err, arm.CodeNotFound) {
		t.Errorf("after the end: %v", err)
	}
}

func TestHealthAndMetrics(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := start(t, data, Settings{})
	for path, want := range map[string]string{"/healthz": "ok\n", "/readyz": "ready\n"} {
		if status, _, body := s.get(path, ""); status != http.StatusOK || body != want {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	_, _, body := s.get("/metrics", "")
	for _, want := range []string{
		`goldsmith_requests_total{area="operations",method="GET",status="200"}`, `goldsmith_runs{state="Queued"} 0`,
		`goldsmith_store_bytes{part="database"}`, "goldsmith_request_duration_seconds_bucket", "process_resident_memory_bytes",
	} {
		if !strings.Contains(body, want) {
			t.Errorf("no %s in the metrics", want)
		}
	}
	s.working.Store(false)
	if status, _, _ := s.get("/readyz", ""); status != http.StatusServiceUnavailable {
		t.Errorf("ready while it stops: %d", status)
	}
	s.working.Store(true)
}

func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	first, err := ownCertificate(dir, []string{"localhost", "127.0.0.1", "*.blob.x.test"}, now)
	if err != nil {
		t.Fatal(err)
	}
	authority, err := os.ReadFile(filepath.Join(dir, authorityFile))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	for _, name := range []string{"localhost", "127.0.0.1", "acct1.blob.x.test"} {
		if _, err := first.Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, tt := range map[string]struct {
		names []string
		now   time.Time
		same  bool
	}{
		"again":       {[]string{"localhost"}, now, true},
		"soon over":   {[]string{"localhost"}, now.Add(certificateLifetime - renewBefore), false},
		"other names": {[]string{"localhost", "images.example.org"}, now, false},
	} {
		before, err := os.ReadFile(filepath.Join(dir, serverFile))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ownCertificate(dir, tt.names, tt.now); err != nil {
			t.Fatal(err)
		}
		after, err := os.ReadFile(filepath.Join(dir, serverFile))
		if err != nil || bytes.Equal(before, after) != tt.same {
			t.Errorf("%s: the certificate was kept: %v", name, !tt.same)
		}
		if a, err := os.ReadFile(filepath.Join(dir, authorityFile)); err != nil || !bytes.Equal(a, authority) {
			t.Errorf("%s: the authority changed", name)
		}
	}
	if err := os.Remove(filepath.Join(dir, serverKey)); err != nil {
		t.Fatal(err)
	}
	if _, err := ownCertificate(dir, []string{"localhost"}, now); !arm.IsCode(err, arm.CodeCorrupt) {
		t.Errorf("a certificate without its key: %v", err)
	}
}

func TestStorageHosts(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := start(t, data, Settings{StorageSuffix: "x.test:1"})
	d, err := ReadDescription(data)
	if err != nil {
		t.Fatal(err)
	}
	token := s.signIn(data)
	put := func(path, body string) string {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, s.URL()+"/subscriptions/"+d.Subscription+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		status, _, answer := s.do(r)
		if status > 201 {
			t.Fatalf("%d %s", status, answer)
		}
		return answer
	}
	put("/resourcegroups/g?api-version=2021-04-01", `{"location":"westus2"}`)
	if answer := put("/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/acct1?api-version=2022-09-01",
		`{"location":"westus2","sku":{"name":"Standard_LRS"},"kind":"StorageV2"}`); !strings.Contains(answer, "https://acct1.blob.x.test:1/") {
		t.Error(answer)
	}
	for _, host := range []string{"acct1.blob.X.test:1", ""} {
		path := "/cont1?restype=container"
		if host == "" {
			path = "/acct1" + path
		}
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		if status, header, body := s.do(r); status == http.StatusOK || header.Get("x-ms-error-code") == "" || !strings.Contains(body, "<Error>") {
			t.Errorf("%q: %d %v %s", host, status, header, body)
		}
	}
}

func TestPrincipalOfAnIssuerNeedsARole(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	s := start(t, data, Settings{})
	p, err := s.tenant.Directory().Create(t.Context(), identity.Principal{Kind: identity.ServicePrincipal, Name: "nobody"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := ReadDescription(data)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := s.tenant.Directory().ResetSecret(t.Context(), p.ID, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if err := keep(data, administratorFile, Administrator{App: p.App}); err != nil {
		t.Fatal(err)
	}
	if err := RenewAdministrator(data, p.App, secret); err != nil {
		t.Fatal(err)
	}
	status, _, body := s.get("/subscriptions/"+d.Subscription+"/resourcegroups/g?api-version=2021-04-01", s.signIn(data))
	if status != http.StatusForbidden || !strings.Contains(body, "AuthorizationFailed") {
		t.Errorf("%d %s", status, body)
	}
}
