package guesttest

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// sudoScript lets commands that ask for root run as whoever runs the test. It
// skips sudo's options, of which those that commands use take no value.
const sudoScript = `#!/bin/sh
while :; do
	case "$1" in
	--) shift; break ;;
	-*|*=*) shift ;;
	*) break ;;
	esac
done
exec "$@"
`

// Shell executes commands by sh in dir. Paths below /tmp and /dev/shm in the command
// line lead below dir, and sudo runs its command as it is. It isolates nothing: the
// commands must be the test's own.
func Shell(dir string) Handler {
	return func(ctx context.Context, command string, stdin io.Reader, stdout, stderr io.Writer) int {
		tmp, shm, bin := filepath.Join(dir, "tmp"), filepath.Join(dir, "dev", "shm"), filepath.Join(dir, ".bin")
		err := errors.Join(
			os.MkdirAll(tmp, 0o755), os.MkdirAll(shm, 0o755), os.MkdirAll(bin, 0o755),
			os.WriteFile(filepath.Join(bin, "sudo"), []byte(sudoScript), 0o755),
		)
		if err != nil {
			_, _ = io.WriteString(stderr, err.Error()+"\n")
			return 255
		}
		cmd := exec.CommandContext(ctx, "sh", "-c", strings.NewReplacer("/tmp/", tmp+"/", "/dev/shm/", shm+"/").Replace(command))
		cmd.Dir = dir
		cmd.Env = []string{"HOME=" + dir, "TMPDIR=" + tmp, "PATH=" + bin + ":/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8"}
		cmd.Stdout, cmd.Stderr = stdout, stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
		cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
		cmd.WaitDelay = time.Second
		_ = stdin // commands of a build read nothing; sh sees an empty input
		err = cmd.Run()
		var exit *exec.ExitError
		switch {
		case err == nil:
			return 0
		case errors.As(err, &exit) && exit.Exited():
			return exit.ExitCode()
		case errors.As(err, &exit):
			return 128 + int(exit.Sys().(syscall.WaitStatus).Signal())
		}
		return 127
	}
}
