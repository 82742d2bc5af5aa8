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
		took, resident, err := serveOnce(ctx, binary, data)
		if err != nil {
			return err
		}
		name := "start"
		if i == 0 {
			name = "first start"
		}
		r.join("service", name, "s", "to be reached: under 1 s", took.Seconds())
		r.join("service", "idle memory", "MB", "to be reached: under 80 MB", resident)
	}
	return nil
}

// serveOnce runs a service until it serves and has been idle for a while.
func serveOnce(ctx context.Context, binary, data string) (took time.Duration, residentMB float64, err error) {
	cmd := exec.CommandContext(ctx, binary, "serve", "--data", data, "--listen", "127.0.0.1:0", "--log-level", "error")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return 0, 0, err
	}
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "serving ") {
	}
	took = time.Since(start)
	idle := time.NewTimer(idleWait)
	defer idle.Stop()
	select {
	case <-idle.C:
	case <-ctx.Done():
	}
	status, rerr := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid))
	if _, rest, ok := strings.Cut(string(status), "VmRSS:"); ok {
		_, rerr = fmt.Sscanf(rest, "%f", &residentMB)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return 0, 0, fmt.Errorf("the service did not stay: %w", err)
	}
	for lines.Scan() { // to its end, as Wait wants it
	}
	if err := cmd.Wait(); err != nil {
		return 0, 0, fmt.Errorf("goldsmith serve: %w", err)
	}
	return took, residentMB * 1024 / 1e6, rerr
}
