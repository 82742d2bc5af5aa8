package cli

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// WatchInterrupts calls onInterrupt with 1, 2, ... at every SIGINT, SIGTERM and
// SIGHUP that this process receives, instead of their default effect, until
// stop. Calls do not overlap, and none is made after stop has returned; stop
// must not be called from onInterrupt.
func WatchInterrupts(onInterrupt func(n int)) (stop func()) {
	// Room for several, so that a second Ctrl-C is not lost behind a slow first.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	quit := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 1; ; n++ {
			select {
			case <-quit:
				return
			case <-signals:
				onInterrupt(n)
			}
		}
	}()
	return sync.OnceFunc(func() {
		signal.Stop(signals)
		close(quit)
		<-done
	})
}

// interrupts delivers the interrupts that OnInterrupt is to be called for until
// stop; without a callback there are none.
func (o ProgressOptions) interrupts() (interrupts <-chan int, stop func()) {
	if o.OnInterrupt == nil {
		return nil, func() {}
	}
	c := make(chan int, 8)
	return c, WatchInterrupts(func(n int) {
		select {
		case c <- n:
		default: // nobody presses that fast, and this must not block
		}
	})
}

// interruptNotice says what the nth interrupt does.
func interruptNotice(n int) string {
	if n == 1 {
		return "canceling: undoing what the build made; interrupt again to end at once"
	}
	return "ending at once: the next command cleans up"
}
