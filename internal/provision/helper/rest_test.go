package helper

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseTimes(t *testing.T) {
	for _, c := range []struct {
		table     string
		busy, all int64
	}{
		{"cpu  10 2 30 400 5 6 7 8 90 1\ncpu0 1 1 1 1 1 1 1 1 1 1\n", 68, 468},
		{"cpu  1 2 3 4", 6, 10},
		{"cpu  x -", 0, 0},
		{"", 0, 0},
	} {
		if got := parseTimes(c.table); got != (times{c.busy, c.all}) {
			t.Errorf("%q: %+v", c.table, got)
		}
	}
}

func TestParseUnit(t *testing.T) {
	for table, want := range map[string]string{
		"0::/system.slice/systemd-udevd.service/udev\n":                                    "systemd-udevd.service",
		"12:cpu:/x.service\n1:name=systemd:/system.slice/systemd-journald.service\n0::/\n": "systemd-journald.service",
		"0::/user.slice/user-1000.slice/session-2.scope\n":                                 "",
		"0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.service\n":           "user@1000.service",
		"0::/system.slice/a.service/systemd-udevd.service\n":                               "a.service",
		"garbage": "", "": "",
	} {
		if diff := cmp.Diff(want, parseUnit(table)); diff != "" {
			t.Errorf("%q: %s", table, diff)
		}
	}
}
