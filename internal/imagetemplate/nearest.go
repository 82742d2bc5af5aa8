package imagetemplate

import "strings"

// nearest is the candidate that is written most like name, "" when none is
// close enough to be what was meant.
func nearest(name string, candidates []string) string {
	best, bestDistance := "", 1+max(len(name), 3)/3
	for _, c := range candidates {
		if d := distance(strings.ToLower(name), strings.ToLower(c), bestDistance); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// perhaps is a clause that suggests the nearest candidate, or "".
func perhaps(name string, candidates []string) string {
	if c := nearest(name, candidates); c != "" {
		return "; perhaps '" + c + "' is meant"
	}
	return ""
}

// distance is the number of inserted, deleted, replaced or swapped bytes
// between a and b; limit when it is at least that.
func distance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	var before, previous []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, previous, row = previous, row, make([]int, len(b)+1)
		row[0] = i
		smallest := i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(previous[j]+1, row[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
			smallest = min(smallest, row[j])
		}
		if smallest >= limit {
			return limit
		}
	}
	return min(row[len(b)], limit)
}
