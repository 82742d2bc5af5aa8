//go:build terraform

package terraform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"goldsmith/test/service"
)

// patience bounds what one command of terraform may take.
const patience = 5 * time.Minute

func TestMain(m *testing.M) {
	service.Main()
	goleak.VerifyTestMain(m)
}

// workspace is a directory that terraform works in, set up for a service.
type workspace struct {
	t   *testing.T
	dir string
	env []string
}

// open makes a workspace with the provider from the mirror that
// scripts/terraform-provider makes.
func open(t *testing.T, s *service.Service) *workspace {
	t.Helper()
	mirror, err := exec.Command(filepath.Join("..", "..", "scripts", "terraform-provider")).Output()
	if err != nil {
		t.Fatalf("build the provider: %v", err)
	}
	w := &workspace{t: t, dir: t.TempDir()}
	config, err := os.ReadFile(filepath.Join("testdata", "main.tf"))
	if err != nil {
		t.Fatal(err)
	}
	rc := fmt.Sprintf("provider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", strings.TrimSpace(string(mirror)))
	for name, text := range map[string]string{"main.tf": string(config), "terraformrc": rc} {
		if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + w.dir, "TMPDIR=" + os.TempDir(),
		"TF_CLI_CONFIG_FILE=" + filepath.Join(w.dir, "terraformrc"), "TF_IN_AUTOMATION=1", "TF_INPUT=0", "CHECKPOINT_DISABLE=1",
		"SSL_CERT_FILE=" + s.Authority,
		"ARM_TENANT_ID=adfs", "ARM_CLIENT_ID=" + s.App, "ARM_CLIENT_SECRET=" + s.Secret,
		"TF_VAR_service=" + s.URL, "TF_VAR_subscription=" + s.Subscription,
	}
	w.run(0, "init", "-no-color")
	return w
}

// run runs terraform, which must end with code, and returns all that it says.
func (w *workspace) run(code int, args ...string) string {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "terraform", args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // its provider is a process of its own
	cmd.WaitDelay = time.Minute
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	got := 0
	var failed *exec.ExitError
	switch err := cmd.Run(); {
	case errors.As(err, &failed):
		got = failed.ExitCode()
	case err != nil:
		w.t.Fatal(err)
	}
	if got != code {
		w.t.Fatalf("terraform %s ended with %d, want %d\n%s", strings.Join(args, " "), got, code, &said)
	}
	return said.String()
}

// What azapi makes is what it finds afterwards: a plan is empty. A change is
// made in place, and a destroy leaves nothing.
func TestApplyPlanDestroy(t *testing.T) {
	s := service.Start(t, filepath.Join(t.TempDir(), "data"))
	w := open(t, s)
	w.run(0, "apply", "-no-color", "-auto-approve")
	id := strings.Trim(w.run(0, "output", "-raw", "template"), "\n")
	w.run(0, "plan", "-no-color", "-detailed-exitcode")

	const change = "-var=mark=made-better"
	if said := w.run(0, "apply", "-no-color", "-auto-approve", change); !strings.Contains(said, "0 added, 2 changed, 0 destroyed") {
		t.Errorf("the definition and the template are not what changed:\n%s", said)
	}
	w.run(0, "plan", "-no-color", "-detailed-exitcode", change)

	client := s.Client()
	defer client.CloseIdleConnections()
	if got := status(t, s, client, id); got != http.StatusOK {
		t.Errorf("the template after the apply: %d", got)
	}
	w.run(0, "destroy", "-no-color", "-auto-approve")
	for _, gone := range []string{id, strings.Split(id, "/providers/")[0]} {
		if got := status(t, s, client, gone); got != http.StatusNotFound {
			t.Errorf("%s after the destroy: %d", gone, got)
		}
	}
}

// status is what the service answers to a GET of a resource.
func status(t *testing.T, s *service.Service, client *http.Client, id string) int {
	t.Helper()
	token, err := s.Token(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	version := "2024-03-01"
	if strings.Contains(id, "/imageTemplates/") {
		version = "2024-02-01"
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+id+"?api-version="+version, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode
}
