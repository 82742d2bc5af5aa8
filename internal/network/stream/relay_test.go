package stream

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestIdleWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var expired atomic.Int64
		at := func(d time.Duration, do func()) *time.Timer { return time.AfterFunc(d, do) }
		w := WatchIdle(10*time.Second, func() { expired.Add(1) })
		at(9*time.Second, w.Touch)  // lives past 10 s
		at(19*time.Second, w.Touch) // and past 20 s
		<-time.After(29 * time.Second)
		if expired.Load() != 0 {
			t.Error("expired while busy")
		}
		<-time.After(2 * time.Second)
		if expired.Load() != 1 {
			t.Errorf("expired %d times when silent", expired.Load())
		}
		w.End()

		w = WatchIdle(time.Hour, func() { expired.Add(1) })
		w.shorten(time.Minute)
		w.shorten(2 * time.Minute) // longer: ignored
		<-time.After(61 * time.Second)
		if expired.Load() != 2 {
			t.Error("shortening has no effect")
		}
		w.End()

		w = WatchIdle(time.Second, func() { expired.Add(1) })
		w.End()
		<-time.After(time.Minute)
		if expired.Load() != 2 {
			t.Error("expired after its end")
		}
	})
}
