package guardian

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// argv0 marks a process as a guardian. It is what process listings show.
const argv0 = "goldsmith-guardian"

// firstFile is the descriptor at which the program's own files begin.
const firstFile = 3

// order is what the owner writes to the leash before it falls silent.
type order struct {
	Path        string   `json:"path"`
	Args        []string `json:"args"` // with the program's name first
	Dir         string   `json:"dir"`
	Env         []string `json:"env"`
	Files       int      `json:"files"`
	OOMScoreAdj int      `json:"oomScoreAdj"`
}

// report is one line from the guardian to its owner: first PID or Err, then,
// after a PID, how the program ended.
type report struct {
	PID    int    `json:"pid,omitempty"`
	Err    string `json:"error,omitempty"`
	Ended  bool   `json:"ended,omitempty"`
	Code   int    `json:"code,omitempty"`
	Signal int    `json:"signal,omitempty"`
}

// Main turns the process into a guardian when it was started as one, and never
// returns then. Call it first in main, and in TestMain of every package whose
// tests start guarded programs.
func Main() {
	if len(os.Args) == 0 || os.Args[0] != argv0 {
		return
	}
	// The kernel sends the parent-death signal when the thread that started the
	// program ends, so this goroutine keeps its thread to the end.
	runtime.LockOSThread()
	reports := json.NewEncoder(os.Stdout)
	if err := guard(os.Stdin, reports); err != nil {
		// With the owner gone there is nobody left to tell.
		_ = reports.Encode(report{Err: err.Error()})
		os.Exit(1)
	}
	os.Exit(0)
}

// guard runs the program that it is ordered to on leash, kills it when the
// leash ends, and reports both of its ends.
func guard(leash io.Reader, reports *json.Encoder) error {
	var o order
	orders := json.NewDecoder(leash)
	if err := orders.Decode(&o); err != nil {
		return fmt.Errorf("no order on the leash: %w", err)
	}
	cmd, err := start(o)
	if err != nil {
		return err
	}
	pid := cmd.Process.Pid
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", pid), []byte(strconv.Itoa(o.OOMScoreAdj)), 0); err != nil {
		// A hint to the kernel; some sandboxes refuse it.
		fmt.Fprintf(os.Stderr, "%s: %v\n", argv0, err)
	}
	if err := reports.Encode(report{PID: pid}); err != nil {
		return err // the parent-death signal ends the program
	}
	// While the program is not reaped its number cannot be reused, and only until
	// then may the process group of that number be killed.
	var mu sync.Mutex
	reaped := false
	killGroup := func() {
		mu.Lock()
		defer mu.Unlock()
		if !reaped {
			_ = syscall.Kill(-pid, syscall.SIGKILL)
		}
	}
	go func() {
		_, _ = io.Copy(io.Discard, leash)
		killGroup()
	}()
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	killGroup() // what the program left behind
	mu.Lock()
	reaped = true
	mu.Unlock()
	_ = cmd.Wait() // the state says it all
	end := report{Ended: true, Code: cmd.ProcessState.ExitCode()}
	if status := cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
		end.Code, end.Signal = 0, int(status.Signal())
	}
	return reports.Encode(end)
}

// start runs the program of o with nothing of this process but its files.
func start(o order) (*exec.Cmd, error) {
	// Whatever the owner was started with (a make job server, say) ends here.
	if err := unix.CloseRange(firstFile, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("close-on-exec of inherited files: %w", err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return nil, fmt.Errorf("core size limit: %w", err)
	}
	unix.Umask(0o077)
	cmd := &exec.Cmd{
		Path:   o.Path,
		Args:   o.Args,
		Dir:    o.Dir,
		Env:    append([]string{}, o.Env...),
		Stdout: os.Stderr,
		Stderr: os.Stderr,
		SysProcAttr: &syscall.SysProcAttr{
			Setpgid:   true,
			Pdeathsig: syscall.SIGKILL,
		},
	}
	for i := range o.Files {
		cmd.ExtraFiles = append(cmd.ExtraFiles, os.NewFile(uintptr(firstFile+i), "file"+strconv.Itoa(i)))
	}
	err := cmd.Start()
	// The program alone holds them now, so that others see when it is gone.
	for _, f := range cmd.ExtraFiles {
		f.Close()
	}
	return cmd, err
}
