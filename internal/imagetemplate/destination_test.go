package imagetemplate

import (
	"strings"
	"testing"

	"goldsmith/internal/arm"
)

func TestCheckDestination(t *testing.T) {
	for _, tc := range []struct {
		dest           string
		linux, windows string // part of the error; "" for none
	}{
		{"/tmp/index.html", "", ""},
		{"/tmp/a/b c", "", ""},
		{"//tmp/./a", "", ""},
		{"/tmp/..hidden", "", ""},
		{"", "needs the path", "needs the path"},
		{"  ", "needs the path", "needs the path"},
		{"/tmp/a\x00", "NUL", "NUL"},
		{"index.html", "absolute", "absolute"},
		{"tmp/index.html", "absolute", "absolute"},
		{"/tmp", "only below /tmp", ""},
		{"/tmp/.", "only below /tmp", ""},
		{"/tmp/", "end with the name", "end with the name"},
		{"/etc/passwd", "only below /tmp", ""},
		{"/tmpx/a", "only below /tmp", ""},
		{"/tmp/../etc/passwd", `".."`, ""},
		{"/tmp/a/..", `".."`, ""},
		{`c:\build\index.html`, "start with /tmp/", ""},
		{"C:/build/index.html", "start with /tmp/", ""},
		{`\\server\share\x`, "start with /tmp/", ""},
		{`c:\build\`, "end with the name", "end with the name"},
		{`c:index.html`, "absolute", "absolute"},
	} {
		for _, windows := range []bool{false, true} {
			want := tc.linux
			if windows {
				want = tc.windows
			}
			err := CheckDestination(tc.dest, windows)
			switch {
			case (err == nil) != (want == ""):
				t.Errorf("CheckDestination(%q, %t) = %v, want %q", tc.dest, windows, err, want)
			case err != nil && (!strings.Contains(err.Error(), want) || !arm.IsCode(err, arm.CodeValidationFailed)):
				t.Errorf("CheckDestination(%q, %t) = %v (%s), want %q", tc.dest, windows, err, arm.CodeOf(err), want)
			}
		}
	}
}
