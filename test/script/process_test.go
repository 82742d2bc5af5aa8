package script

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"goldsmith/test/service"
)

// patience is how long a script waits for another process. It is reached only
// when the test fails.
const patience = 60 * time.Second

// processCommands run programs whose exit code matters, and such that go on
// while the script does.
var processCommands = map[string]func(*testscript.TestScript, bool, []string){
	"exits":  exits,
	"begin":  begin,
	"await":  await,
	"signal": signalProcess,
	"ends":   ends,
}

// session is what one script has running.
type session struct {
	mu      sync.Mutex
	running map[string]*process
}

type sessionKey struct{}

func sessionOf(ts *testscript.TestScript) *session { return ts.Value(sessionKey{}).(*session) }

// process is a program in the background.
type process struct {
	cmd    *exec.Cmd
	done   chan struct{} // closed when it has ended
	stdout service.Output
	stderr service.Output
}

// kill ends what the script left running.
func (s *session) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.running {
		_ = p.cmd.Process.Kill() // fails for those that have ended
		<-p.done
	}
}

func (s *session) find(ts *testscript.TestScript, name string) *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.running[name]
	if p == nil {
		ts.Fatalf("no process is called %q", name)
	}
	return p
}

// exits CODE PROGRAM ARGS... runs a program to its end and checks its exit code.
func exits(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS...")
	}
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var failed *exec.ExitError
	switch {
	case errors.As(err, &failed):
		code = failed.ExitCode()
	case err != nil:
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, not %s", code, args[0])
	}
}

// begin NAME PROGRAM ARGS... starts a program in the background.
func begin(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: begin NAME PROGRAM ARGS...")
	}
	path, err := lookPath(ts, args[1])
	ts.Check(err)
	p := &process{cmd: &exec.Cmd{Path: path, Args: args[1:], Dir: ts.MkAbs(".")}, done: make(chan struct{})}
	p.cmd.Env = environment(ts)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	ts.Check(p.cmd.Start())
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // its state says how it ended
	}()
	s := sessionOf(ts)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running[args[0]] = p
}

// inherited are the variables that programs in the background see.
var inherited = []string{"PATH", "HOME", "TMPDIR", "TZ", "WORK", "GOLDSMITH_DATA", "XDG_DATA_HOME", "XDG_CACHE_HOME", labVariable}

func environment(ts *testscript.TestScript) []string {
	var env []string
	for _, name := range inherited {
		if value := ts.Getenv(name); value != "" {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// lookPath finds a program in the script's PATH.
func lookPath(ts *testscript.TestScript, name string) (string, error) {
	for _, dir := range filepath.SplitList(ts.Getenv("PATH")) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not in the script's PATH", name)
}

// await NAME REGEXP waits until the standard output of a process matches, and
// makes the text so far the script's stdout.
func await(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: await NAME REGEXP")
	}
	p := sessionOf(ts).find(ts, args[0])
	want, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		text, more := p.stdout.Read()
		if want.MatchString(text) {
			fmt.Fprint(ts.Stdout(), text)
			return
		}
		select {
		case <-more:
		case <-p.done:
			if text, _ := p.stdout.Read(); !want.MatchString(text) {
				stderr, _ := p.stderr.Read()
				ts.Fatalf("%s ended and never wrote %s:\n%s%s", args[0], args[1], text, stderr)
			}
		case <-ctx.Done():
			ts.Fatalf("%s has not written %s within %s:\n%s", args[0], args[1], patience, text)
		}
	}
}

// signal NAME INT|TERM|HUP|KILL sends a signal to a process.
func signalProcess(ts *testscript.TestScript, _ bool, args []string) {
	signals := map[string]os.Signal{"INT": syscall.SIGINT, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}
	if len(args) != 2 || signals[args[1]] == nil {
		ts.Fatalf("usage: signal NAME INT|TERM|HUP|KILL")
	}
	ts.Check(sessionOf(ts).find(ts, args[0]).cmd.Process.Signal(signals[args[1]]))
}

// ends NAME CODE waits for the end of a process and checks its exit code, "killed"
// for one that a signal ended. Its output becomes the script's.
func ends(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: ends NAME CODE")
	}
	s := sessionOf(ts)
	p := s.find(ts, args[0])
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	select {
	case <-p.done:
	case <-ctx.Done():
		text, _ := p.stdout.Read()
		ts.Fatalf("%s has not ended within %s:\n%s", args[0], patience, text)
	}
	s.mu.Lock()
	delete(s.running, args[0])
	s.mu.Unlock()
	for _, o := range []struct {
		to   io.Writer
		from *service.Output
	}{{ts.Stdout(), &p.stdout}, {ts.Stderr(), &p.stderr}} {
		text, _ := o.from.Read()
		_, err := io.WriteString(o.to, text)
		ts.Check(err)
	}
	code := strconv.Itoa(p.cmd.ProcessState.ExitCode())
	if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		code = "killed"
	}
	if !strings.EqualFold(code, args[1]) {
		ts.Fatalf("%s ended with exit code %s, not %s", args[0], code, args[1])
	}
}
