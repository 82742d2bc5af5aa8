// Command bench measures what a build costs here, phase by phase, how fast images
// are written beside qemu-img, how fast a build's network is beside others, and how
// much memory that takes. It prints a table and writes the same figures as JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
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
	fmt.Fprintf(os.Stderr, "%s: %s: %.4g %s\n", section, name, sorted[len(sorted)/2], unit) // for who waits
}

// join adds values to a figure that may be there already.
func (r *report) join(section, name, unit, note string, values ...float64) {
	for i := range r.Figures {
		if f := &r.Figures[i]; f.Section == section && f.Name == name {
			f.Values = append(f.Values, values...)
			sorted := slices.Sorted(slices.Values(f.Values))
			f.Median = sorted[len(sorted)/2]
			fmt.Fprintf(os.Stderr, "%s: %s: %.4g %s\n", section, name, values, unit)
			return
		}
	}
	r.add(section, name, unit, note, values...)
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
	if mtu := os.Getenv(switchEnv); mtu != "" {
		switchChild(mtu)
		return
	}
	letters := flag.String("scenarios", "CNLMVFPXRB", "scenarios to run, by letter; none leaves them out")
	rivals := flag.String("rivals", "", "rivals beside, of packer,packer-tuned,packer-staged,virt-customize")
	data := flag.String("data", "", "data directory for the scenarios, which keeps its booted base; a new one by default")
	parts := flag.String("parts", "builds,exports,captures,service,streaming,frontdoor,load,network", "what to measure beside the scenarios")
	runs := flag.Int("n", 3, "warm builds, and rounds of exports")
	size := flag.Int64("stream", 10<<30, "bytes of the disk that is streamed to measure memory; 0 leaves it out")
	out := flag.String("o", "bench/results.json", "file for the figures")
	binary := flag.String("goldsmith", "bin/goldsmith", "the program")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := measure(ctx, options{*binary, *out, *letters, *rivals, *parts, *data, *runs, *size}); err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// options are the program's flags.
type options struct {
	binary, out, letters, rivals, parts, data string
	runs                                      int
	stream                                    int64
}

func measure(ctx context.Context, o options) (err error) {
	work, err := os.MkdirTemp("", "goldsmith-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	r := &report{Host: host(ctx)}
	for _, part := range []struct {
		name string
		do   func() error
	}{
		{"builds", func() error { return builds(ctx, r, o.binary, work, o.runs) }},
		{"exports", func() error { return exports(ctx, r, work, max(o.runs, 5)) }},
		{"captures", func() error { return captures(ctx, r, work, max(o.runs, 5)) }},
		{"service", func() error { return service(ctx, r, o.binary, work, o.runs) }},
		{"streaming", func() error { return streaming(ctx, r, work, o.stream) }},
		{"load", func() error { return loaded(ctx, r, o.binary, work) }},
		{"frontdoor", func() error { return frontDoor(ctx, r) }},
		{"network", func() error { return networks(ctx, r, work, o.runs) }},
		{"", func() error { return scenarios(ctx, r, o, filepath.Join(work, "scenarios")) }},
	} {
		if part.name != "" && !strings.Contains(o.parts, part.name) {
			continue
		}
		if err = part.do(); err != nil {
			break // what was measured until then took long
		}
	}
	return errors.Join(err, r.write(o.out))
}

// write prints the figures as a table and writes them to a file.
func (r *report) write(out string) error {
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
