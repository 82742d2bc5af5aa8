// Package guardian runs a program that must not outlive its owner. The owner
// starts itself once more as a small guardian, which starts the program and
// holds a pipe, the leash, from the owner. Whatever ends the owner, kill -9
// included, ends the leash, and the guardian kills the program with its whole
// process group; whatever ends the guardian, the kernel kills the program. Both
// stand in process groups of their own, out of reach of a terminal's Ctrl-C.
package guardian

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// killPatience is how long the guardian, and after it the kernel, may take to
// end a killed program. Only one in uninterruptible sleep takes longer.
const killPatience = 5 * time.Second

// Command is a program to run under guard.
type Command struct {
	Name string   // what process listings show beside "goldsmith-guardian"
	Path string   // the program, absolute
	Args []string // its arguments, without its own name
	Dir  string   // its working directory; "" for the owner's
	Env  []string // its whole environment
	// Files become its descriptors 3, 4 and so on. The caller keeps its own and
	// closes them after Start.
	Files []*os.File
	// Output receives what it writes to standard output and error; nil for nothing.
	Output io.Writer
	// OOMScoreAdj, 0 to 1000, makes the kernel kill it before others when memory
	// runs out.
	OOMScoreAdj int
}

// Status is how a program ended.
type Status struct {
	Code   int            // its exit code
	Signal syscall.Signal // the signal that killed it; 0 for none
	Err    error          // the guardian died and the rest is unknown
}

// String is Status as people say it.
func (s Status) String() string {
	switch {
	case s.Err != nil:
		return s.Err.Error()
	case s.Signal != 0:
		return fmt.Sprintf("killed by signal %d (%v)", int(s.Signal), s.Signal)
	}
	return fmt.Sprintf("exit code %d", s.Code)
}

// Process is a program under guard.
type Process struct {
	pid      int
	guardian *exec.Cmd
	leash    *os.File
	exited   chan struct{}
	status   Status // set before exited is closed
	unleash  sync.Once
}

// Start runs command under a guardian and returns when the program is running.
// ctx bounds the start only. Kill it, and wait for Exited, to release everything.
func Start(ctx context.Context, command Command) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	leashEnd, leash, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	reports, reportsEnd, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, leash.Close(), leashEnd.Close())
	}
	p := &Process{
		leash:  leash,
		exited: make(chan struct{}),
		guardian: &exec.Cmd{
			// Not the path: the file may have been replaced since.
			Path:        "/proc/self/exe",
			Args:        []string{argv0, command.Name},
			Env:         []string{},
			Stdin:       leashEnd,
			Stdout:      reportsEnd,
			Stderr:      command.Output,
			ExtraFiles:  command.Files,
			SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
			WaitDelay:   killPatience,
		},
	}
	err = p.guardian.Start()
	leashEnd.Close()
	reportsEnd.Close()
	if err != nil {
		leash.Close()
		reports.Close()
		return nil, fmt.Errorf("start of the guardian: %w", err)
	}
	started := make(chan report, 1)
	go p.watch(reports, started)
	err = json.NewEncoder(leash).Encode(order{
		Path: command.Path, Args: append([]string{command.Path}, command.Args...), Dir: command.Dir,
		Env: command.Env, Files: len(command.Files), OOMScoreAdj: command.OOMScoreAdj,
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("order to the guardian: %w", err), p.Kill())
	}
	select {
	case r := <-started:
		if r.Err != "" {
			return nil, errors.Join(errors.New(r.Err), p.Kill())
		}
		p.pid = r.PID
		return p, nil
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), p.Kill())
	}
}

// PID is the program's process number.
func (p *Process) PID() int { return p.pid }

// Exited is closed when the program is gone and all its output is written.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Status is how the program ended; valid after Exited.
func (p *Process) Status() Status { return p.status }

// Kill ends the program, waits until it is gone and releases what belongs to
// it. It fails only when the kernel does not let the program die.
func (p *Process) Kill() error {
	p.unleash.Do(func() { p.leash.Close() })
	timer := time.NewTimer(killPatience)
	defer timer.Stop()
	select {
	case <-p.exited:
		return nil
	case <-timer.C:
	}
	// A guardian that does not react: without it the kernel kills the program.
	if err := p.guardian.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill of the guardian: %w", err)
	}
	timer.Reset(3 * killPatience) // the pipes' and the program's own patience included
	select {
	case <-p.exited:
		return nil
	case <-timer.C:
		return fmt.Errorf("process %d does not die: its guardian is killed", p.pid)
	}
}

// watch reads the guardian's reports to their end and then waits for it. The
// first report, or what stands for it, goes to started.
func (p *Process) watch(reports *os.File, started chan<- report) {
	defer close(p.exited)
	defer p.unleash.Do(func() { p.leash.Close() })
	defer reports.Close()
	lines := json.NewDecoder(reports)
	var first, last report
	pidfd := -1
	if err := lines.Decode(&first); err != nil {
		first.Err = fmt.Sprintf("the guardian ended before it reported: %v", err)
	} else if first.PID != 0 {
		if fd, err := unix.PidfdOpen(first.PID, 0); err == nil {
			pidfd = fd
			defer unix.Close(fd)
		}
	}
	started <- first
	// The pipe ends when the guardian has ended.
	for lines.Decode(&last) == nil {
	}
	waitErr := p.guardian.Wait()
	switch {
	case last.Ended:
		p.status = Status{Code: last.Code, Signal: syscall.Signal(last.Signal)}
	case first.Err != "":
		p.status = Status{Err: errors.New(first.Err)}
	default:
		p.status = Status{Err: fmt.Errorf("the guardian ended before its program: %w", waitErr)}
		awaitDeath(pidfd)
	}
}

// awaitDeath waits until the process behind pidfd is gone, which the kernel has
// begun to kill.
func awaitDeath(pidfd int) {
	if pidfd < 0 {
		return
	}
	deadline := time.Now().Add(killPatience)
	for {
		left := time.Until(deadline)
		if left <= 0 {
			return
		}
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
		if err != unix.EINTR {
			return
		}
	}
}
