//go:build vm

package vm

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds what any one command of the program may take, on a host that
// is busy with other things.
const patience = 15 * time.Minute

const millisecond = time.Millisecond

// host is a place to run the program in: a data directory, and who runs it.
type host struct {
	data string
	// program is the user's own copy of it; "" for the one under test.
	program string
	// wrap comes before the program on every command line.
	wrap []string
	// scratch is where its user can read templates; "" for the test's own.
	scratch string
	// env is set over the environment of the tests.
	env []string
}

// shared is the host of most tests.
func shared(t *testing.T) host {
	t.Helper()
	dir, err := sharedData()
	if err != nil {
		t.Fatal(err)
	}
	return host{data: dir}
}

// result is what a command of the program did.
type result struct {
	code           int
	stdout, stderr string
}

// command is the program with args, to be started by the caller. When ctx ends
// the program is asked to undo what it does.
func (h host) command(ctx context.Context, args ...string) *exec.Cmd {
	program := h.program
	if program == "" {
		program = binary
	}
	argv := slices.Concat(h.wrap, []string{program, "--data", h.data}, args)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), h.env...)
	// Out of reach of a terminal's Ctrl-C, which is for the tests to send.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

// run runs the program to its end.
func (h host) run(t *testing.T, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(t.Context()), patience, errors.New("the test's patience"))
	defer cancel()
	var stdout, stderr bytes.Buffer
	cmd := h.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	code, err := exitCode(cmd.Run())
	if err != nil {
		t.Fatalf("goldsmith %s: %v\n%s%s", strings.Join(args, " "), err, &stdout, &stderr)
	}
	return result{code, stdout.String(), stderr.String()}
}

// must runs the program, which must succeed, and returns its standard output.
func (h host) must(t *testing.T, args ...string) string {
	t.Helper()
	r := h.run(t, args...)
	if r.code != 0 {
		t.Fatalf("goldsmith %s: exit code %d\n%s%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r.stdout
}

// boot boots an image and returns what a command in it printed and its exit code.
func (h host) boot(t *testing.T, image, command string) result {
	t.Helper()
	start := time.Now()
	r := h.run(t, "image", "boot", image, "--", command)
	t.Logf("booted %s and ran a command in it in %v", filepath.Base(image), time.Since(start).Round(100*millisecond))
	return r
}

// exitCode is the exit code that err, of an exec.Cmd, stands for.
func exitCode(err error) (int, error) {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// tool runs a program of this host, which must succeed, and returns its output.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// contains reports every want that text lacks.
func contains(t *testing.T, text string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(text, w) {
			t.Errorf("no %q in:\n%s", w, text)
		}
	}
}

// readAll reads a file of at most a few megabytes.
func readAll(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, 8<<20))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
