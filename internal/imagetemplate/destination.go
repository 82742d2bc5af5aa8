package imagetemplate

import (
	"regexp"
	"slices"
	"strings"

	"goldsmith/internal/arm"
)

// windowsRoot matches the front of a path that Windows takes as absolute.
var windowsRoot = regexp.MustCompile(`^([A-Za-z]:[\\/]|[\\/])`)

// plainDestination says what is wrong with the destination of a File step on
// any operating system, "" for nothing.
func plainDestination(dest string) string {
	switch {
	case strings.TrimSpace(dest) == "":
		return "a File step needs the path of a file to write"
	case strings.ContainsRune(dest, 0):
		return "a path must not hold a NUL character"
	case !windowsRoot.MatchString(dest):
		return "the path must be absolute, with the name of the file"
	case strings.HasSuffix(dest, "/") || strings.HasSuffix(dest, `\`):
		return "the path must end with the name of the file"
	}
	return ""
}

// CheckDestination checks where a File step writes. On Linux that is a file
// below /tmp, without ".." in its path, because the step runs as a user without
// rights elsewhere; on Windows any absolute path. The error is an *arm.Error
// with CodeValidationFailed.
func CheckDestination(dest string, windows bool) error {
	why := plainDestination(dest)
	if why == "" && !windows {
		segments := strings.Split(dest, "/")
		switch {
		case dest[0] != '/':
			why = "on Linux the path must start with /tmp/"
		case slices.Contains(segments, ".."):
			why = `the path must not go through ".."`
		case !belowTmp(segments):
			why = "on Linux a File step may write only below /tmp: write there and copy it with a Shell step"
		}
	}
	if why == "" {
		return nil
	}
	return arm.Errorf(arm.CodeValidationFailed, "the destination %q is not usable: %s", dest, why)
}

// belowTmp reports whether the segments of an absolute path without ".." name
// something below /tmp.
func belowTmp(segments []string) bool {
	plain := slices.DeleteFunc(slices.Clone(segments), func(s string) bool { return s == "" || s == "." })
	return len(plain) >= 2 && plain[0] == "tmp"
}
