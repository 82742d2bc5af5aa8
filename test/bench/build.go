package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"goldsmith/internal/event"
)

// template is what is built: three short steps, so that what is measured is the
// builder's own time.
const template = `{
  "apiVersion": "2022-07-01", "location": "westus2", "name": "bench",
  "identity": {"type": "UserAssigned", "userAssignedIdentities": {
    "/subscriptions/<subscriptionID>/resourceGroups/bench/providers/Microsoft.ManagedIdentity/userAssignedIdentities/b": {}}},
  "properties": {
    "source": {"type": "PlatformImage", "publisher": "Debian", "offer": "debian-12", "sku": "12-gen2", "version": "latest"},
    "customize": [
      {"type": "Shell", "name": "echo", "inline": ["echo one | sudo tee /etc/one"]},
      {"type": "Shell", "name": "write 50 MB", "inline": ["sudo dd if=/dev/urandom of=/var/lib/fifty bs=1M count=50 status=none"]},
      {"type": "Shell", "name": "list packages", "inline": ["dpkg -l >/tmp/packages"]}
    ],
    "distribute": [{"type": "ManagedImage", "runOutputName": "image", "location": "westus2",
      "imageId": "/subscriptions/<subscriptionID>/resourceGroups/bench/providers/Microsoft.Compute/images/bench"}]
  }
}`

// built is what one build reported.
type built struct {
	phases    map[event.Phase]float64
	steps     map[string]float64
	files     map[string]float64 // seconds per written file's extension
	first     float64            // from the command's start to the first step's
	firstAt   time.Time          // when the first step began
	total     float64
	published float64 // until the last reference
	cached    int     // steps that did not run
	booted    bool    // it booted the base, for later builds
	peak      float64 // MB of the program itself
}

// builds measures the first build of a base in a new data directory and warm
// ones after it.
func builds(ctx context.Context, r *report, binary, work string, runs int) error {
	file := filepath.Join(work, "bench.json")
	if err := os.WriteFile(file, []byte(template), 0o600); err != nil {
		return err
	}
	data := filepath.Join(work, "data")
	pull := exec.CommandContext(ctx, binary, "--data", data, "catalog", "pull", "Debian:debian-12:12-gen2:latest")
	if text, err := pull.CombinedOutput(); err != nil {
		return fmt.Errorf("pull the base: %w\n%s", err, text)
	}
	cold, err := build(ctx, binary, data, file)
	if err != nil {
		return err
	}
	const section = "first build of a base"
	r.add(section, "boot and save", "s", "once per base, machine shape and QEMU", cold.phases[event.PhaseStart])
	r.add(section, "in all", "s", "base image from the cache", cold.total)

	var warm []built
	for range runs {
		b, err := build(ctx, binary, data, file, "--no-cache")
		if err != nil {
			return err
		}
		warm = append(warm, b)
	}
	each := func(name, note string, value func(built) float64) {
		var values []float64
		for _, b := range warm {
			values = append(values, value(b))
		}
		r.add("warm build", name, "s", note, values...)
	}
	each("command to first step", "to reach: at most 3 s", func(b built) float64 { return b.first })
	each("restore until reachable", "", func(b built) float64 { return b.phases[event.PhaseStart] })
	for _, name := range []string{"echo", "write 50 MB", "list packages"} {
		each("step "+name, "the guest's own work included", func(b built) float64 { return b.steps[name] })
	}
	each("generalize", "deprovision, clean, trim, power off", func(b built) float64 { return b.phases[event.PhaseGeneralize] })
	each("capture", "", func(b built) float64 { return b.phases[event.PhaseCapture] })
	each("distribute", "", func(b built) float64 { return b.phases[event.PhaseDistribute] })
	each("in all", "", func(b built) float64 { return b.total })

	var outputs []string
	extensions := []string{".raw", ".vhd", ".qcow2", ".vhdx", ".vmdk"}
	for _, ext := range extensions {
		outputs = append(outputs, filepath.Join(work, "out"+ext))
	}
	flags := []string{"--no-cache"}
	for _, o := range outputs {
		flags = append(flags, "--output", o)
	}
	with, err := build(ctx, binary, data, file, flags...)
	if err != nil {
		return err
	}
	for _, ext := range extensions {
		r.add("export of a build", ext, "s", "", with.files[ext])
	}
	var peaks []float64
	for _, b := range append(warm, with) {
		peaks = append(peaks, b.peak)
	}
	r.add("memory", "goldsmith during a build", "MB", "to reach: below 150 MB", peaks...)
	for _, f := range outputs {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return nil
}

// build runs one build and reads its events.
func build(ctx context.Context, binary, data, file string, flags ...string) (built, error) {
	args := append([]string{"--data", data, "build", file, "--json"}, flags...)
	b := built{phases: map[event.Phase]float64{}, steps: map[string]float64{}, files: map[string]float64{}}
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return b, err
	}
	start := time.Now()
	if err := cmd.Start(); err != nil {
		return b, err
	}
	peak := watchPeak(cmd.Process.Pid)
	var lastFile time.Time
	var failure string
	in := bufio.NewScanner(stdout)
	in.Buffer(nil, 4<<20)
	for in.Scan() {
		var e event.Event
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			return b, fmt.Errorf("read %q: %w", in.Text(), err)
		}
		switch e.Kind {
		case event.PhaseStarted:
			if e.Phase == event.PhaseExport {
				lastFile = e.Time
			}
		case event.PhaseFinished:
			b.phases[e.Phase] = e.Elapsed.Seconds()
		case event.StepStarted:
			if e.Step == 1 {
				b.first, b.firstAt = e.Time.Sub(start).Seconds(), e.Time
			}
		case event.StepCached:
			b.cached++
		case event.Decision:
			b.booted = b.booted || strings.HasPrefix(e.Text, "booting ")
		case event.StepFinished:
			b.steps[e.StepName] = e.Elapsed.Seconds()
		case event.Result:
			b.published = e.Time.Sub(start).Seconds()
			if ext := filepath.Ext(e.Target); strings.HasPrefix(e.Target, "/") && e.Text == "file" {
				b.files[ext] = e.Time.Sub(lastFile).Seconds()
				lastFile = e.Time
			}
		case event.RunFinished:
			b.total = e.Time.Sub(start).Seconds()
			if e.Err != nil {
				failure = e.Err.Message
			}
		}
	}
	if err := in.Err(); err != nil {
		return b, err
	}
	err = cmd.Wait()
	b.peak = <-peak
	if err != nil {
		return b, fmt.Errorf("build: %w: %s", err, failure)
	}
	return b, nil
}

// work is the time that the guest itself worked: its steps, and what prepares the
// image and powers off.
func (b built) work() float64 {
	sum := b.phases[event.PhaseGeneralize]
	for _, s := range b.steps {
		sum += s
	}
	return sum
}
