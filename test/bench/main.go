// Command bench measures what a build costs here, phase by phase, how fast images
// are written beside qemu-img, and how much memory that takes. It prints a table
// and writes the same figures as JSON.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"goldsmith/internal/machine/guardian"
)

// figure is one measured row.
type figure struct {
	Section string    `json:"section"`
	Name    string    `json:"name"`
	Unit    string    `json:"unit"`
	Values  []float64 `json:"values"`
	Median  float64   `json:"median"`
	Note    string    `json:"note,omitempty"` // what is to be reached, or how it was measured
}

// report collects figures.
type report struct {
	Host    string   `json:"host"`
	Figures []figure `json:"figures"`
}

func (r *report) add(section, name, unit, note string, values ...float64) {
	if len(values) == 0 {
		return
	}
	sorted := slices.Sorted(slices.Values(values))
	r.Figures = append(r.Figures, figure{section, name, unit, values, sorted[len(sorted)/2], note})
}

// table is the report as a Markdown table.
func (r *report) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n\n| what | median | min | max | note |\n|---|---|---|---|---|\n", r.Host)
	for _, f := range r.Figures {
		fmt.Fprintf(&b, "| %s: %s | %.3g %s | %.3g | %.3g | %s |\n", f.Section, f.Name, f.Median, f.Unit, slices.Min(f.Values), slices.Max(f.Values), f.Note)
	}
	return b.String()
}

func main() {
	guardian.Main()
	if size := os.Getenv(streamEnv); size != "" {
		streamChild(size)
		return
	}
	runs := flag.Int("n", 3, "warm builds, and rounds of exports")
	size := flag.Int64("stream", 10<<30, "bytes of the disk that is streamed to measure memory; 0 leaves it out")
	out := flag.String("o", "bench/results.json", "file for the figures")
	binary := flag.String("goldsmith", "bin/goldsmith", "the program")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := measure(ctx, *binary, *out, *runs, *size); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, binary, out string, runs int, stream int64) (err error) {
	work, err := os.MkdirTemp("", "goldsmith-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	r := &report{Host: host(ctx)}
	for _, part := range []func() error{
		func() error { return builds(ctx, r, binary, work, runs) },
		func() error { return exports(ctx, r, work, max(runs, 5)) },
		func() error { return streaming(ctx, r, work, stream) },
	} {
		if err := part(); err != nil {
			return err
		}
	}
	fmt.Print(r.table())
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return err
	}
	return os.WriteFile(out, append(text, '\n'), 0o644)
}

// host says where the figures come from.
func host(ctx context.Context) string {
	qemu := "no QEMU"
	if v, err := exec.CommandContext(ctx, "qemu-system-x86_64", "--version").Output(); err == nil {
		qemu, _, _ = strings.Cut(string(v), "\n")
	}
	return fmt.Sprintf("%d CPUs, %s, %s, %s", runtime.NumCPU(), runtime.Version(), qemu, time.Now().UTC().Format(time.DateOnly))
}
