// Package suggest finds what somebody may have meant by a name that does not
// exist. It is pure.
package suggest

import (
	"sort"
	"strings"
)

// Nearest returns up to n of candidates that are close to name, nearest first,
// ignoring case. A candidate is close when at most a third of the longer one's
// characters differ, or when one holds the other.
func Nearest(name string, candidates []string, n int) []string {
	type ranked struct {
		candidate string
		distance  int
	}
	var close []ranked
	want := strings.ToLower(name)
	for _, c := range candidates {
		have := strings.ToLower(c)
		d := distance(want, have)
		longer := max(len(want), len(have))
		held := len(want) >= 3 && strings.Contains(have, want)
		if held || 3*d <= longer {
			close = append(close, ranked{c, d})
		}
	}
	sort.SliceStable(close, func(i, j int) bool { return close[i].distance < close[j].distance })
	var out []string
	for _, r := range close[:min(n, len(close))] {
		out = append(out, r.candidate)
	}
	return out
}

// maxCompared bounds the work on hostile names.
const maxCompared = 256

// distance counts the insertions, deletions and substitutions of bytes that
// make b of a (Levenshtein).
func distance(a, b string) int {
	a, b = a[:min(len(a), maxCompared)], b[:min(len(b), maxCompared)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
