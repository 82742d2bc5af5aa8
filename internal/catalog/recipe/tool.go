package recipe

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"goldsmith/internal/arm"
)

// neededTools maps each program to the Debian package that has it.
var neededTools = []struct{ name, pkg string }{
	{"mmdebstrap", "mmdebstrap"},
	{"mke2fs", "e2fsprogs"},
	{"mkfs.vfat", "dosfstools"},
	{"mcopy", "mtools"},
	{"mmd", "mtools"},
	{"sfdisk", "fdisk"},
	{"tar", "tar"},
	{"unshare", "util-linux"},
}

// userTools are needed besides by an ordinary user.
var userTools = []struct{ name, pkg string }{
	{"newuidmap", "uidmap"},
	{"newgidmap", "uidmap"},
}

// findTools finds every needed program, also in the directories that an
// ordinary user's path leaves out, and reports all that are missing at once.
func findTools() (map[string]string, error) {
	need := neededTools
	if os.Geteuid() != 0 {
		need = append(need[:len(need):len(need)], userTools...)
	}
	found := map[string]string{}
	var missing, packages []string
	for _, t := range need {
		path, err := exec.LookPath(t.name)
		for _, dir := range []string{"/usr/sbin", "/sbin"} {
			if err != nil {
				path, err = exec.LookPath(filepath.Join(dir, t.name))
			}
		}
		if err != nil {
			missing = append(missing, t.name)
			if len(packages) == 0 || packages[len(packages)-1] != t.pkg {
				packages = append(packages, t.pkg)
			}
			continue
		}
		found[t.name] = path
	}
	if missing != nil {
		return nil, arm.Errorf(arm.CodeMissingTool, "making a base image needs %s: install the Debian packages %s",
			strings.Join(missing, ", "), strings.Join(packages, " "))
	}
	return found, nil
}

// command is one program to run.
type command struct {
	path  string
	args  []string
	env   []string
	stdin []byte
	line  func(string) // receives each line of output; nil drops them
}

// lastWords is how much of a failed program's output its error keeps.
const lastWords = 2 << 10

// run runs a program in its own process group until it ends or ctx does. Then
// the group is asked to stop, so that mmdebstrap can take its mounts down, and
// killed when it does not.
func (c command) run(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, c.path, c.args...)
	cmd.Env = append(os.Environ(), c.env...)
	cmd.Stdin = bytes.NewReader(c.stdin)
	out := &lineWriter{line: c.line}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	err := cmd.Run()
	if ctx.Err() != nil && cmd.Process != nil {
		// Whatever of the group outlived its leader.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	}
	out.flush()
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return &toolError{tool: filepath.Base(c.path), tail: out.tail(), err: err}
}

// toolError is the failure of a program with its last output.
type toolError struct {
	tool, tail string
	err        error
}

func (e *toolError) Error() string {
	return e.tool + ": " + e.err.Error() + ": " + e.tail
}

func (e *toolError) Unwrap() error { return e.err }

// isNoSpace reports a full disk, whether this program or another met it.
func isNoSpace(err error) bool {
	var tool *toolError
	return errors.Is(err, syscall.ENOSPC) || errors.As(err, &tool) && strings.Contains(tool.tail, "No space left on device")
}

// lineWriter splits output into lines and keeps its end.
type lineWriter struct {
	line    func(string)
	partial []byte
	kept    []byte
}

// Write never fails.
func (w *lineWriter) Write(p []byte) (int, error) {
	w.kept = append(w.kept, p...)
	if over := len(w.kept) - lastWords; over > 0 {
		w.kept = append(w.kept[:0], w.kept[over:]...)
	}
	w.partial = append(w.partial, p...)
	for {
		i := bytes.IndexAny(w.partial, "\r\n")
		if i < 0 {
			break
		}
		w.emit(w.partial[:i])
		w.partial = w.partial[i+1:]
	}
	if len(w.partial) > lastWords {
		w.flush()
	}
	return len(p), nil
}

func (w *lineWriter) emit(line []byte) {
	if text := strings.TrimSpace(string(line)); text != "" && w.line != nil {
		w.line(text)
	}
}

func (w *lineWriter) flush() {
	w.emit(w.partial)
	w.partial = nil
}

// tail is the end of the output as one line.
func (w *lineWriter) tail() string {
	lines := strings.FieldsFunc(string(w.kept), func(r rune) bool { return r == '\n' || r == '\r' })
	return strings.Join(lines[max(0, len(lines)-6):], "; ")
}
