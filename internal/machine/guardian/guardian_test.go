package guardian_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"goldsmith/internal/machine/guardian"
)

// ownerRole makes the test binary an owner that can be killed: it starts a
// program under guard, says both process numbers and waits.
const ownerRole = "GUARDIAN_TEST_OWNER"

func TestMain(m *testing.M) {
	guardian.Main()
	if os.Getenv(ownerRole) != "" {
		owner()
	}
	goleak.VerifyTestMain(m)
}

func owner() {
	p, err := guardian.Start(context.Background(), guardian.Command{
		Path: "/bin/sh", Args: []string{"-c", "sleep 1000 & echo $!; wait"}, Output: os.Stdout,
	})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(p.PID())
	<-p.Exited()
	os.Exit(0)
}

func run(t *testing.T, c guardian.Command) *guardian.Process {
	t.Helper()
	p, err := guardian.Start(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func await(t *testing.T, p *guardian.Process) guardian.Status {
	t.Helper()
	select {
	case <-p.Exited():
		return p.Status()
	case <-time.After(20 * time.Second):
		t.Fatal("the program does not end")
		panic("unreachable")
	}
}

// awaitGone fails the test unless process pid ends soon.
func awaitGone(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	deadline := time.Now().Add(10 * time.Second)
	for {
		n, err := unix.Poll(fds, int(max(0, time.Until(deadline).Milliseconds())))
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n != 1 {
			t.Fatalf("process %d lives on: %v", pid, err)
		}
		return
	}
}

func TestStatus(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		want   guardian.Status
		said   string
	}{
		"success":         {"exit 0", guardian.Status{}, "exit code 0"},
		"exit code":       {"exit 7", guardian.Status{Code: 7}, "exit code 7"},
		"killed":          {"kill -9 $$", guardian.Status{Signal: syscall.SIGKILL}, "killed by signal 9 (killed)"},
		"core is not cut": {"ulimit -c; kill -SEGV $$", guardian.Status{Signal: syscall.SIGSEGV}, "killed by signal 11 (segmentation fault)"},
	} {
		t.Run(name, func(t *testing.T) {
			got := await(t, run(t, guardian.Command{Path: "/bin/sh", Args: []string{"-c", tc.script}}))
			if diff := cmp.Diff(tc.want, got, cmp.Comparer(errors.Is)); diff != "" {
				t.Error(diff)
			}
			if got.String() != tc.said {
				t.Errorf("said %q", got)
			}
		})
	}
}

func TestOutputAndLimits(t *testing.T) {
	var out bytes.Buffer
	dir := t.TempDir()
	p := run(t, guardian.Command{
		Path: "/bin/sh", Args: []string{"-c", "ulimit -c; umask; pwd; cat /proc/$$/oom_score_adj; echo $X$HOME >&2"},
		Dir: dir, Env: []string{"X=only"}, Output: &out, OOMScoreAdj: 300,
	})
	await(t, p)
	if want := "0\n0077\n" + dir + "\n300\nonly\n"; out.String() != want {
		t.Errorf("got %q, want %q", &out, want)
	}
}

func TestOnlyItsOwnFiles(t *testing.T) {
	// A descriptor that this process would leak into any child.
	leak, err := unix.Open("/dev/null", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var out bytes.Buffer
	p := run(t, guardian.Command{
		Path: "/bin/sh", Args: []string{"-c", `i=0; while [ $i -lt 100 ]; do [ -e /proc/$$/fd/$i ] && echo $i; i=$((i+1)); done
			echo hello >&4`},
		Files: []*os.File{r, w}, Output: &out,
	})
	w.Close()
	got := make([]byte, 100)
	n, err := r.Read(got)
	if err != nil || string(got[:n]) != "hello\n" {
		t.Errorf("read %q, %v", got[:n], err)
	}
	if n, err := r.Read(got); !errors.Is(err, io.EOF) {
		t.Errorf("the guardian keeps the program's file open: %d, %v", n, err)
	}
	await(t, p)
	if diff := cmp.Diff("0\n1\n2\n3\n4\n", out.String()); diff != "" {
		t.Error(diff)
	}
}

func TestKill(t *testing.T) {
	p := run(t, guardian.Command{Path: "/bin/sleep", Args: []string{"1000"}})
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if got := p.Status(); got.Signal != syscall.SIGKILL {
		t.Errorf("status %v", got)
	}
	awaitGone(t, p.PID())
	if err := p.Kill(); err != nil {
		t.Errorf("second kill: %v", err)
	}
}

func TestKilledOwnerTakesTheProgramAlong(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{ownerRole + "=1"}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	pids := make([]int, 2) // the program and its child, in either order
	for i := range pids {
		line, err := lines.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Sscan(line, &pids[i]); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for _, pid := range pids {
		awaitGone(t, pid)
	}
}

func TestKilledGuardianTakesTheProgramAlong(t *testing.T) {
	p := run(t, guardian.Command{Path: "/bin/sleep", Args: []string{"1000"}})
	if err := syscall.Kill(parent(t, p.PID()), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if got := await(t, p); got.Err == nil || !strings.Contains(got.String(), "guardian ended") {
		t.Errorf("status %v", got)
	}
	awaitGone(t, p.PID())
}

func parent(t *testing.T, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	var ppid int
	var state string
	if _, err := fmt.Sscan(string(stat[bytes.LastIndexByte(stat, ')')+1:]), &state, &ppid); err != nil {
		t.Fatal(err)
	}
	return ppid
}

func TestOwnProcessGroups(t *testing.T) {
	p := run(t, guardian.Command{Path: "/bin/sleep", Args: []string{"1000"}})
	guard := parent(t, p.PID())
	for _, pid := range []int{p.PID(), guard} {
		if group, err := syscall.Getpgid(pid); err != nil || group != pid {
			t.Errorf("process %d is in group %d, %v", pid, group, err)
		}
	}
}

func TestStartFailures(t *testing.T) {
	if _, err := guardian.Start(t.Context(), guardian.Command{Path: "/nonexistent/qemu"}); err == nil ||
		!strings.Contains(err.Error(), "/nonexistent/qemu") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	reason := errors.New("changed my mind")
	cancel(reason)
	if _, err := guardian.Start(ctx, guardian.Command{Path: "/bin/true"}); !errors.Is(err, reason) {
		t.Errorf("got %v", err)
	}
}
