package distribute

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"goldsmith/internal/arm"
)

// Version is a gallery image version, "major.minor.patch" of 32-bit integers.
type Version struct{ Major, Minor, Patch int32 }

// String is "major.minor.patch".
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Patch) }

// Compare orders versions by number.
func (v Version) Compare(o Version) int {
	return cmp.Or(cmp.Compare(v.Major, o.Major), cmp.Compare(v.Minor, o.Minor), cmp.Compare(v.Patch, o.Patch))
}

// ParseVersion parses "major.minor.patch".
func ParseVersion(s string) (Version, error) {
	var n [3]int32
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return Version{}, arm.Errorf(arm.CodeValidationFailed, "%q is not a gallery version: it must be MAJOR.MINOR.PATCH", s)
	}
	for i, part := range parts {
		v, err := strconv.ParseInt(part, 10, 32)
		if err != nil || v < 0 || (len(part) > 1 && part[0] == '0') || part[0] == '+' {
			return Version{}, arm.Errorf(arm.CodeValidationFailed, "%q is not a gallery version: %q is not a number from 0 to 2147483647", s, part)
		}
		n[i] = int32(v)
	}
	return Version{n[0], n[1], n[2]}, nil
}

// AnyMajor makes NextLatest consider versions of every major.
const AnyMajor = -1

// NextLatest is versioning scheme Latest: the patch after the highest existing
// version, of the given major or of any. Without one it is major.0.1 (0.0.1).
func NextLatest(existing []Version, major int) Version {
	found := false
	var top Version
	for _, v := range existing {
		if major != AnyMajor && int(v.Major) != major {
			continue
		}
		if !found || v.Compare(top) > 0 {
			top, found = v, true
		}
	}
	if !found {
		return Version{Major: int32(max(major, 0)), Patch: 1}
	}
	switch {
	case top.Patch < math.MaxInt32:
		top.Patch++
	case top.Minor < math.MaxInt32:
		top.Minor, top.Patch = top.Minor+1, 0
	default:
		top.Major, top.Minor, top.Patch = top.Major+1, 0, 0
	}
	return top
}

// TimedVersion is the scheme without versioning: 0.YYDDD.SSSSS, from year, day
// of the year and second of the day (UTC), as the real service numbers.
func TimedVersion(now time.Time) Version {
	now = now.UTC()
	return Version{
		Minor: int32(now.Year()%100*1000 + now.YearDay()),
		Patch: int32(now.Hour()*3600 + now.Minute()*60 + now.Second()),
	}
}

var dotted = regexp.MustCompile(`^(\d+)\.(\d+)\.(\d+)$`)

// SourceVersion is versioning scheme Source: the number of the version that the
// build started from.
func SourceVersion(source string) (Version, error) {
	if !dotted.MatchString(source) {
		return Version{}, arm.Errorf(arm.CodeValidationFailed, "versioning scheme Source needs a source with a version x.y.z, and this one has %q", source)
	}
	return ParseVersion(source)
}
