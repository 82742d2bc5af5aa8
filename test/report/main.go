// Command report reads `go test -json` from standard input, prints what failed
// with its output and a line per package, and ends with "N passed, N failed".
// It exits 1 when anything failed, or when nothing ran.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"sort"
	"strings"
	"time"
)

// testEvent is one line of test2json's output.
type testEvent struct {
	Action     string
	Package    string
	Test       string
	Elapsed    float64
	Output     string
	ImportPath string
}

func main() {
	var passed, failed, skipped int
	output := map[string][]string{}
	faulty := map[string]bool{} // packages with a failed test
	var reasons []string        // of the failures, for the end of the report
	slow := map[string]float64{}
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(make([]byte, 1<<20), 64<<20)
	start := time.Now()
	for in.Scan() {
		var e testEvent
		if err := json.Unmarshal(in.Bytes(), &e); err != nil {
			fmt.Println(in.Text()) // the go tool's own words
			continue
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output":
			output[key] = append(output[key], e.Output)
		case "build-output":
			fmt.Print(e.Output)
		case "build-fail":
			failed++
			fmt.Printf("FAIL %s (build)\n", e.ImportPath)
		case "pass", "skip", "fail":
			if e.Test == "" {
				fmt.Printf("%-4s %-50s %7.1fs\n", map[string]string{"pass": "ok", "skip": "-", "fail": "FAIL"}[e.Action], e.Package, e.Elapsed)
				if e.Action == "fail" {
					fmt.Print(strings.Join(output[key], ""))
					if !faulty[e.Package] {
						// A leak, a panic or the time limit ended the package: no test failed.
						failed++
						unfinished(output, e.Package)
					}
				}
				continue
			}
			switch e.Action {
			case "pass":
				passed++
			case "skip":
				skipped++
			case "fail":
				failed++
				faulty[e.Package] = true
				reasons = append(reasons, "FAIL "+key)
				reasons = append(reasons, excerpt(output[key])...)
				fmt.Printf("--- FAIL %s\n%s", key, strings.Join(output[key], ""))
			}
			slow[key] = e.Elapsed
			delete(output, key)
		}
	}
	if err := in.Err(); err != nil {
		fmt.Fprintf(os.Stderr, "report: %v\n", err)
		os.Exit(1)
	}
	slowest := make([]string, 0, len(slow))
	for key := range slow {
		slowest = append(slowest, key)
	}
	sort.Slice(slowest, func(i, j int) bool { return slow[slowest[i]] > slow[slowest[j]] })
	for _, key := range slowest[:min(10, len(slowest))] {
		if slow[key] >= 5 {
			fmt.Printf("slow %-70s %7.1fs\n", key, slow[key])
		}
	}
	for _, line := range reasons {
		fmt.Println(line)
	}
	fmt.Printf("tests took %s\n", time.Since(start).Round(time.Second))
	if skipped > 0 {
		fmt.Printf("%d skipped: a skipped test proves nothing\n", skipped)
	}
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 || skipped > 0 || passed == 0 {
		os.Exit(1)
	}
}

// unfinished prints what the tests of pkg said that had not ended.
func unfinished(output map[string][]string, pkg string) {
	for _, key := range slices.Sorted(maps.Keys(output)) {
		if strings.HasPrefix(key, pkg+" ") && key != pkg+" " {
			fmt.Printf("--- UNFINISHED %s\n%s", key, strings.Join(output[key], ""))
		}
	}
}

// excerpt is what a failed test said itself: the first line of each of its
// messages.
func excerpt(output []string) (lines []string) {
	const most, width = 10, 300
	for _, text := range output {
		if line := strings.TrimRight(text, "\n"); strings.Contains(line, "_test.go:") || strings.HasPrefix(line, "panic:") {
			lines = append(lines, line[:min(len(line), width)])
		}
		if len(lines) == most {
			break
		}
	}
	return lines
}
