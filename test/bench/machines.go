package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// watchMachines samples the memory that the machines of a data directory take of
// their own, until stop is closed, and returns the largest mean of those that ran
// at once, in MB.
func watchMachines(stop <-chan struct{}, data string) float64 {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	largest := 0.0
	for {
		select {
		case <-stop:
			return largest
		case <-tick.C:
		}
		sum, n := 0.0, 0
		for _, pid := range machinesOf(data) {
			if mb, ok := proportional(pid); ok {
				sum, n = sum+mb, n+1
			}
		}
		if n > 0 {
			largest = max(largest, sum/float64(n))
		}
	}
}

// machinesOf are the QEMU processes whose disks are in a data directory.
func machinesOf(data string) (pids []string) {
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil
	}
	for _, line := range lines {
		text, err := os.ReadFile(line)
		if err != nil || !bytes.Contains(text, []byte("qemu-system")) || !bytes.Contains(text, []byte(data)) {
			continue
		}
		pids = append(pids, filepath.Base(filepath.Dir(line)))
	}
	return pids
}

// proportional is a process's share of the memory that it maps, in MB (proc(5),
// smaps_rollup).
func proportional(pid string) (float64, bool) {
	text, err := os.ReadFile("/proc/" + pid + "/smaps_rollup")
	if err != nil {
		return 0, false
	}
	_, rest, ok := bytes.Cut(text, []byte("Pss:"))
	if !ok {
		return 0, false
	}
	kb, err := strconv.ParseFloat(string(bytes.Fields(rest)[0]), 64)
	return kb * 1024 / 1e6, err == nil
}
