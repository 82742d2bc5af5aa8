package helper

import (
	"context"
	"os"
	"strconv"
	"strings"
	"time"
)

const (
	// restTime is how long a guest that never comes to rest is waited for.
	restTime = 30 * time.Second
	// restLook is how long one look at the processors takes, and restLooks how many
	// in a row must find them idle.
	restLook  = 500 * time.Millisecond
	restLooks = 3
	// restBusy is the share of the processors' time, in percent, up to which the guest
	// is idle. The looks themselves take some.
	restBusy = 10
)

// Rest waits until the processors have had nothing to do for a while. A guest that
// does not come to rest is as it is, which is no error.
func (l *Linux) Rest(ctx context.Context) error {
	ctx, stop := context.WithTimeout(ctx, restTime)
	defer stop()
	before, err := l.times()
	if err != nil {
		return err
	}
	look := time.NewTicker(restLook)
	defer look.Stop()
	for quiet := 0; quiet < restLooks; {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
		}
		now, err := l.times()
		if err != nil {
			return err
		}
		quiet++
		if busy, all := now.busy-before.busy, now.all-before.all; all <= 0 || busy*100 > all*restBusy {
			quiet = 0
		}
		before = now
	}
	return nil
}

// times are what the processors did since the boot, in ticks.
type times struct{ busy, all int64 }

func (l *Linux) times() (times, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return times{}, err
	}
	return parseTimes(string(text)), nil
}

// parseTimes reads the first line of a table as proc(5) describes /proc/stat: the
// fourth number is idle time, the fifth waiting for disks, which is no rest, and what
// follows the eighth is counted before already.
func parseTimes(table string) times {
	line, _, _ := strings.Cut(table, "\n")
	fields := strings.Fields(line)
	var t times
	for i, field := range fields {
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil || i > 8 {
			continue // the first is the line's name
		}
		t.all += n
		if i != 4 {
			t.busy += n
		}
	}
	return t
}
