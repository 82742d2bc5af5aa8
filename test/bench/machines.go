package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// sample is the memory that the machines of a data directory took of their own at
// a time, in MB.
type sample struct {
	at       time.Time
	machines int
	sum      float64
}

// watchMachines samples until the returned function is called, which has the
// samples.
func watchMachines(data string) func() []sample {
	stop, samples := make(chan struct{}), make(chan []sample, 1)
	go func() {
		tick := time.NewTicker(500 * time.Millisecond)
		defer tick.Stop()
		var all []sample
		for {
			select {
			case <-stop:
				samples <- all
				return
			case <-tick.C:
			}
			s := sample{at: time.Now()}
			for _, pid := range machinesOf(data) {
				if mb, ok := proportional(pid); ok {
					s.sum, s.machines = s.sum+mb, s.machines+1
				}
			}
			all = append(all, s)
		}
	}()
	return func() []sample { close(stop); return <-samples }
}

// peak is the most that so many machines took together before a time.
func peak(samples []sample, machines int, before time.Time) (mb float64) {
	for _, s := range samples {
		if s.machines == machines && s.at.Before(before) {
			mb = max(mb, s.sum)
		}
	}
	return mb
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
