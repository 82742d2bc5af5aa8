package build

import (
	"testing"
	"time"
)

func TestStretch(t *testing.T) {
	for load, want := range map[string]time.Duration{
		"0.20": time.Minute, "2.00": time.Minute, "6.00": 3 * time.Minute, "99.5": 5 * time.Minute, "": time.Minute, "x": time.Minute,
	} {
		if got := stretch(time.Minute, load, 2); got != want {
			t.Errorf("load %q: %s, want %s", load, got, want)
		}
	}
}
