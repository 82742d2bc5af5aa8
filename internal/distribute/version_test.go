package distribute

import (
	"testing"
	"time"
)

func versions(t *testing.T, list ...string) []Version {
	t.Helper()
	var out []Version
	for _, s := range list {
		v, err := ParseVersion(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, v)
	}
	return out
}

func TestNextLatest(t *testing.T) {
	existing := versions(t, "0.1.1", "0.1.2", "1.0.0", "1.0.1", "1.1.0", "1.1.1", "1.2.0", "2.0.0", "2.0.1", "2.1.0")
	for _, c := range []struct {
		existing []Version
		major    int
		want     string
	}{
		{existing, AnyMajor, "2.1.1"},
		{existing, 2, "2.1.1"},
		{existing, 1, "1.2.1"},
		{existing, 0, "0.1.3"},
		{existing, 7, "7.0.1"},
		{nil, AnyMajor, "0.0.1"},
		{nil, 0, "0.0.1"},
		{versions(t, "1.9.2147483647"), AnyMajor, "1.10.0"},
		{versions(t, "1.2147483647.2147483647"), AnyMajor, "2.0.0"},
		{versions(t, "1.10.0", "1.9.0"), AnyMajor, "1.10.1"},
	} {
		if got := NextLatest(c.existing, c.major).String(); got != c.want {
			t.Errorf("NextLatest(%v, %d) = %s, want %s", c.existing, c.major, got, c.want)
		}
	}
}

func TestParseVersionRefuses(t *testing.T) {
	for _, s := range []string{"", "1", "1.2", "1.2.3.4", "1.2.x", "-1.0.0", "+1.0.0", "01.0.0", "1.0.2147483648", "latest", " 1.0.0"} {
		if v, err := ParseVersion(s); err == nil {
			t.Errorf("ParseVersion(%q) = %v, want an error", s, v)
		}
	}
}

func TestTimedVersion(t *testing.T) {
	at := time.Date(2024, 4, 14, 14, 39, 15, 0, time.UTC)
	if got := TimedVersion(at).String(); got != "0.24105.52755" {
		t.Errorf("TimedVersion = %s", got)
	}
}

func TestSameLocation(t *testing.T) {
	if !SameLocation("West US 2", "westus2") || SameLocation("westus", "westus2") {
		t.Error("region names must compare without case and blanks, and only so")
	}
}
