package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"goldsmith/internal/image"
	"goldsmith/internal/image/format"
)

// watchPeak samples the peak resident memory of a process until it ends, and
// delivers it in MB. The kernel's own account of a child would count the child's
// children too, and those are machines.
func watchPeak(pid int) <-chan float64 {
	done := make(chan float64, 1)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		peak := 0.0
		for range tick.C {
			mb, err := highWater(pid)
			if err != nil {
				break
			}
			peak = max(peak, mb)
		}
		done <- peak
	}()
	return done
}

// highWater is a process's peak resident memory in MB (proc(5), VmHWM).
func highWater(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, ok := bytes.Cut(text, []byte("VmHWM:"))
	if !ok {
		return 0, os.ErrProcessDone
	}
	kb, err := strconv.ParseFloat(string(bytes.Fields(rest)[0]), 64)
	return kb * 1024 / 1e6, err
}

// streamEnv makes this program the child that streams a disk.
const streamEnv = "GOLDSMITH_BENCH_STREAM"

// streaming measures the memory of a process that imports and exports a large
// disk full of data.
func streaming(ctx context.Context, r *report, work string, size int64) error {
	if size == 0 {
		return nil
	}
	disk := filepath.Join(work, "large.raw")
	if err := fill(disk, size, size); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), streamEnv+"="+work)
	cmd.Stderr = os.Stderr
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	peak := watchPeak(cmd.Process.Pid)
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("stream a disk: %w", err)
	}
	note := fmt.Sprintf("to reach: below 150 MB; import and VHD export of %.1f GB of data", float64(size)/1e9)
	r.add("memory", "streaming a large disk", "MB", note, <-peak)
	r.add("memory", "streaming took", "s", "", time.Since(start).Seconds())
	return os.Remove(disk)
}

// streamChild imports the large disk in dir and writes it as a VHD.
func streamChild(dir string) {
	err := func() error {
		store, err := image.Open(filepath.Join(dir, "large-store"))
		if err != nil {
			return err
		}
		ctx := context.Background()
		d, _, _, err := store.ImportFile(ctx, filepath.Join(dir, "large.raw"), format.Limits{}, nil)
		if err != nil {
			return err
		}
		out := filepath.Join(dir, "large.vhd")
		if err := store.Export(ctx, d, out, format.VHD, nil); err != nil {
			return err
		}
		return os.Remove(out)
	}()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}
