package cli

import (
	"fmt"
	"time"

	"github.com/dustin/go-humanize"
)

// Bytes is n bytes for people, in binary units: "1.2 GiB".
func Bytes(n int64) string {
	if n < 0 {
		return "-" + humanize.IBytes(uint64(-(n+1))+1)
	}
	return humanize.IBytes(uint64(n))
}

// Age is how long before now t was, for people: "3 hours ago"; "-" for the zero
// time.
func Age(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return humanize.RelTime(t, now, "ago", "from now")
}

// Elapsed is a duration for people: "0.4s", "12s", "3m05s", "2h00m".
func Elapsed(d time.Duration) string {
	switch {
	case d < 0:
		return "0.0s"
	case d < 9950*time.Millisecond:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	}
	return fmt.Sprintf("%dh%02dm", s/3600, s%3600/60)
}
