package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// idleWait is how long a service is left alone before its memory is read: what
// its start needed has been given back by then.
const idleWait = 5 * time.Second

// service measures the start of goldsmith serve, the first and later ones, and
// its memory when it has nothing to do.
func service(ctx context.Context, r *report, binary, work string, n int) error {
	data := filepath.Join(work, "service")
	for i := range n + 1 {
		name := "start"
		if i == 0 {
			name = "first start"
		}
		if err := idleOnce(ctx, r, binary, data, "service", name); err != nil {
			return err
		}
	}
	return nil
}

// idleOnce starts a service, lets it be idle, and stops it.
func idleOnce(ctx context.Context, r *report, binary, data, section, name string) error {
	s, err := serve(ctx, binary, data)
	if err != nil {
		return err
	}
	r.join(section, name, "s", "to be reached: under 1 s", s.took.Seconds())
	idle := time.NewTimer(idleWait)
	defer idle.Stop()
	select {
	case <-idle.C:
	case <-ctx.Done():
	}
	resident, err := s.resident()
	if err != nil {
		return err
	}
	r.join(section, "idle memory", "MB", "to be reached: under 80 MB", resident)
	return s.stop()
}

// served is a service in a process of its own.
type served struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner // its standard output
	url   string
	took  time.Duration // from its start until it served
}

// serve starts a service on a data directory, at a port that is free.
func serve(ctx context.Context, binary, data string, flags ...string) (*served, error) {
	s := &served{cmd: exec.CommandContext(ctx, binary, append([]string{"serve", "--data", data, "--listen", "127.0.0.1:0", "--log-level", "error"}, flags...)...)}
	s.cmd.Stderr = os.Stderr
	s.cmd.Cancel = func() error { return s.cmd.Process.Signal(syscall.SIGTERM) }
	s.cmd.WaitDelay = time.Minute
	stdout, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.lines = bufio.NewScanner(stdout)
	for s.url == "" && s.lines.Scan() {
		s.url, _ = strings.CutPrefix(s.lines.Text(), "serving ")
		if s.url == s.lines.Text() {
			s.url = ""
		}
	}
	if s.took = time.Since(start); s.url == "" {
		return nil, fmt.Errorf("goldsmith serve did not begin to serve: %w", s.cmd.Wait())
	}
	return s, nil
}

// resident is the memory that the service has, in MB.
func (s *served) resident() (mb float64, err error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if _, rest, ok := strings.Cut(string(status), "VmRSS:"); ok {
		_, err = fmt.Sscanf(rest, "%f", &mb)
	}
	return mb * 1024 / 1e6, err
}

// clockTick is the unit of processor time in /proc.
const clockTick = 10 * time.Millisecond

// cpu is the processor time that the service has used.
func (s *served) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		return 0, err
	}
	// The name of the program, in brackets, may hold anything.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var user, system int64
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0, fmt.Errorf("read the processor time of the service: %w", err)
	}
	return time.Duration(user+system) * clockTick, nil
}

// stop ends the service in good order.
func (s *served) stop() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("the service did not stay: %w", err)
	}
	for s.lines.Scan() { // to its end, as Wait wants it
	}
	if err := s.cmd.Wait(); err != nil {
		return fmt.Errorf("goldsmith serve: %w", err)
	}
	return nil
}
