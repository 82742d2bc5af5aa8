package ssh_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"goldsmith/internal/arm"
	"goldsmith/internal/guest/guesttest"
	"goldsmith/internal/guest/ssh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a guest whose root is a temporary directory.
func server(t *testing.T, c guesttest.Config) *guesttest.Server {
	t.Helper()
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	s, err := guesttest.New(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// connect signs in and closes the session before the server.
func connect(t *testing.T, s *guesttest.Server, change func(*ssh.Config)) *ssh.Session {
	t.Helper()
	session, err := try(t, s, change)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

func try(t *testing.T, s *guesttest.Server, change func(*ssh.Config)) (*ssh.Session, error) {
	t.Helper()
	conn, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := ssh.Config{User: "build", Key: s.UserKey(), HostKey: s.HostKey()}
	if change != nil {
		change(&c)
	}
	return ssh.Connect(t.Context(), conn, c)
}

func TestRun(t *testing.T) {
	session := connect(t, server(t, guesttest.Config{}), nil)
	for _, c := range []struct {
		command, out, err string
		exit              int
	}{
		{"echo one; echo two >&2", "one\n", "two\n", 0},
		{"exit 3", "", "", 3},
		{"kill -9 $$", "", "", 137},
		{"no-such-program 2>/dev/null", "", "", 127},
		{"sudo -n sh -c 'echo root'", "root\n", "", 0},
		{"head -c 300000 /dev/zero | wc -c", "300000\n", "", 0},
	} {
		var out, errs bytes.Buffer
		exit, err := session.Run(t.Context(), c.command, &out, &errs)
		if err != nil {
			t.Errorf("%s: %v", c.command, err)
		}
		if diff := cmp.Diff([]any{c.exit, c.out, c.err}, []any{exit, out.String(), errs.String()}); diff != "" {
			t.Errorf("%s: %s", c.command, diff)
		}
	}
}

// TestRunOfNothing runs commands that end as soon as they begin.
func TestRunOfNothing(t *testing.T) {
	session := connect(t, server(t, guesttest.Config{
		Handler: func(context.Context, string, io.Reader, io.Writer, io.Writer) int { return 3 },
	}), nil)
	for range 200 {
		if exit, err := session.Run(t.Context(), "exit 3", nil, nil); exit != 3 || err != nil {
			t.Fatalf("exit code %d, error %v", exit, err)
		}
	}
}

func TestConnectRefuses(t *testing.T) {
	other, err := guesttest.New(guesttest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for name, c := range map[string]struct {
		server guesttest.Config
		change func(*ssh.Config)
		code   arm.Code
		text   string
	}{
		"other host key": {change: func(c *ssh.Config) { c.HostKey = other.HostKey() }, code: arm.CodeGuestNotReady, text: "host key"},
		"other user key": {change: func(c *ssh.Config) { c.Key = other.UserKey() }, code: arm.CodeGuestNotReady, text: "sign in"},
		"no key":         {server: guesttest.Config{RefuseAuth: true}, code: arm.CodeGuestNotReady, text: "sign in"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := try(t, server(t, c.server), c.change)
			if arm.CodeOf(err) != c.code || !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestConnectEndsWithContext(t *testing.T) {
	s := server(t, guesttest.Config{})
	s.Freeze()
	conn, err := s.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("enough")
	ctx, stop := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, cause)
	defer stop()
	if _, err := ssh.Connect(ctx, conn, ssh.Config{User: "build", Key: s.UserKey(), HostKey: s.HostKey()}); !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
}

func TestConnectionDropsInACommand(t *testing.T) {
	session := connect(t, server(t, guesttest.Config{DropAtCommand: 2}), nil)
	if exit, err := session.Run(t.Context(), "true", io.Discard, io.Discard); exit != 0 || err != nil {
		t.Fatalf("%d, %v", exit, err)
	}
	if _, err := session.Run(t.Context(), "sudo reboot", io.Discard, io.Discard); arm.CodeOf(err) != arm.CodeGuestLost {
		t.Errorf("%v", err)
	}
	if _, err := session.Run(t.Context(), "true", io.Discard, io.Discard); arm.CodeOf(err) != arm.CodeGuestLost {
		t.Errorf("afterwards: %v", err)
	}
	err := session.Upload(t.Context(), strings.NewReader("x"), "x", "/x", 0o644)
	if arm.CodeOf(err) != arm.CodeGuestLost {
		t.Errorf("upload afterwards: %v", err)
	}
}

func TestKeepaliveNoticesAHungGuest(t *testing.T) {
	s := server(t, guesttest.Config{Handler: func(ctx context.Context, _ string, _ io.Reader, out, _ io.Writer) int {
		_, _ = io.WriteString(out, "started\n")
		<-ctx.Done()
		return 0
	}})
	session := connect(t, s, func(c *ssh.Config) { c.Interval, c.Timeout = 20*time.Millisecond, 50*time.Millisecond })
	started := make(signal, 1)
	ended := make(chan error, 1)
	go func() {
		_, err := session.Run(t.Context(), "anything", started, io.Discard)
		ended <- err
	}()
	<-started
	s.Freeze()
	err := <-ended
	if arm.CodeOf(err) != arm.CodeGuestLost || !strings.Contains(err.Error(), "did not answer for 50ms") {
		t.Errorf("%v", err)
	}
}

// signal tells of the first write.
type signal chan struct{}

func (s signal) Write(p []byte) (int, error) {
	select {
	case s <- struct{}{}:
	default:
	}
	return len(p), nil
}

func TestCancelKillsTheCommand(t *testing.T) {
	dir := t.TempDir()
	session := connect(t, server(t, guesttest.Config{Dir: dir}), nil)
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("the user said so")
	started := make(signal, 1)
	go func() {
		<-started
		cancel(cause)
	}()
	start := time.Now()
	_, err := session.Run(ctx, "echo started; tail -f /dev/null & wait; touch survived", started, io.Discard)
	if !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	// The next command finds the connection alive and the other one dead.
	var out bytes.Buffer
	if exit, err := session.Run(t.Context(), "test ! -e survived && echo fine", &out, io.Discard); exit != 0 || err != nil || out.String() != "fine\n" {
		t.Errorf("%d, %v, %q", exit, err, out.String())
	}
}

func TestCancelOfAHungCommandReturns(t *testing.T) {
	session := connect(t, server(t, guesttest.Config{HangAtCommand: 1}), nil)
	cause := errors.New("timeout of the build")
	ctx, stop := context.WithTimeoutCause(t.Context(), 20*time.Millisecond, cause)
	defer stop()
	if _, err := session.Run(ctx, "anything", io.Discard, io.Discard); !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
}

func TestUseAfterClose(t *testing.T) {
	session := connect(t, server(t, guesttest.Config{}), nil)
	if err := session.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := session.Run(t.Context(), "true", io.Discard, io.Discard)
	if arm.CodeOf(err) != arm.CodeGuestLost {
		t.Errorf("Run: %v", err)
	}
	if err := session.Upload(t.Context(), strings.NewReader(""), "a", "/a", 0o600); arm.CodeOf(err) != arm.CodeGuestLost {
		t.Errorf("Upload: %v", err)
	}
}

func TestUpload(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "tmp", "sub"), 0o755); err != nil {
		t.Fatal(err)
	}
	session := connect(t, server(t, guesttest.Config{Dir: dir}), nil)
	for _, c := range []struct {
		name, dest, at, fails string
	}{
		{"a.txt", "/tmp/b.txt", "tmp/b.txt", ""},
		{"a.txt", "/tmp/b.txt", "tmp/b.txt", ""}, // again: replaced
		{"a.txt", "/tmp/sub", "tmp/sub/a.txt", ""},
		{"a.txt", "/tmp/sub/", "tmp/sub/a.txt", ""},
		{"a.txt", "/tmp/none/b.txt", "", "/tmp/none/b.txt: the directory /tmp/none does not exist"},
		{"a.txt", "/tmp/none/", "", "/tmp/none/: the directory /tmp/none/ does not exist"},
		{"a.txt", "/tmp/b.txt/", "", "/tmp/b.txt/: /tmp/b.txt is not a directory"},
		{"../a.txt", "/tmp/sub", "", "is no file name"},
		{"a.txt", "", "", "destination"},
	} {
		content := strings.Repeat(c.dest, 20000)
		err := session.Upload(t.Context(), strings.NewReader(content), c.name, c.dest, 0o750)
		if c.fails != "" {
			if arm.CodeOf(err) != arm.CodeStepFailed || !strings.Contains(err.Error(), c.fails) {
				t.Errorf("%s to %q: %v", c.name, c.dest, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s to %q: %v", c.name, c.dest, err)
			continue
		}
		got, err := os.ReadFile(filepath.Join(dir, c.at))
		if err != nil || string(got) != content {
			t.Errorf("%s has %d bytes, want %d; %v", c.at, len(got), len(content), err)
		}
		if info, err := os.Stat(filepath.Join(dir, c.at)); err != nil || info.Mode().Perm() != 0o750 {
			t.Errorf("%s: %v, %v", c.at, info.Mode(), err)
		}
	}
}

// failing gives some content and then an error.
type failing struct {
	left int
	err  error
}

func (f *failing) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, f.err
	}
	n := min(f.left, len(p))
	f.left -= n
	return n, nil
}

func TestUploadThatFailsLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	session := connect(t, server(t, guesttest.Config{Dir: dir}), nil)
	broken := errors.New("the source broke")
	if err := session.Upload(t.Context(), &failing{100000, broken}, "a", "/a", 0o644); !errors.Is(err, broken) {
		t.Errorf("%v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "a")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a half file is left: %v", err)
	}
}

func TestSessionsShareOneConnection(t *testing.T) {
	session := connect(t, server(t, guesttest.Config{}), nil)
	const n = 8
	errs := make(chan error, n)
	for range n {
		go func() {
			var out bytes.Buffer
			exit, err := session.Run(t.Context(), "echo at once", &out, io.Discard)
			if err == nil && (exit != 0 || out.String() != "at once\n") {
				err = errors.New("wrong output " + out.String())
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}
