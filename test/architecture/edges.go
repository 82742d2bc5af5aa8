package architecture

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// edgesHead explains edges.txt to its reader.
const edgesHead = `# Which package imports which, tests aside: one line per package of the module.
# Any other import fails the test, and so does a line that no import needs.
# Review changes here as changes of the architecture, then write them with
#
#	go test ./test/architecture -update
#
# Imports up the list of rooms.go fail whatever stands here.

`

// writeEdges writes the edge table.
func writeEdges(w io.Writer, edges map[string][]string) error {
	if _, err := io.WriteString(w, edgesHead); err != nil {
		return err
	}
	for _, from := range slices.Sorted(maps.Keys(edges)) {
		line := strings.Join(append([]string{from + ":"}, edges[from]...), " ")
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	return nil
}

// readEdges reads an edge table.
func readEdges(r io.Reader) (map[string][]string, error) {
	edges := map[string][]string{}
	lines := bufio.NewScanner(r)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		from, targets, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("line %d is not \"package: imports\": %q", n, line)
		}
		if _, twice := edges[from]; twice {
			return nil, fmt.Errorf("line %d: %s has a line already", n, from)
		}
		edges[from] = strings.Fields(targets)
	}
	return edges, lines.Err()
}

// compareEdges lists what the table allows and the source does not need, and
// the reverse.
func compareEdges(table, source map[string][]string) []string {
	var faults []string
	for _, from := range slices.Sorted(maps.Keys(source)) {
		allowed, known := table[from]
		if !known {
			faults = append(faults, fmt.Sprintf("package %s has no line in edges.txt", from))
			continue
		}
		for _, to := range source[from] {
			if !slices.Contains(allowed, to) {
				faults = append(faults, fmt.Sprintf("%s imports %s, which edges.txt does not allow", from, to))
			}
		}
	}
	for _, from := range slices.Sorted(maps.Keys(table)) {
		used, known := source[from]
		if !known {
			faults = append(faults, fmt.Sprintf("edges.txt has a line for %s, which does not exist", from))
			continue
		}
		for _, to := range table[from] {
			if !slices.Contains(used, to) {
				faults = append(faults, fmt.Sprintf("edges.txt allows %s to import %s, which it does not", from, to))
			}
		}
	}
	return faults
}

// checkOrder lists packages outside of any room and imports that go up.
func checkOrder(edges map[string][]string) []string {
	var faults []string
	for _, from := range slices.Sorted(maps.Keys(edges)) {
		upper := roomOf(from)
		if upper < 0 {
			faults = append(faults, fmt.Sprintf("package %s is in no room: give it a place in rooms.go", from))
			continue
		}
		for _, to := range edges[from] {
			switch lower := roomOf(to); {
			case lower < 0: // reported for its own line
			case lower < upper:
				faults = append(faults, fmt.Sprintf("%s imports %s, which is above it in rooms.go", from, to))
			case isPure(from) && strings.HasPrefix(to, rooms[upper].path) && !isPure(to):
				faults = append(faults, fmt.Sprintf("%s is pure and imports %s, which is not", from, to))
			}
		}
	}
	return faults
}
