package cli

import (
	"fmt"
	"time"

	"goldsmith/internal/event"
)

// rateWindow is how far back the rate of a transfer looks.
const rateWindow = 10 * time.Second

// transfer is bytes on the move: a download, a capture or an export.
type transfer struct {
	name        string
	done, total int64 // bytes; total 0: unknown
	samples     []transferSample
}

// transferSample is how much had moved at a time.
type transferSample struct {
	at   time.Time
	done int64
}

// sample takes a Progress event of t. What had moved before the first one, as
// in a resumed download, does not count for the rate.
func (t *transfer) sample(e event.Event) {
	if e.Done < t.done { // started again from the beginning
		t.samples = nil
	}
	t.done, t.total = max(0, e.Done), max(0, e.Total)
	t.samples = append(t.samples, transferSample{at: e.Time, done: t.done})
	// Keep one sample at or before the window's start, to measure all of it.
	for len(t.samples) > 2 && !t.samples[1].at.After(e.Time.Add(-rateWindow)) {
		t.samples = t.samples[1:]
	}
	// Frequent events would fill the window: thin its middle out.
	if len(t.samples) > 256 {
		kept := t.samples[:1]
		for i := 2; i < len(t.samples); i += 2 {
			kept = append(kept, t.samples[i])
		}
		t.samples = kept
	}
}

// complete reports whether everything has moved.
func (t *transfer) complete() bool { return t.total > 0 && t.done >= t.total }

// percent is how much has moved, 0 to 100; 0 when the total is unknown.
func (t *transfer) percent() int {
	if t.total <= 0 {
		return 0
	}
	return int(min(100, float64(t.done)/float64(t.total)*100))
}

// rate is bytes per second over the last rateWindow, 0 while unknown.
func (t *transfer) rate() float64 {
	if len(t.samples) < 2 {
		return 0
	}
	first, last := t.samples[0], t.samples[len(t.samples)-1]
	seconds := last.at.Sub(first.at).Seconds()
	if seconds <= 0 || last.done < first.done {
		return 0
	}
	return float64(last.done-first.done) / seconds
}

// figures is the transfer in numbers: "45% of 300 MiB, 12 MiB/s, 14s left".
func (t *transfer) figures() string {
	s := Bytes(t.done)
	if t.total > 0 {
		s = fmt.Sprintf("%d%% of %s", t.percent(), Bytes(t.total))
	}
	rate := t.rate()
	if rate < 1 {
		return s
	}
	s += ", " + Bytes(int64(rate)) + "/s"
	if left := float64(t.total-t.done) / rate; t.total > t.done && left < (100*time.Hour).Seconds() {
		s += ", " + remaining(time.Duration(left*float64(time.Second))) + " left"
	}
	return s
}

// remaining is an estimate for people: in whole seconds, because it is one.
func remaining(d time.Duration) string {
	if d < time.Minute {
		return fmt.Sprintf("%ds", int64(d.Round(time.Second)/time.Second))
	}
	return Elapsed(d)
}
