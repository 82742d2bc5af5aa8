package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// frontDoorGoals are what reads are to reach, by what is measured and its unit.
var frontDoorGoals = map[string]string{
	"get req/s": "authorised, TLS, 50,000 resources; to reach: 2,000", "get p99-ms": "to reach: 50",
	"get cpu-us/req": "of clients and service together", "page req/s": "50 of 1,000 in one of 50 groups", "page-alone req/s": "the same without other groups",
}

// frontDoor runs the benchmark of reads through the front door, which is a Go
// benchmark, and takes its figures over.
func frontDoor(ctx context.Context, r *report) error {
	cmd := exec.CommandContext(ctx, "go", "test", "./internal/armapi/providers", "-run", "^$", "-bench", "^BenchmarkFrontDoor$", "-benchtime", "10000x")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("measure the front door: %w: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		name, figures, ok := strings.Cut(strings.TrimPrefix(line, "BenchmarkFrontDoor/"), "\t")
		if !ok || !strings.HasPrefix(line, "BenchmarkFrontDoor/") {
			continue
		}
		name = strings.TrimSpace(name[:strings.LastIndexByte(name, '-')]) // without the number of CPUs
		for figure := range strings.SplitSeq(figures, "\t") {
			value, unit, ok := strings.Cut(strings.TrimSpace(figure), " ")
			if !ok || unit == "ns/op" || unit == "cpus" {
				continue
			}
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return fmt.Errorf("read %q of the front door's benchmark: %w", figure, err)
			}
			r.add("front door", name, unit, frontDoorGoals[name+" "+unit], v)
		}
	}
	return nil
}
