// Package service runs goldsmith serve as a process of its own for tests that
// meet it from outside.
package service

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"goldsmith/internal/cli"
	"goldsmith/internal/machine/guardian"
	"goldsmith/internal/server"
)

// patience bounds a start and a stop. It is reached only when a test fails.
const patience = time.Minute

// asProgram is set for a test binary that is to be the program.
const asProgram = "GOLDSMITH_TEST_AS_PROGRAM"

// Main must be the first call of a TestMain: in a process that Start has made of
// the test binary it is the program, and does not return.
func Main() {
	guardian.Main()
	if os.Getenv(asProgram) == "" {
		return
	}
	signal.Ignore(syscall.SIGPIPE)
	os.Exit(cli.Execute(context.Background(), cli.Env{
		Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv, Version: "test",
	}, os.Args[1:]))
}

// Service is a running goldsmith serve.
type Service struct {
	// URL is the service's address, https://localhost:PORT.
	URL string
	// Authority is the path of the file with its certificate authority.
	Authority string
	// Tenant and Subscription are its identifiers.
	Tenant, Subscription string
	// App and Secret are what its administrator signs in with.
	App, Secret string

	t      testing.TB
	cmd    *exec.Cmd
	stderr Output
	done   chan struct{} // closed when it has ended
	err    error         // how, once done is closed
}

// Start starts the program, $GOLDSMITH_BIN or else the test binary itself, on a
// data directory that a Service before it may have left, and waits until it
// serves. The end of the test stops it, which must succeed.
func Start(t testing.TB, data string, args ...string) *Service {
	t.Helper()
	program, env := os.Getenv("GOLDSMITH_BIN"), os.Environ()
	if program == "" {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		program, env = self, append(env, asProgram+"=1")
	}
	s := &Service{t: t, done: make(chan struct{})}
	s.cmd = exec.Command(program, append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0"}, args...)...)
	s.cmd.Env = env
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var stdout Output
	s.cmd.Stdout, s.cmd.Stderr = &stdout, &s.stderr
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		s.err = s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(s.Stop)
	limit := time.NewTimer(patience)
	defer limit.Stop()
	for {
		text, more := stdout.Read()
		if strings.Contains("\n"+text, "\nserving https://") {
			break
		}
		select {
		case <-more:
		case <-s.done:
			t.Fatalf("the service did not start: %v\n%s", s.err, s.Log())
		case <-limit.C:
			t.Fatalf("the service did not start within %s\n%s", patience, s.Log())
		}
	}
	if err := s.describe(data); err != nil {
		t.Fatal(err)
	}
	return s
}

// describe reads what the service has written for its clients.
func (s *Service) describe(data string) error {
	d, err := server.ReadDescription(data)
	if err != nil {
		return err
	}
	admin, err := server.ReadAdministrator(data)
	if err != nil {
		return err
	}
	secret, err := os.ReadFile(server.AdministratorSecret(data))
	if err != nil {
		return err
	}
	s.URL, s.Tenant, s.Subscription = d.URL, d.Tenant, d.Subscription
	s.App, s.Secret = admin.App, strings.TrimSpace(string(secret))
	s.Authority, err = filepath.Abs(filepath.Join(data, "tls", "ca.pem"))
	return err
}

// Log is what the service has logged.
func (s *Service) Log() string {
	text, _ := s.stderr.Read()
	return text
}

// Kill ends the service at once, as a power failure would, and waits for its end.
func (s *Service) Kill() {
	s.t.Helper()
	if err := s.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Error(err)
	}
	<-s.done
}

// Stop ends the service in good order, unless it has ended, and fails the test if
// that does not succeed.
func (s *Service) Stop() {
	s.t.Helper()
	select {
	case <-s.done:
		return
	default:
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		s.t.Error(err)
	}
	limit := time.NewTimer(patience)
	defer limit.Stop()
	select {
	case <-s.done:
		if s.err != nil {
			s.t.Errorf("the service ended with %v", s.err)
		}
	case <-limit.C:
		s.Kill()
		s.t.Errorf("the service did not stop within %s", patience)
	}
	if s.t.Failed() {
		s.t.Logf("the service's log:\n%s", s.Log())
	}
}

// Client is an HTTP client that trusts the service. Its owner closes its idle
// connections.
func (s *Service) Client() *http.Client {
	s.t.Helper()
	ca, err := os.ReadFile(s.Authority)
	if err != nil {
		s.t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
}

// Token signs the administrator in.
func (s *Service) Token(ctx context.Context, client *http.Client) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {s.App}, "client_secret": {s.Secret}, "scope": {s.URL + "/.default"}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL+"/adfs/oauth2/token", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := client.Do(r)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Token == "" {
		return "", fmt.Errorf("sign in: %s: %s", resp.Status, body)
	}
	return answer.Token, nil
}
