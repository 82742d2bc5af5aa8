//go:build vm

package az

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// patience bounds what one command of az, or the service, may take.
const patience = 30 * time.Minute

var (
	binary string // the program under test
	jail   string // the directory that az is installed in
)

func TestMain(m *testing.M) {
	if err := findPrograms(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

func findPrograms() error {
	name := os.Getenv("GOLDSMITH_BIN")
	if name == "" {
		name = filepath.Join("..", "..", "bin", "goldsmith")
	}
	var err error
	if binary, err = filepath.Abs(name); err != nil {
		return err
	}
	if _, err := os.Stat(binary); err != nil {
		return fmt.Errorf("no program to test: run make build, or set GOLDSMITH_BIN: %w", err)
	}
	out, err := exec.Command(filepath.Join("..", "..", "scripts", "az-chroot")).Output()
	if err != nil {
		return fmt.Errorf("make the environment of az: %w", err)
	}
	jail = strings.TrimSpace(string(out))
	return nil
}

// service is a running goldsmith serve, and az set up for it.
type service struct {
	t            *testing.T
	dir          string // as the host sees it
	inside       string // as az sees it
	data         string
	url          string
	tenant       string
	subscription string
	app          string // of the administrator
}

// output is what a program writes while it runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
	more chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(p)
	close(o.more)
	o.more = make(chan struct{})
	return len(p), nil
}

func (o *output) read() (string, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.more
}

// start starts the service on a new data directory, and signs az in.
func start(t *testing.T) *service {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("az runs in a chroot, which needs root: run this tier as root")
	}
	dir, err := os.MkdirTemp(filepath.Join(jail, "tmp"), "az-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s := &service{t: t, dir: dir, inside: strings.TrimPrefix(dir, jail), data: filepath.Join(dir, "data")}
	for _, d := range []string{"azure", "work"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(binary, "serve", "--data", s.data, "--listen", "127.0.0.1:0", "--boot-timeout", "25m")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stdout := &output{more: make(chan struct{})}
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if err := <-ended; err != nil {
			t.Errorf("the service ended with %v", err)
		}
		if t.Failed() {
			t.Logf("the service's log:\n%s", &stderr)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		text, more := stdout.read()
		if strings.Contains(text, "\nserving https://") {
			break
		}
		select {
		case <-more:
		case err := <-ended:
			ended <- err
			t.Fatalf("the service did not start: %v\n%s", err, &stderr)
		case <-ctx.Done():
			t.Fatal("the service did not start in time")
		}
	}
	var d struct {
		URL          string `json:"url"`
		Tenant       string `json:"tenantId"`
		Subscription string `json:"subscriptionId"`
	}
	s.read("service.json", &d)
	var a struct {
		App string `json:"appId"`
	}
	s.read("administrator.json", &a)
	s.url, s.tenant, s.subscription, s.app = d.URL, d.Tenant, d.Subscription, a.App
	s.setUp()
	return s
}

// read reads a file that the service has made for other commands.
func (s *service) read(name string, v any) {
	s.t.Helper()
	body, err := os.ReadFile(filepath.Join(s.data, name))
	if err == nil {
		err = json.Unmarshal(body, v)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// setUp runs what goldsmith azure-cli setup prints, with the paths that az sees.
func (s *service) setUp() {
	s.t.Helper()
	out, err := exec.Command(binary, "azure-cli", "setup", "--print", "--data", s.data).Output()
	if err != nil {
		s.t.Fatalf("azure-cli setup --print: %v", err)
	}
	script := strings.ReplaceAll(string(out), s.dir, s.inside)
	// The bundle is made by a setup that is not only printed: here the authority is
	// enough.
	script = strings.ReplaceAll(script, "/tls/bundle.pem", "/tls/ca.pem")
	s.sh(script)
}

// sh runs a script in a shell beside az. It must succeed, command by command.
func (s *service) sh(script string) string {
	s.t.Helper()
	out, text, err := s.try(script)
	if err != nil {
		s.t.Fatalf("%v\n--- script\n%s\n--- output\n%s\n--- messages\n%s", err, script, out, text)
	}
	return out
}

// try runs a script in a shell beside az.
func (s *service) try(script string) (stdout, stderr string, err error) {
	s.t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(s.t.Context()), patience, errors.New("the test's patience"))
	defer cancel()
	cmd := exec.CommandContext(ctx, "chroot", jail, "/usr/bin/env", "-i", "-C", s.inside+"/work", "PATH=/usr/bin:/bin", "HOME="+s.inside,
		"LC_ALL=C.UTF-8", "AZURE_CONFIG_DIR="+s.inside+"/azure", "AZURE_CORE_COLLECT_TELEMETRY=no", "AZURE_CORE_NO_COLOR=yes",
		"REQUESTS_CA_BUNDLE="+s.inside+"/data/tls/ca.pem", "/bin/bash", "-euo", "pipefail", "-s")
	// A prompt of az reads the end of its input instead of the script.
	cmd.Stdin = io.MultiReader(strings.NewReader("{\n"), strings.NewReader(script), strings.NewReader("\n} </dev/null\n"))
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// file writes a file into the directory that scripts run in.
func (s *service) file(name, body string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, "work", name), []byte(body), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

// query is what az answers, as JSON.
func (s *service) query(v any, command string) {
	s.t.Helper()
	out := s.sh(command + " --output json")
	if err := json.Unmarshal([]byte(out), v); err != nil {
		s.t.Fatalf("%s: %v: %s", command, err, out)
	}
}
