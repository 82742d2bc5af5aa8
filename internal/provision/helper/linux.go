package helper

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Linux is the guest that this process runs in.
type Linux struct {
	root *os.Root

	// What this program found the last time it gave the guest an identity. It is saved
	// with the guest, whose next identity then costs only what changed: in a guest just
	// restored, every look at a directory takes tens of milliseconds.
	identifying sync.Mutex // held by Identify
	keysMade    time.Time  // when the directory of host keys changed last, with ours alone in it
	unsettled   bool       // no settings of a build are applied
	sshd        int        // id of the process that listens and reads its keys for each connection
}

// NewLinux acts on the root file system dir, which is "/" outside of tests. The
// caller closes it.
func NewLinux(dir string) (*Linux, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &Linux{root: root}, nil
}

// Close releases the root file system.
func (l *Linux) Close() error { return l.root.Close() }

// maxOutput bounds what is kept of a program's output.
const maxOutput = 64 << 10

// run runs a program and returns its output. Its error has the end of the output.
func run(ctx context.Context, name string, args ...string) (string, error) {
	path, err := find(name)
	if err != nil {
		return "", err
	}
	var out limited
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = []string{"PATH=" + strings.Join(programDirs, ":"), "LC_ALL=C", "HOME=/root"}
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return out.String(), fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// programDirs are searched in this order, whatever the environment says.
var programDirs = []string{"/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"}

// errNoProgram is a program that the guest does not have.
var errNoProgram = errors.New("no such program in this guest")

func find(name string) (string, error) {
	for _, dir := range programDirs {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s: %w", name, errNoProgram)
}

// limited keeps the first maxOutput bytes.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	if room := maxOutput - l.Len(); room > 0 {
		l.Buffer.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
